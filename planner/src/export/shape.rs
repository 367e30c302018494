//! The shape that every engine demands of a placement, checked where the file can still be named:
//! one row per MoE layer, the same number of slots in each, slots that divide by ranks, and every
//! expert in every row.

use moecast_profiles::ids::ExpertId;
use moecast_sim::Placement;

use super::cursor::Row;
use crate::error::{Error, Result};

/// Checks `rows`, one per MoE layer in order, and makes a placement of them.
///
/// # Errors
/// Names the row and the rule that it breaks.
pub(crate) fn placement(file: &str, experts: u16, ranks: u16, rows: Vec<Row>) -> Result<Placement> {
    let Some(first) = rows.first() else {
        return Err(Error::invalid(file, "the file", "no layers", "at least one MoE layer"));
    };
    let slots = check_slots(file, first, experts, ranks)?;
    let mut present = vec![false; usize::from(experts)];
    for row in &rows {
        if row.experts.len() != slots {
            let found = format!("{} slots", row.experts.len());
            let expected = format!("{slots}, as in {}", first.place);
            return Err(Error::invalid(file, &row.place, found, expected));
        }
        present.fill(false);
        for expert in &row.experts {
            present[expert.index()] = true;
        }
        if let Some(missing) = present.iter().position(|seen| !seen) {
            let found = format!("no slot with expert {missing}");
            return Err(Error::invalid(file, &row.place, found, "every expert in every layer"));
        }
    }
    let layers = rows.into_iter().map(|row| row.experts).collect();
    Placement::new(experts, ranks, layers).map_err(|error| {
        Error::invalid(file, "the file", error.to_string(), "a placement that holds")
    })
}

/// Checks the number of slots of the first row, which all others must have too.
fn check_slots(file: &str, row: &Row, experts: u16, ranks: u16) -> Result<usize> {
    let slots = row.experts.len();
    let refuse = |expected: String| {
        Err(Error::invalid(file, &row.place, format!("{slots} slots"), expected))
    };
    if ranks == 0 || experts == 0 {
        return refuse(format!("experts and ranks, not {experts} and {ranks}"));
    }
    if slots < usize::from(experts) {
        return refuse(format!("at least {experts}, one for every expert"));
    }
    if slots > usize::from(u16::MAX) {
        return refuse(format!("at most {}", u16::MAX));
    }
    if !slots.is_multiple_of(usize::from(ranks)) {
        return refuse(format!("a number that divides by {ranks} ranks"));
    }
    Ok(slots)
}

/// The first layer, rank and expert where a rank holds two copies of one expert.
pub(crate) fn second_copy(placement: &Placement) -> Option<(usize, usize, ExpertId)> {
    let per_rank = usize::from(placement.slots_per_rank());
    let mut seen = vec![false; usize::from(placement.experts())];
    for (layer, experts) in placement.layers().iter().enumerate() {
        for (rank, held) in experts.chunks(per_rank).enumerate() {
            seen.fill(false);
            for expert in held {
                if std::mem::replace(&mut seen[expert.index()], true) {
                    return Some((layer, rank, *expert));
                }
            }
        }
    }
    None
}

/// `[0, 1, 2]`: the one spelling of a list that JSON and YAML share.
pub(crate) fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}

/// The redundant slots of a placement: those beyond one per expert.
pub(crate) fn redundant(placement: &Placement) -> u16 {
    placement.slots() - placement.experts()
}

//! What must hold of columns before they are a trace. A builder asks the same of each row.

use super::{CountColumns, NO_EXPERT, Phase, TokenColumns};
use crate::error::{Error, Result};
use crate::header::Header;

/// What is wrong with a row.
#[derive(Debug)]
pub(crate) struct Violation {
    place: String,
    found: String,
    expected: String,
}

impl Violation {
    fn new(place: String, found: String, expected: impl Into<String>) -> Self {
        Self { place, found, expected: expected.into() }
    }

    /// The error that names `path`.
    pub(crate) fn at(self, path: &str) -> Error {
        Error::invalid(path, self.place, self.found, self.expected)
    }
}

pub(crate) fn check_len(path: &str, name: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let place = format!("tensor `{name}`");
    Err(Error::invalid(path, place, format!("{found} values"), format!("{expected} values")))
}

/// Whether token `row` may be of `step` behind one of step `before`.
pub(crate) fn step_after(row: u64, before: Option<u32>, step: u32) -> Option<Violation> {
    let before = before.filter(|&before| before > step)?;
    let (place, found) =
        (format!("tensor `step`, row {row}"), format!("step {step} after {before}"));
    Some(Violation::new(place, found, "steps that never decrease"))
}

/// Every id is an expert or "none", and no token chose one expert twice in a layer. `experts` are
/// whole rows, the first of which is that of token number `first`.
pub(crate) fn experts_in(header: &Header, first: u64, experts: &[u16]) -> Option<Violation> {
    let k = usize::from(header.top_k).max(1);
    let mut cells = experts.chunks_exact(k).enumerate();
    let (event, fault) = cells.find_map(|(event, ids)| Some((event, cell_fault(header, ids)?)))?;
    let layer = header.layers[event % header.moe_layers()];
    let token = first + (event / header.moe_layers()) as u64;
    let place = format!("tensor `experts`, token {token}, layer {layer}");
    Some(match fault {
        CellFault::Range(id) => {
            let expected = format!("an id below {}", header.experts);
            Violation::new(place, format!("expert {id}"), expected)
        }
        CellFault::Twice(id) => {
            Violation::new(place, format!("expert {id} twice"), "distinct experts")
        }
    })
}

/// Whether the picks of one token in one layer are experts or none, and distinct. Written without
/// branches, for the numbers of picks that models have: nearly every cell is sound.
#[inline]
pub(crate) fn is_sound(ids: &[u16], experts: u16) -> bool {
    fn sound<const N: usize>(ids: [u16; N], experts: u16) -> bool {
        let mut wrong = false;
        for id in ids {
            wrong |= id >= experts && id != NO_EXPERT;
        }
        // Every pair is N / 2 places apart at most, going round.
        for apart in 1..=N / 2 {
            for place in 0..N {
                let (one, other) = (ids[place], ids[(place + apart) % N]);
                wrong |= one == other && one != NO_EXPERT;
            }
        }
        !wrong
    }
    if let Ok(ids) = <[u16; 8]>::try_from(ids) {
        return sound(ids, experts);
    }
    if let Ok(ids) = <[u16; 2]>::try_from(ids) {
        return sound(ids, experts);
    }
    if let Ok(ids) = <[u16; 4]>::try_from(ids) {
        return sound(ids, experts);
    }
    if let Ok(ids) = <[u16; 6]>::try_from(ids) {
        return sound(ids, experts);
    }
    ids.iter()
        .enumerate()
        .all(|(place, id)| *id == NO_EXPERT || (*id < experts && !ids[..place].contains(id)))
}

enum CellFault {
    Range(u16),
    Twice(u16),
}

fn cell_fault(header: &Header, ids: &[u16]) -> Option<CellFault> {
    if is_sound(ids, header.experts) {
        return None;
    }
    if let Some(&id) = ids.iter().find(|&&id| id != NO_EXPERT && id >= header.experts) {
        return Some(CellFault::Range(id));
    }
    let twice =
        ids.iter().enumerate().find(|(slot, id)| **id != NO_EXPERT && ids[..*slot].contains(id));
    twice.map(|(_, &id)| CellFault::Twice(id))
}

pub(super) fn check_tokens(header: &Header, columns: &TokenColumns, path: &str) -> Result<()> {
    let tokens = columns.step.len() as u64;
    let wide = tokens * header.moe_layers() as u64 * u64::from(header.top_k);
    let check_len = |name, found: usize, expected| check_len(path, name, found as u64, expected);
    check_len("experts", columns.experts.len(), wide)?;
    if let Some(weights) = &columns.weights {
        check_len("weights", weights.len(), wide)?;
    }
    check_len("request", columns.request.len(), tokens)?;
    check_len("position", columns.position.len(), tokens)?;
    check_len("phase", columns.phase.len(), tokens)?;
    let steps = (1..).zip(columns.step.windows(2));
    let mut steps = steps.filter_map(|(row, pair)| step_after(row, Some(pair[0]), pair[1]));
    if let Some(violation) = steps.next() {
        return Err(violation.at(path));
    }
    if let Some(row) = columns.phase.iter().position(|&code| Phase::from_code(code).is_none()) {
        let found = columns.phase[row].to_string();
        let expected = "0 (prefill) or 1 (decode)";
        return Err(Error::invalid(path, format!("tensor `phase`, row {row}"), found, expected));
    }
    if let Some(domain) = &columns.domain {
        check_len("domain", domain.len(), tokens)?;
        let count = header.domains.len();
        if let Some(row) = domain.iter().position(|&index| usize::from(index) >= count) {
            let place = format!("tensor `domain`, row {row}");
            let found = domain[row].to_string();
            return Err(Error::invalid(path, place, found, format!("an index below {count}")));
        }
    }
    experts_in(header, 0, &columns.experts).map_or(Ok(()), |violation| Err(violation.at(path)))
}

pub(super) fn check_counts(header: &Header, columns: &CountColumns, path: &str) -> Result<()> {
    check_counts_len(header, path, columns.counts.len() as u64)
}

/// Counts must be those of whole steps.
pub(crate) fn check_counts_len(header: &Header, path: &str, found: u64) -> Result<()> {
    let size = header.moe_layers() as u64 * u64::from(header.experts);
    check_len(path, "counts", found, found / size * size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The branchless check is the definition, for every number of picks.
        #[test]
        fn sound_cells_have_no_fault(
            ids in proptest::collection::vec(prop_oneof![0_u16..20, Just(NO_EXPERT)], 0..12),
        ) {
            let real = || ids.iter().filter(|id| **id != NO_EXPERT);
            let distinct: std::collections::BTreeSet<&u16> = real().collect();
            let expected = real().all(|id| *id < 18) && distinct.len() == real().count();
            prop_assert_eq!(is_sound(&ids, 18), expected, "{:?}", ids);
            let header = Header::new("test", "tiny", 18, 1, vec![0]);
            prop_assert_eq!(cell_fault(&header, &ids).is_none(), expected);
        }
    }
}

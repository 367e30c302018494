//! A table for spreadsheets and scripts; no engine loads it.
//!
//! Schema: the header `layer,slot,rank,expert`, then one line per layer and physical slot, in any
//! order: absolute layer number, slot in `0..P`, the rank `slot / (P / R)` that holds it, logical
//! expert. Not to be confused with the load table `layer,expert,count`, which has no slots.
//! Refused: another header, a field that is no plain decimal number, a slot twice or missing, a
//! rank that is not where the slot lives, a last line without its end (a file cut off inside a
//! number would otherwise read as another placement).

use std::collections::BTreeMap;
use std::fmt::Write;

use moecast_profiles::ids::{ExpertId, Slot};
use moecast_sim::Placement;

use super::cursor::Row;
use super::node::one_line;
use super::tree::utf8;
use super::{Context, Entry, File, shape};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The entry.
pub(super) const ENTRY: Entry = Entry {
    name: "csv",
    about: "table of layer, slot, rank and expert; for scripts, no engine loads it",
    write,
    read,
    launch,
};

const NAME: &str = "placement.csv";
const HEADER: &str = "layer,slot,rank,expert";

fn write(plan: &Plan) -> Result<Vec<File>> {
    plan.check()?;
    let mut text = format!("{HEADER}\n");
    for (layer, experts) in plan.layers.iter().zip(plan.placement.layers()) {
        for (slot, expert) in (0..).map(Slot).zip(experts) {
            let rank = plan.placement.rank_of(slot);
            writeln!(text, "{layer},{slot},{rank},{expert}").expect("a string grows");
        }
    }
    Ok(vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }])
}

fn launch(_: &Plan) -> String {
    format!(
        "No engine loads {NAME}. It is the placement as a table with the columns {HEADER}\n\
         (absolute layer number, physical slot, rank that holds it, logical expert).\n"
    )
}

/// One line: the rank as written, the expert and the line number.
struct Cell {
    rank: u16,
    expert: ExpertId,
    line: usize,
}

fn read(text: &[u8], context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let mut lines = utf8(text, path)?.split_inclusive('\n').enumerate();
    let header = lines.next().map_or("", |(_, line)| line);
    if end_of(header) != Some(HEADER) {
        return Err(Error::invalid(path, "line 1", format!("`{}`", one_line(header)), HEADER));
    }
    let mut layers: BTreeMap<u16, BTreeMap<u16, Cell>> =
        context.layers.iter().map(|layer| (*layer, BTreeMap::new())).collect();
    for (index, line) in lines {
        let place = format!("line {}", index + 1);
        let refuse = |expected: String| {
            Error::invalid(path, &place, format!("`{}`", one_line(line)), expected)
        };
        let Some(fields) = end_of(line) else {
            return Err(refuse("a line with its end: the file is cut off".to_owned()));
        };
        let fields: Option<Vec<u16>> = fields.split(',').map(decimal).collect();
        let Some(&[layer, slot, rank, expert]) = fields.as_deref() else {
            return Err(refuse(format!("four numbers: {HEADER}")));
        };
        if expert >= context.experts {
            return Err(refuse(format!("an expert id below {}", context.experts)));
        }
        let Some(slots) = layers.get_mut(&layer) else {
            return Err(refuse(format!("a MoE layer of {}", shape::list(&context.layers))));
        };
        let cell = Cell { rank, expert: ExpertId(expert), line: index + 1 };
        if slots.insert(slot, cell).is_some() {
            return Err(refuse(format!("slot {slot} of layer {layer} once")));
        }
    }
    check_slots(layers, context)
}

/// Slots of every layer without holes, on the ranks where they live.
fn check_slots(layers: BTreeMap<u16, BTreeMap<u16, Cell>>, context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let mut rows = Vec::with_capacity(layers.len());
    let mut written = Vec::new();
    for (layer, slots) in layers {
        let place = format!("layer {layer}");
        if let Some(hole) =
            (0..).zip(slots.keys()).find_map(|(at, slot)| (at != *slot).then_some(at))
        {
            let found = format!("no slot {hole}");
            return Err(Error::invalid(path, place, found, "slots counted from 0 without holes"));
        }
        rows.push(Row { place, experts: slots.values().map(|cell| cell.expert).collect() });
        written.extend(slots.into_iter().map(|(slot, cell)| (Slot(slot), cell)));
    }
    let placement = shape::placement(path, context.experts, context.ranks, rows)?;
    for (slot, cell) in written {
        let rank = placement.rank_of(slot);
        if rank.0 != cell.rank {
            let found = format!("slot {slot} on rank {}", cell.rank);
            let expected = format!("rank {rank}, which holds it");
            return Err(Error::invalid(path, format!("line {}", cell.line), found, expected));
        }
    }
    Ok(placement)
}

/// The line without its end; `None` where it has none. Spreadsheets write `\r\n`.
fn end_of(line: &str) -> Option<&str> {
    let line = line.strip_suffix('\n')?;
    Some(line.strip_suffix('\r').unwrap_or(line))
}

/// A plain decimal number: `u16::from_str` alone would take `+3`.
fn decimal(field: &str) -> Option<u16> {
    field.bytes().all(|byte| byte.is_ascii_digit()).then(|| field.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_refused, golden, tiny_context};
    use super::*;

    #[test]
    fn the_table_names_absolute_layers_and_the_rank_of_every_slot() {
        insta::assert_snapshot!(golden(&ENTRY), @r"
        layer,slot,rank,expert
        1,0,0,0
        1,1,0,1
        1,2,0,2
        1,3,1,3
        1,4,1,0
        1,5,1,1
        2,0,0,3
        2,1,0,2
        2,2,0,1
        2,3,1,0
        2,4,1,3
        2,5,1,2
        ");
    }

    #[test]
    fn lines_in_any_order_and_with_either_end_read_the_same() {
        let text = golden(&ENTRY);
        let expected = read(text.as_bytes(), &tiny_context()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1..].reverse();
        let shuffled = lines.join("\r\n") + "\r\n";
        assert_eq!(read(shuffled.as_bytes(), &tiny_context()).unwrap(), expected);
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "layer,slot,rank,expert",
            "layer,expert,count",
            "line 1: `layer,expert,count\\n`; expected layer,slot,rank,expert",
        ),
        ("1,5,1,1\n", "", "layer 1: 5 slots; expected a number that divides by 2 ranks"),
        ("1,4,1,0\n", "", "layer 1: no slot 4; expected slots counted from 0 without holes"),
        (
            "1,4,1,0\n",
            "1,4,1,0\n1,4,1,0\n",
            "line 7: `1,4,1,0\\n`; expected slot 4 of layer 1 once",
        ),
        ("1,4,1,0\n", "1,4,1,4\n", "line 6: `1,4,1,4\\n`; expected an expert id below 4"),
        ("1,4,1,0\n", "1,4,0,0\n", "line 6: slot 4 on rank 0; expected rank 1, which holds it"),
        ("1,4,1,0\n", "0,4,1,0\n", "line 6: `0,4,1,0\\n`; expected a MoE layer of [1, 2]"),
        (
            "1,4,1,0\n",
            "1,4,1,+0\n",
            "line 6: `1,4,1,+0\\n`; expected four numbers: layer,slot,rank,expert",
        ),
        (
            "1,4,1,0\n",
            "1,4,1,0,9\n",
            "line 6: `1,4,1,0,9\\n`; expected four numbers: layer,slot,rank,expert",
        ),
        (
            "1,2,0,2\n",
            "1,2,0,1\n",
            "layer 1: no slot with expert 2; expected every expert in every layer",
        ),
    ];

    #[test]
    fn what_is_no_placement_table_is_refused() {
        check_refused(&ENTRY, REFUSED);
    }
}

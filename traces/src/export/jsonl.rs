//! Writes JSON lines `{"tok": i, "layers": [[ids], ...]}`, one token a line in the order of
//! recording, as the importer `jsonl-layers` reads them. The schema knows one request, no
//! phases, no gate weights and no layer numbers: what that loses is said in words.

use std::io::{self, Write};

use moecast_profiles::ids::MoeLayer;

use super::Entry;
use crate::error::{Error, Result};
use crate::trace::{Phase, RoutingTrace, TokenColumns};

pub(super) const ENTRY: Entry = Entry {
    name: "jsonl",
    about: "JSON lines {\"tok\": i, \"layers\": [[ids], ...]}, as importer jsonl-layers reads them",
    check,
    write,
};

fn check(trace: &RoutingTrace, path: &str) -> Result<Vec<String>> {
    let Some(columns) = trace.tokens() else {
        let expected = "a token recording; csv and npz hold counts";
        return Err(Error::invalid(
            path,
            "format jsonl",
            "a recording that only counted",
            expected,
        ));
    };
    let requests = trace.request_count().unwrap_or(0);
    let prefill = columns.phase.iter().any(|&code| code == Phase::Prefill.code());
    let numbered = (0..).zip(&trace.header().layers).all(|(ordinal, &layer)| ordinal == layer);
    let lost = [
        (requests > 1, format!("{requests} requests become one: `tok` counts lines")),
        (trace.steps().len() < columns.step.len(), "every token becomes a step".to_owned()),
        (prefill, "every token becomes a decode token".to_owned()),
        (columns.weights.is_some(), "gate weights are lost".to_owned()),
        (columns.domain.is_some(), "domains are lost".to_owned()),
        (!numbered, "layer numbers are lost; import with --model to have them back".to_owned()),
    ];
    Ok(lost.into_iter().filter(|(is_lost, _)| *is_lost).map(|(_, words)| words).collect())
}

fn write(trace: &RoutingTrace, into: &mut dyn Write) -> io::Result<()> {
    let columns = trace.tokens().expect("checked");
    let layers = u16::try_from(trace.header().moe_layers()).expect("layer numbers are u16");
    let positions = are_numbers(columns);
    for row in 0..columns.step.len() {
        let number = if positions { columns.position[row] as usize } else { row };
        write!(into, "{{\"tok\": {number}, \"layers\": [")?;
        for layer in 0..layers {
            into.write_all(if layer == 0 { b"[" } else { b", [" })?;
            for (place, id) in trace.chosen(row, MoeLayer(layer)).enumerate() {
                if place > 0 {
                    into.write_all(b", ")?;
                }
                write!(into, "{id}")?;
            }
            into.write_all(b"]")?;
        }
        writeln!(into, "]}}")?;
    }
    Ok(())
}

/// Whether positions can be `tok`: they are of one request and grow.
fn are_numbers(columns: &TokenColumns) -> bool {
    columns.request.windows(2).all(|pair| pair[0] == pair[1])
        && columns.position.windows(2).all(|pair| pair[0] < pair[1])
}

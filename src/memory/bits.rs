//! `moecast memory bits`: how many bits each expert is stored in.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use moecast_planner::memory::bits::{self, Assigned, Errors, Task};
use moecast_traces::Header;
use serde_json::json;

use crate::cli::memory::Bits;
use crate::facts;
use crate::files;
use crate::output::{Output, Table};

/// A longer table of errors is none: 94 layers of 512 experts at 8 widths are 10 MB.
const ERRORS_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(arguments: &Bits, output: &Output) -> Result<()> {
    let policy = bits::find(&arguments.policy)?;
    let source = facts::trace(&arguments.trace)?;
    let header = source.trace.header();
    let errors = errors(arguments.errors.as_deref(), header)?;
    let importance = bits::importance(&source.trace);
    let mut task = Task::new(&importance, &errors, arguments.budget);
    (task.alpha, task.beta) = (arguments.alpha, arguments.beta);
    task.solver = arguments.solver.into();
    let assigned = (policy.assign)(&task)?;
    let mut remarks = errors.remarks();
    remarks.extend(importance.remarks.iter().cloned());
    if header.synthetic {
        remarks.push("the trace is synthetic: generated, not recorded".to_owned());
    }
    if let Some(out) = &arguments.out {
        files::apart(out, [&arguments.trace].into_iter().chain(&arguments.errors))?;
        files::write_bytes(out, table(&header.layers, &assigned).as_bytes())?;
    }
    let object = json!({
        "policy": policy.name,
        "budget": arguments.budget,
        "mean_bits": assigned.mean_bits(),
        "cost": assigned.cost,
        "cost_bound": assigned.bound,
        "how": assigned.how,
        "layers": header.layers,
        "bits": assigned.bits,
        "remarks": remarks,
    });
    if output.json(&object)? {
        return Ok(());
    }
    output.note(&format!(
        "{}: {:.3} bits of {} a weight, {}",
        policy.name,
        assigned.mean_bits(),
        arguments.budget,
        assigned.how
    ))?;
    let bound = assigned.bound.map_or_else(|| "unknown".to_owned(), |bound| format!("{bound:.6}"));
    output.note(&format!("cost {:.6}, least possible {bound}\n", assigned.cost))?;
    output.table(&by_layer(&header.layers, &assigned))?;
    output.remarks(&remarks)
}

/// The table at `path`, or what is assumed where there is none.
pub(in crate::memory) fn errors(path: Option<&Path>, header: &Header) -> Result<Errors> {
    let Some(path) = path else {
        return Ok(Errors::assumed(header.layers.len(), header.experts.into()));
    };
    let text = files::read_small(path, ERRORS_BYTES_MAX)?;
    Ok(Errors::read(&text, &path.display().to_string(), &header.layers, header.experts)?)
}

/// `layer,expert,bits` with absolute layer numbers.
fn table(layers: &[u16], assigned: &Assigned) -> String {
    let mut text = "layer,expert,bits\n".to_owned();
    for (layer, row) in layers.iter().zip(&assigned.bits) {
        for (expert, bits) in row.iter().enumerate() {
            writeln!(text, "{layer},{expert},{bits}").expect("a string grows");
        }
    }
    text
}

/// How many experts of each layer have how many bits.
fn by_layer(layers: &[u16], assigned: &Assigned) -> Table {
    let mut widths: Vec<u8> = assigned.bits.iter().flatten().copied().collect();
    widths.sort_unstable();
    widths.dedup();
    let headings: Vec<String> = std::iter::once("layer".to_owned())
        .chain(widths.iter().map(|width| format!("{width} bits")))
        .collect();
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for (layer, row) in layers.iter().zip(&assigned.bits) {
        let mut counts: BTreeMap<u8, usize> = widths.iter().map(|width| (*width, 0)).collect();
        for bits in row {
            *counts.entry(*bits).or_default() += 1;
        }
        let counts = counts.values().map(ToString::to_string);
        table.row(std::iter::once(layer.to_string()).chain(counts));
    }
    table
}

//! `moecast trace stats`.

use std::path::Path;

use anyhow::Result;
use moecast_reports::StatsFile;
use moecast_traces::stats::{TraceStats, stats as stats_of};
use moecast_traces::synth::check::{Check, checks_of};
use moecast_traces::{RoutingTrace, format};
use serde_json::{Value, json};

use super::{checked, describe, hops, summary};
use crate::cli::trace::Stats;
use crate::files;
use crate::output::{Output, Table};

pub(crate) fn run(arguments: &Stats, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    let hops = arguments.plan.as_ref().map(|path| hops::measure(&trace, path)).transpose()?;
    let stats = stats_of(&trace);
    let checks = checks_of(&trace, &stats);
    if let Some(out) = &arguments.out {
        write(&trace, &stats, &checks, out)?;
    }
    let mut answer = json_of(&trace, &stats, &checks)?;
    if let Some(hops) = &hops {
        answer["hops_on_rank"] = serde_json::to_value(hops)?;
    }
    if output.json(&answer)? {
        return Ok(());
    }
    output.note(&describe(&trace))?;
    output.remarks(&trace.header().remarks)?;
    output.table(&table_of(&stats))?;
    summary::print(&stats, output)?;
    hops.map_or(Ok(()), |hops| hops::print(&hops, output))?;
    checked::print(&checks, output)?;
    match &arguments.out {
        Some(out) => output.line(&format!("stats: {}", out.join("stats.json").display())),
        None => Ok(()),
    }
}

/// Writes `stats.json` into the folder `out`.
pub(crate) fn write(
    trace: &RoutingTrace,
    stats: &TraceStats,
    checks: &[Check],
    out: &Path,
) -> Result<()> {
    let tool = env!("CARGO_PKG_VERSION");
    let file = StatsFile::new(tool, trace.header(), stats.clone(), checks.to_vec());
    files::write_bytes(&out.join("stats.json"), &serde_json::to_vec(&file)?)
}

/// The answer of `trace stats --json`; keys are stable.
pub(crate) fn json_of(trace: &RoutingTrace, stats: &TraceStats, checks: &[Check]) -> Result<Value> {
    let mut object = serde_json::to_value(stats)?;
    let header = trace.header();
    object["model"] = json!(header.model);
    object["source"] = json!(header.source);
    object["synthetic"] = json!(header.synthetic);
    object["remarks"] = json!(header.remarks);
    object["checks"] = json!(checks);
    Ok(object)
}

fn table_of(stats: &TraceStats) -> Table {
    let mut table =
        Table::new(&["layer", "pairs", "max/mean", "by chance", "CV", "Gini", "entropy (bits)"]);
    for layer in &stats.per_layer {
        table.row([
            layer.layer.to_string(),
            layer.pairs.to_string(),
            format!("{:.2}", layer.max_over_mean),
            layer.null.map_or_else(|| "-".to_owned(), |null| format!("{:.2}", null.max_over_mean)),
            format!("{:.2}", layer.cv),
            format!("{:.3}", layer.gini),
            format!("{:.2}", layer.entropy),
        ]);
    }
    table
}

//! `moecast trace stats`.

use anyhow::Result;
use moecast_traces::stats::{TraceStats, stats as stats_of};
use moecast_traces::{RoutingTrace, format};
use serde_json::{Value, json};

use super::{describe, hops, summary};
use crate::cli::trace::Stats;
use crate::output::{Output, Table};

pub(crate) fn run(arguments: &Stats, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    let hops = arguments.plan.as_ref().map(|path| hops::measure(&trace, path)).transpose()?;
    if output.wants_json() {
        let mut object = json_of(&trace)?;
        if let Some(hops) = &hops {
            object["hops_on_rank"] = serde_json::to_value(hops)?;
        }
        output.json(&object)?;
        return Ok(());
    }
    output.note(&describe(&trace))?;
    output.remarks(&trace.header().remarks)?;
    let stats = stats_of(&trace);
    output.table(&table_of(&stats))?;
    summary::print(&stats, output)?;
    hops.map_or(Ok(()), |hops| hops::print(&hops, output))
}

/// The answer of `trace stats --json`; keys are stable.
pub(crate) fn json_of(trace: &RoutingTrace) -> Result<Value> {
    let mut object = serde_json::to_value(stats_of(trace))?;
    let header = trace.header();
    object["model"] = json!(header.model);
    object["source"] = json!(header.source);
    object["synthetic"] = json!(header.synthetic);
    object["remarks"] = json!(header.remarks);
    Ok(object)
}

fn table_of(stats: &TraceStats) -> Table {
    let mut table = Table::new(&["layer", "pairs", "max/mean", "CV", "Gini", "entropy (bits)"]);
    for layer in &stats.per_layer {
        table.row([
            layer.layer.to_string(),
            layer.pairs.to_string(),
            format!("{:.2}", layer.max_over_mean),
            format!("{:.2}", layer.cv),
            format!("{:.3}", layer.gini),
            format!("{:.2}", layer.entropy),
        ]);
    }
    table
}

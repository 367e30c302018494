//! `moecast trace stats`.

use anyhow::Result;
use moecast_traces::stats::{TraceStats, stats as stats_of};
use moecast_traces::{RoutingTrace, format};
use serde_json::{Value, json};

use super::describe;
use crate::cli::trace::Stats;
use crate::output::{Output, Table};

pub(crate) fn run(arguments: &Stats, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    if output.json(&json_of(&trace)?)? {
        return Ok(());
    }
    output.note(&describe(&trace))?;
    output.remarks(&trace.header().remarks)?;
    output.table(&table_of(&stats_of(&trace)))
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

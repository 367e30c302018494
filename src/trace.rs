//! `moecast trace import` and `moecast trace stats`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use moecast_traces::import::Input;
use moecast_traces::stats::{TraceStats as Stats, stats as stats_of};
use moecast_traces::{RoutingTrace, format, import as importers};
use serde_json::{Value, json};

use crate::cli::{TraceImport, TraceStats};
use crate::output::{Measure, Output, Table};
use crate::{facts, files};

pub(crate) fn import(arguments: &TraceImport, output: &Output) -> Result<()> {
    let trace = read_foreign(arguments, output)?;
    files::write(&arguments.output, |file| {
        Ok(format::write(&trace, &arguments.output.display().to_string(), file)?)
    })?;
    let header = trace.header();
    let summary = json!({
        "output": arguments.output.display().to_string(),
        "source": header.source,
        "model": header.model,
        "tokens": trace.token_count(),
        "requests": trace.request_count(),
        "steps": trace.steps().len(),
        "experts": header.experts,
        "top_k": header.top_k,
        "layers": header.moe_layers(),
        "remarks": header.remarks,
        "inputs": header.inputs,
    });
    if output.json(&summary)? {
        return Ok(());
    }
    output.line(&format!("{}: {}", arguments.output.display(), describe(&trace)))?;
    output.remarks(&header.remarks)
}

fn read_foreign(arguments: &TraceImport, output: &Output) -> Result<RoutingTrace> {
    let model = arguments.model.as_deref().map(facts::model).transpose()?;
    let bar = output.progress("import", total_bytes(&arguments.files), Measure::Bytes);
    let progress = |bytes| bar.set_position(bytes);
    let input = Input { paths: &arguments.files, model: model.as_ref(), progress: &progress };
    let trace = importers::read(&arguments.format, input);
    bar.finish_and_clear();
    Ok(trace?)
}

fn total_bytes(paths: &[PathBuf]) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    paths.iter().map(|path| size(path)).sum()
}

/// "156 tokens of 1 request in 129 steps, 48 MoE layers x 128 experts, top-6".
pub(crate) fn describe(trace: &RoutingTrace) -> String {
    let header = trace.header();
    let requests = match trace.request_count() {
        Some(1) => " of 1 request".to_owned(),
        Some(count) => format!(" of {count} requests"),
        None => String::new(),
    };
    format!(
        "{} tokens{requests} in {} steps, {} MoE layers x {} experts, top-{}{}",
        trace.token_count(),
        trace.steps().len(),
        header.moe_layers(),
        header.experts,
        header.top_k,
        if header.synthetic { " (synthetic)" } else { "" },
    )
}

pub(crate) fn stats(arguments: &TraceStats, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    if output.json(&stats_json(&trace)?)? {
        return Ok(());
    }
    output.note(&describe(&trace))?;
    output.remarks(&trace.header().remarks)?;
    output.table(&stats_table(&stats_of(&trace)))
}

/// The answer of `trace stats --json`; keys are stable.
pub(crate) fn stats_json(trace: &RoutingTrace) -> Result<Value> {
    let mut object = serde_json::to_value(stats_of(trace))?;
    let header = trace.header();
    object["model"] = json!(header.model);
    object["source"] = json!(header.source);
    object["synthetic"] = json!(header.synthetic);
    object["remarks"] = json!(header.remarks);
    Ok(object)
}

pub(crate) fn stats_table(stats: &Stats) -> Table {
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

//! `moecast trace import`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use moecast_traces::import::Input;
use moecast_traces::{RoutingTrace, format, import as importers};
use serde_json::json;

use super::describe;
use crate::cli::trace::Import;
use crate::output::{Measure, Output};
use crate::{facts, files};

pub(crate) fn run(arguments: &Import, output: &Output) -> Result<()> {
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

fn read_foreign(arguments: &Import, output: &Output) -> Result<RoutingTrace> {
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

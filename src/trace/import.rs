//! `moecast trace import`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use moecast_traces::import::{self as importers, Input};
use moecast_traces::{Spill, TraceBuilder, Written};
use serde_json::json;

use super::describe_extent;
use crate::cli::trace::Import;
use crate::output::{Measure, Output};
use crate::{facts, files};

pub(crate) fn run(arguments: &Import, output: &Output) -> Result<()> {
    files::apart(&arguments.output, &arguments.files)?;
    let builder = read_foreign(arguments, output)?;
    let Written { header, tokens, requests, steps } = write(arguments, builder, output)?;
    let summary = json!({
        "output": arguments.output.display().to_string(),
        "source": header.source,
        "model": header.model,
        "tokens": tokens,
        "requests": requests,
        "steps": steps,
        "experts": header.experts,
        "top_k": header.top_k,
        "layers": header.moe_layers(),
        "remarks": header.remarks,
        "inputs": header.inputs,
    });
    if output.json(&summary)? {
        return Ok(());
    }
    let extent = describe_extent(&header, tokens, requests, steps);
    output.line(&format!("{}: {extent}", arguments.output.display()))?;
    output.remarks(&header.remarks)
}

/// Reads the recording; what memory should not hold waits beside the output.
fn read_foreign(arguments: &Import, output: &Output) -> Result<TraceBuilder> {
    let model = arguments.model.as_deref().map(facts::model).transpose()?;
    let bar = output.progress("import", total_bytes(&arguments.files), Measure::Bytes);
    let progress = |bytes| bar.set_position(bytes);
    let spill = Spill::to(&files::existing_folder(&arguments.output));
    let input = Input {
        paths: &arguments.files,
        model: model.as_ref(),
        progress: &progress,
        spill: Some(&spill),
    };
    let builder = importers::build(&arguments.format, input);
    bar.finish_and_clear();
    Ok(builder?)
}

fn write(arguments: &Import, builder: TraceBuilder, output: &Output) -> Result<Written> {
    let bar = output.progress("write", builder.bytes(), Measure::Bytes);
    let name = arguments.output.display().to_string();
    let written = files::write(&arguments.output, |file| {
        Ok(builder.write_to(&name, &mut bar.wrap_write(file))?)
    });
    bar.finish_and_clear();
    written
}

/// Bytes of all files; a folder stands for the files in it.
fn total_bytes(paths: &[PathBuf]) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let folder = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| size(&entry.path())).sum()
    };
    paths.iter().map(|path| if path.is_dir() { folder(path) } else { size(path) }).sum()
}

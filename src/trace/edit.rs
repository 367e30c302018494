//! `moecast trace split`, `concat` and `slice`: traces in, traces out.

use std::path::Path;

use anyhow::{Result, ensure};
use moecast_profiles::seed::Seed;
use moecast_traces::concat::{self, Part};
use moecast_traces::slice::{self, Selection};
use moecast_traces::split::{By, split_by};
use moecast_traces::{Phase, RoutingTrace, format};
use serde_json::{Value, json};

use super::describe;
use crate::cli::Global;
use crate::cli::trace::{Concat, PhaseArgument, Slice, Split, SplitBy};
use crate::files;
use crate::output::Output;

pub(crate) fn split(arguments: &Split, global: &Global, output: &Output) -> Result<()> {
    ensure!(
        arguments.domain.is_empty() || arguments.by.is_none_or(|by| by == SplitBy::Domain),
        "trace split: --domain with another --by; expected --by domain, or none"
    );
    let trace = format::read(&arguments.trace)?;
    let by = match arguments.by {
        Some(SplitBy::Request) => By::Request,
        Some(SplitBy::Time) => By::Time,
        Some(SplitBy::Domain) => By::Domain(arguments.domain.clone()),
        None if !arguments.domain.is_empty() => By::Domain(arguments.domain.clone()),
        None => By::default_for(&trace),
    };
    let outputs =
        ["train", "heldout"].map(|name| arguments.out.join(format!("{name}.safetensors")));
    outputs.iter().try_for_each(|output| files::apart(output, [&arguments.trace]))?;
    let path = arguments.trace.display().to_string();
    let parts = split_by(&trace, &by, arguments.heldout, Seed(global.seed), &path)?;
    let named = [("train", &parts.train, &outputs[0]), ("heldout", &parts.heldout, &outputs[1])];
    let mut object = json!({ "split": parts.how });
    let mut lines = vec![parts.how.clone()];
    for (name, part, path) in named {
        write(part, path)?;
        object[name] = json_of(part, path);
        lines.push(format!("{}: {}", path.display(), describe(part)));
    }
    if output.json(&object)? {
        return Ok(());
    }
    lines.iter().try_for_each(|line| output.line(line))
}

pub(crate) fn concat(arguments: &Concat, output: &Output) -> Result<()> {
    let (labels, count) = (&arguments.domains, arguments.traces.len());
    ensure!(
        labels.is_empty() || labels.len() == count,
        "trace concat: {} domains for {count} traces; expected one for each",
        labels.len()
    );
    files::apart(&arguments.output, &arguments.traces)?;
    let mut traces = Vec::new();
    for path in &arguments.traces {
        traces.push((format::read(path)?, file_name(path)));
    }
    let parts = traces.iter().enumerate().map(|(index, (trace, name))| {
        let domain = labels.get(index).map(String::as_str);
        Part { trace, name, domain }
    });
    let joined = concat::concat(&parts.collect::<Vec<_>>())?;
    finish(&joined, &arguments.output, output)
}

/// A path without its folder: a trace says the same wherever it was made.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

pub(crate) fn slice(arguments: &Slice, output: &Output) -> Result<()> {
    files::apart(&arguments.output, [&arguments.trace])?;
    let trace = format::read(&arguments.trace)?;
    let selection = Selection {
        requests: arguments.requests.as_ref().map(|span| span.0.clone()),
        steps: arguments.steps.as_ref().map(|span| span.0.clone()),
        layers: arguments.layers.as_ref().map(|span| span.0.clone()),
        domain: arguments.domain.clone(),
        phase: arguments.phase.map(|phase| match phase {
            PhaseArgument::Prefill => Phase::Prefill,
            PhaseArgument::Decode => Phase::Decode,
        }),
        tokens: arguments.tokens,
    };
    let part = slice::slice(&trace, &selection, &arguments.trace.display().to_string())?;
    finish(&part, &arguments.output, output)
}

fn finish(trace: &RoutingTrace, path: &Path, output: &Output) -> Result<()> {
    write(trace, path)?;
    if output.json(&json_of(trace, path))? {
        return Ok(());
    }
    output.line(&format!("{}: {}", path.display(), describe(trace)))?;
    output.remarks(&trace.header().remarks)
}

fn write(trace: &RoutingTrace, path: &Path) -> Result<()> {
    files::write(path, |file| Ok(format::write(trace, &path.display().to_string(), file)?))
}

fn json_of(trace: &RoutingTrace, path: &Path) -> Value {
    let header = trace.header();
    json!({
        "output": path.display().to_string(),
        "tokens": trace.token_count(),
        "requests": trace.request_count(),
        "steps": trace.steps().len(),
        "experts": header.experts,
        "top_k": header.top_k,
        "layers": header.moe_layers(),
        "domains": header.domains,
        "remarks": header.remarks,
    })
}

//! `moecast trace requests`: when requests arrive and how long they are.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use moecast_profiles::seed::Seed;
use moecast_traces::requests::generators::{Length, Lengths, generate};
use moecast_traces::requests::{self, LengthStats, Load, RequestHeader, RequestStats};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::trace::requests::{Command, Generate, Stats};
use crate::files;
use crate::output::{Output, Table};

pub(crate) fn run(command: &Command, global: &Global, output: &Output) -> Result<()> {
    match command {
        Command::Generate(arguments) => make(arguments, global, output),
        Command::Stats(arguments) => measure(arguments, output),
    }
}

fn measure(arguments: &Stats, output: &Output) -> Result<()> {
    let trace = requests::read(&arguments.format, &arguments.files)?;
    let stats = requests::stats(&trace);
    if output.json(&json_of(&stats, trace.header())?)? {
        return Ok(());
    }
    let synthetic = if trace.header().synthetic { " (synthetic)" } else { "" };
    output.note(&format!("{} requests of {}{synthetic}", stats.count, trace.header().source))?;
    output.remarks(&trace.header().remarks)?;
    print(&stats, output)
}

/// The answer of `trace requests stats --json`; keys are stable.
fn json_of(stats: &RequestStats, header: &RequestHeader) -> Result<Value> {
    let mut object = serde_json::to_value(stats)?;
    let keys = object.as_object_mut().context("statistics are an object")?;
    // Elsewhere in the answers a key says its unit.
    keys.remove("duration");
    keys.insert("duration_seconds".to_owned(), json!(seconds(stats)));
    keys.insert("source".to_owned(), json!(header.source));
    keys.insert("synthetic".to_owned(), json!(header.synthetic));
    keys.insert("remarks".to_owned(), json!(header.remarks));
    keys.insert("inputs".to_owned(), json!(header.inputs));
    Ok(object)
}

#[expect(clippy::cast_precision_loss, reason = "a duration, to be read")]
fn seconds(stats: &RequestStats) -> f64 {
    stats.duration.0 as f64 / 1e9
}

fn print(stats: &RequestStats, output: &Output) -> Result<()> {
    let figure = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut arrivals = Table::new(&["arrivals", ""]);
    let rows = [
        ("duration, s", figure(Some(seconds(stats)), 1)),
        ("requests/s", figure(stats.rate, 3)),
        ("peak over a minute, requests/s", figure(stats.peak_rate_over_minute, 3)),
        ("burstiness (CV of gaps; Poisson is 1)", figure(stats.burstiness, 2)),
        ("input tokens/s", figure(stats.input_tokens_per_second, 1)),
        ("output tokens/s", figure(stats.output_tokens_per_second, 1)),
        ("prefix blocks seen before", figure(stats.prefix_reuse_share, 3)),
    ];
    for (name, value) in rows {
        arrivals.row([name.to_owned(), value]);
    }
    output.table(&arrivals)?;
    output.line("")?;
    let mut lengths = Table::new(&["tokens", "mean", "p50", "p90", "p99", "max"]);
    let mut row = |name: &str, of: &LengthStats| {
        let [p50, p90, p99, max] = [of.p50, of.p90, of.p99, of.max].map(|n| n.to_string());
        lengths.row([name.to_owned(), format!("{:.1}", of.mean), p50, p90, p99, max]);
    };
    row("input", &stats.input_tokens);
    row("output", &stats.output_tokens);
    output.table(&lengths)
}

fn make(arguments: &Generate, global: &Global, output: &Output) -> Result<()> {
    files::apart(&arguments.output, &arguments.lengths_from)?;
    let settings = settings(&arguments.set)?;
    let recorded = match &arguments.lengths_from {
        Some(path) => Some(requests::read("auto", std::slice::from_ref(path))?),
        None => None,
    };
    let length = |option: &str, text: &str| {
        text.parse::<Length>().with_context(|| format!("{option} {text}"))
    };
    let lengths = match &recorded {
        Some(trace) => Lengths::Recorded(trace),
        None => Lengths::Drawn {
            input: length("--input-tokens", &arguments.input_tokens)?,
            output: length("--output-tokens", &arguments.output_tokens)?,
        },
    };
    let load = generate(&arguments.generator, &settings, lengths, Seed(global.seed))?;
    let path = arguments.output.display().to_string();
    files::write(&arguments.output, |file| Ok(requests::write_jsonl(&load, &path, file)?))?;
    let (header, count) = match &load {
        Load::Open(trace) => (trace.header(), trace.count()),
        Load::Closed(plan) => (plan.header(), plan.requests().len()),
    };
    let mut remarks = header.remarks.clone();
    if let Load::Closed(plan) = &load {
        remarks.push(format!(
            "a closed loop has no arrivals: line i is sent by client i modulo {} when its last \
             answer is there",
            plan.clients()
        ));
    }
    let object = json!({
        "output": path, "format": "lengths-jsonl", "requests": count, "remarks": remarks,
    });
    if output.json(&object)? {
        return Ok(());
    }
    output.line(&format!("{path}: {count} requests (synthetic)"))?;
    output.remarks(&remarks)
}

/// `NAME=NUMBER`, each name once.
fn settings(given: &[String]) -> Result<BTreeMap<String, f64>> {
    let mut settings = BTreeMap::new();
    for text in given {
        let parts = text.split_once('=').and_then(|(name, value)| {
            Some((name.trim().to_owned(), value.trim().parse::<f64>().ok()?))
        });
        let wrong = || format!("--set {text}: not a setting; expected NAME=NUMBER");
        let (name, value) = parts.with_context(wrong)?;
        let before = settings.insert(name, value);
        ensure!(before.is_none(), "--set {text}: given twice; expected each setting once");
    }
    Ok(settings)
}

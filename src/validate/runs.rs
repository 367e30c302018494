//! Benchmark runs of a CSV file against their simulation, row by row.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::calibration::{
    Calibration, Factors, Found, Key, Level, MeasuredRun, Predicted, read_runs,
};
use moecast_profiles::engine;
use moecast_profiles::seed::Seed;
use moecast_reports::{ScatterPoint, scatter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Errors;
use crate::cli::{self, Global};
use crate::measured::{self, Trial};
use crate::output::{Measure, Output, Table};
use crate::{files, picture, serve};

/// Longest file of runs that is read.
const RUNS_BYTES_MAX: u64 = 64 << 20;
/// An error table fails when an error is above the committed one by more than this.
const SLACK: f64 = 0.002;

/// A run and what was predicted of it.
struct Row<'a> {
    run: &'a MeasuredRun,
    predicted: Predicted,
    found: Found,
    /// Whether its calibration record was fitted to this very run.
    fitted: bool,
}

impl Row<'_> {
    fn tpot_error(&self) -> f64 {
        self.predicted.tpot_ms / self.run.tpot_ms - 1.0
    }

    fn ttft_error(&self) -> f64 {
        self.predicted.ttft_ms / self.run.ttft_ms - 1.0
    }
}

/// A run that could not be simulated.
#[derive(Serialize)]
struct Skipped {
    id: String,
    reason: String,
}

/// Errors of both figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Summary {
    tpot: Errors,
    ttft: Errors,
}

impl Summary {
    fn of<'a>(rows: impl Iterator<Item = &'a Row<'a>> + Clone) -> Self {
        Self {
            tpot: Errors::of(rows.clone().map(Row::tpot_error)),
            ttft: Errors::of(rows.map(Row::ttft_error)),
        }
    }
}

/// Errors that a later version may not exceed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorTable {
    moecast_errors: u64,
    skipped: usize,
    summary: Summary,
    groups: BTreeMap<String, Summary>,
}

pub(super) fn run(
    path: &Path,
    arguments: &cli::Validate,
    global: &Global,
    output: &Output,
) -> Result<()> {
    if let Some(figure) = &arguments.figure {
        picture::check(figure)?;
    }
    let shown = path.display().to_string();
    let mut runs = read_runs(&files::read_small(path, RUNS_BYTES_MAX)?, &shown)?;
    ensure!(!runs.is_empty(), "{shown}: no runs; expected at least one line below the header");
    if let Some(trust) = &arguments.trust {
        runs.retain(|run| run.trust == *trust);
        ensure!(!runs.is_empty(), "{shown}: no run of trust {trust}; expected at least one");
    }
    let profile = arguments.profile.as_deref();
    for run in runs.iter_mut().filter(|run| run.kernel_source.is_empty()) {
        run.kernel_source = profile.unwrap_or(measured::SHIPPED).to_owned();
    }
    let calibration = match &arguments.calibration {
        Some(path) => serve::calibration(path)?,
        None => Calibration::default(),
    };
    let trials = measured::trials(&runs, profile, Seed(global.seed));
    let bar = output.progress("validate", runs.len() as u64, Measure::Count);
    let results: Vec<Result<Row<'_>, Skipped>> = runs
        .par_iter()
        .zip(trials)
        .with_max_len(1)
        .map(|(run, trial)| {
            let row = trial
                .map(|trial| judge(run, &trial, &calibration))
                .map_err(|reason| Skipped { id: run.id.clone(), reason });
            bar.inc(1);
            row
        })
        .collect();
    bar.finish_and_clear();
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(row) => rows.push(row),
            Err(why) => skipped.push(why),
        }
    }
    ensure!(!rows.is_empty(), "{shown}: no run could be simulated: {}", skipped[0].reason);
    if let Some(figure) = &arguments.figure {
        draw(&rows, &shown, figure)?;
    }
    answer(&rows, &skipped, arguments, output)?;
    hold(&rows, skipped.len(), arguments, output)
}

fn judge<'a>(run: &'a MeasuredRun, trial: &Trial, calibration: &Calibration) -> Row<'a> {
    let engine = engine::find(&run.engine).expect("the service was built for it");
    let key = Key::of(run);
    let found = calibration.lookup(&key, &engine);
    let factors: Factors = found.factors;
    let fitted = found.level == Level::Exact
        && calibration
            .records()
            .iter()
            .any(|record| record.key == key && record.runs.contains(&run.id));
    Row { run, predicted: measured::predict(trial, factors), found, fitted }
}

fn answer(
    rows: &[Row<'_>],
    skipped: &[Skipped],
    arguments: &cli::Validate,
    output: &Output,
) -> Result<()> {
    let whole = Summary::of(rows.iter());
    let fitted = Summary::of(rows.iter().filter(|row| row.fitted));
    let heldout = Summary::of(rows.iter().filter(|row| !row.fitted));
    if output.wants_json() {
        let rows: Vec<Value> = rows.iter().map(to_json).collect();
        output.json(&json!({
            "summary": whole, "fitted": fitted, "heldout": heldout,
            "rows": rows, "skipped": skipped,
        }))?;
        return Ok(());
    }
    output.table(&table(rows))?;
    output.note("")?;
    let mut totals = Table::new(&SUMMARY_HEADINGS);
    if fitted.tpot.count > 0 {
        totals.row(cells("fitted: no evidence", &fitted));
        totals.row(cells("held out", &heldout));
    } else {
        totals.row(cells("all", &whole));
    }
    for trust in levels(rows) {
        let of = rows.iter().filter(|row| row.run.trust == trust && !row.fitted);
        totals.row(cells(&format!("trust {trust}"), &Summary::of(of)));
    }
    output.table(&totals)?;
    output.note("")?;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for one in skipped {
        *reasons.entry(one.reason.as_str()).or_default() += 1;
    }
    for (reason, count) in reasons {
        output.note(&format!("note: {count} runs skipped: {reason}"))?;
    }
    if arguments.calibration.is_none() {
        output.note("note: no constant was fitted; see `moecast profile tune`")?;
    }
    Ok(())
}

/// Levels of trust that occur, best first.
fn levels(rows: &[Row<'_>]) -> Vec<String> {
    let mut levels: Vec<String> = rows.iter().map(|row| row.run.trust.clone()).collect();
    levels.sort();
    levels.dedup();
    levels.retain(|level| !level.is_empty());
    levels
}

const SUMMARY_HEADINGS: [&str; 8] =
    ["runs", "count", "TPOT median", "p90", "within 20%", "TTFT median", "p90", "within 20%"];

fn cells(name: &str, summary: &Summary) -> Vec<String> {
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    let Summary { tpot, ttft } = summary;
    let mut cells = vec![name.to_owned(), tpot.count.to_string()];
    for errors in [tpot, ttft] {
        let shares = [errors.median_ape, errors.p90_ape, errors.within_20];
        cells.extend(shares.map(|share| match errors.count {
            0 => "-".to_owned(),
            _ => percent(share),
        }));
    }
    cells
}

fn group(run: &MeasuredRun) -> String {
    format!("{} {} {} {}", run.engine, run.version, run.gpu, run.model)
}

fn by_group<'a>(rows: &'a [Row<'a>]) -> BTreeMap<String, Vec<&'a Row<'a>>> {
    let mut groups: BTreeMap<String, Vec<&Row<'_>>> = BTreeMap::new();
    for row in rows {
        groups.entry(group(row.run)).or_default().push(row);
    }
    groups
}

/// Errors by engine, GPU and model, and within them by concurrency.
fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new(&SUMMARY_HEADINGS);
    for (name, of) in by_group(rows) {
        table.row(cells(&name, &Summary::of(of.iter().copied())));
        let mut concurrencies: BTreeMap<u32, Vec<&Row<'_>>> = BTreeMap::new();
        for row in of {
            concurrencies.entry(row.run.concurrency).or_default().push(row);
        }
        for (concurrency, of) in concurrencies {
            let name = format!("  concurrency {concurrency}");
            table.row(cells(&name, &Summary::of(of.iter().copied())));
        }
    }
    table
}

fn to_json(row: &Row<'_>) -> Value {
    let run = row.run;
    json!({
        "id": run.id, "model": run.model, "gpu": run.gpu, "engine": run.engine,
        "version": run.version, "n_gpus": run.n_gpus, "tp": run.tp, "ep": run.ep,
        "moe_tp": run.moe_tp, "dp": run.dp, "isl": run.isl, "osl": run.osl,
        "concurrency": run.concurrency, "trust": run.trust, "series": run.series,
        "source": run.source, "fitted": row.fitted, "factors": row.found.to_string(),
        "measured": { "ttft_ms": run.ttft_ms, "tpot_ms": run.tpot_ms },
        "predicted": { "ttft_ms": row.predicted.ttft_ms, "tpot_ms": row.predicted.tpot_ms },
        "error": { "ttft": row.ttft_error(), "tpot": row.tpot_error() },
    })
}

/// Compares with the committed error table, or writes one.
fn hold(
    rows: &[Row<'_>],
    skipped: usize,
    arguments: &cli::Validate,
    output: &Output,
) -> Result<()> {
    let groups = by_group(rows);
    let table = ErrorTable {
        moecast_errors: 1,
        skipped,
        summary: Summary::of(rows.iter()),
        groups: groups
            .into_iter()
            .map(|(name, of)| (name, Summary::of(of.iter().copied())))
            .collect(),
    };
    if let Some(path) = &arguments.write_errors {
        let mut text = serde_json::to_string_pretty(&table)?;
        text.push('\n');
        files::write_bytes(path, text.as_bytes())?;
    }
    let Some(path) = &arguments.against else { return Ok(()) };
    let shown = path.display();
    let bytes = files::read_small(path, RUNS_BYTES_MAX)?;
    let before: ErrorTable = serde_json::from_slice(&bytes)
        .with_context(|| format!("{shown}: expected what --write-errors wrote"))?;
    let mut worse = Vec::new();
    compare("all", &before.summary, &table.summary, &mut worse);
    for (name, summary) in &table.groups {
        if let Some(before) = before.groups.get(name) {
            compare(name, before, summary, &mut worse);
        }
    }
    if skipped > before.skipped {
        worse.push(format!("{skipped} runs skipped; {} before", before.skipped));
    }
    for line in worse.iter().skip(1) {
        output.note(&format!("note: {line}"))?;
    }
    match worse.first() {
        Some(first) => bail!("{shown}: {first}; {} figures are worse than committed", worse.len()),
        None => Ok(()),
    }
}

fn compare(name: &str, before: &Summary, now: &Summary, worse: &mut Vec<String>) {
    let figures = [
        ("TPOT median", before.tpot.median_ape, now.tpot.median_ape),
        ("TPOT p90", before.tpot.p90_ape, now.tpot.p90_ape),
        ("TTFT median", before.ttft.median_ape, now.ttft.median_ape),
        ("TTFT p90", before.ttft.p90_ape, now.ttft.p90_ape),
    ];
    for (figure, before, now) in figures {
        if now > before + SLACK {
            let (before, now) = (before * 100.0, now * 100.0);
            worse.push(format!("{name}: {figure} {now:.1}%; {before:.1}% committed"));
        }
    }
}

/// Predicted against measured times, by engine.
fn draw(rows: &[Row<'_>], source: &str, path: &Path) -> Result<()> {
    let points = |measured: fn(&Row<'_>) -> f64, predicted: fn(&Row<'_>) -> f64| {
        rows.iter()
            .map(|row| ScatterPoint {
                series: row.run.engine.clone(),
                measured: measured(row),
                predicted: predicted(row),
            })
            .collect::<Vec<_>>()
    };
    let tpot = points(|row| row.run.tpot_ms, |row| row.predicted.tpot_ms);
    let ttft = points(|row| row.run.ttft_ms, |row| row.predicted.ttft_ms);
    let title = format!("{} runs of {source}", rows.len());
    let picture = scatter(&[("TPOT, ms", tpot), ("TTFT, ms", ttft)], &title);
    picture::write(&picture, path)
}

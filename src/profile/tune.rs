//! `moecast profile tune`: constants of a deployment from a user's own benchmark runs.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use moecast_profiles::calibration::{
    Calibration, Factors, Group, Key, MeasuredRun, Options, Tuned, read_runs, tune,
};
use moecast_profiles::engine;
use moecast_profiles::seed::Seed;
use rayon::prelude::*;
use serde_json::json;

use crate::cli::Global;
use crate::cli::profile::Tune;
use crate::files;
use crate::measured::{self, Explained, Trial};
use crate::output::{Measure, Output, Table};

/// Longest file of runs that is read.
const RUNS_BYTES_MAX: u64 = 64 << 20;
/// How often runs are simulated and factors fitted to them: the second time where the first fit
/// ended, because other factors let other requests share passes.
const ROUNDS: usize = 3;

pub(crate) fn run(arguments: &Tune, global: &Global, output: &Output) -> Result<()> {
    files::apart(&arguments.output, [&arguments.runs])?;
    let shown = arguments.runs.display().to_string();
    let bytes = files::read_small(&arguments.runs, RUNS_BYTES_MAX)?;
    let mut runs = read_runs(&bytes, &shown)?;
    ensure!(!runs.is_empty(), "{shown}: no runs; expected at least one line below the header");
    let profile = arguments.profile.as_deref();
    for run in runs.iter_mut().filter(|run| run.kernel_source.is_empty()) {
        run.kernel_source = profile.unwrap_or(measured::SHIPPED).to_owned();
    }
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut able = Vec::new();
    for (run, trial) in runs.iter().zip(measured::trials(&runs, profile, Seed(global.seed))) {
        match trial {
            Ok(trial) => able.push((run, trial)),
            Err(why) => *left_out.entry(why).or_default() += 1,
        }
    }
    let bar = output.progress("tune", (able.len() * (ROUNDS + 1)) as u64, Measure::Count);
    let tuned = fit(&able, &|| bar.inc(1));
    bar.finish_and_clear();
    files::write_bytes(&arguments.output, tuned.calibration.write().as_bytes())?;
    for run in &tuned.left_out {
        *left_out.entry(run.reason.clone()).or_default() += 1;
    }
    answer(arguments, &tuned, &left_out, output)
}

fn defaults(run: &MeasuredRun) -> Factors {
    let engine = engine::find(&run.engine).expect("the deployment was built for it");
    Factors::of(engine.at(&run.version))
}

/// Simulates, fits to what the parts of the simulated times say, and goes on from there.
fn fit(able: &[(&MeasuredRun, Trial)], done: &(dyn Fn() + Sync)) -> Tuned {
    let runs: Vec<MeasuredRun> = able.iter().map(|(run, _)| (*run).clone()).collect();
    let mut best = Tuned::default();
    let mut calibration = Calibration::default();
    for round in 0..=ROUNDS {
        let explained: BTreeMap<&str, Explained> = able
            .par_iter()
            .with_max_len(1)
            .map(|(run, trial)| {
                let factors = record_of(&calibration, run).unwrap_or_else(|| defaults(run));
                let explained = measured::explain(trial, factors);
                done();
                (run.id.as_str(), explained)
            })
            .collect();
        if round > 0 {
            judge(&mut best, &calibration, &runs, &explained);
        }
        if round == ROUNDS {
            break;
        }
        let predict = |run: &MeasuredRun, factors: &Factors| {
            Some(explained.get(run.id.as_str())?.predict(factors))
        };
        let tuned = tune(&runs, &predict, &defaults, Options::default());
        calibration = tuned.calibration.clone();
        if round == 0 {
            best = tuned;
        } else {
            best.calibration = tuned.calibration;
            for (group, newer) in best.groups.iter_mut().zip(tuned.groups) {
                group.predictions += newer.predictions;
                group.loss_after = newer.loss_after;
            }
        }
    }
    best
}

fn record_of(calibration: &Calibration, run: &MeasuredRun) -> Option<Factors> {
    let key = Key::of(run);
    let found = calibration.records().iter().find(|record| record.key == key)?;
    Some(found.factors)
}

/// Errors of the records as simulated, in the place of those that the parts promised.
fn judge(
    best: &mut Tuned,
    calibration: &Calibration,
    runs: &[MeasuredRun],
    explained: &BTreeMap<&str, Explained>,
) {
    for (group, record) in best.groups.iter_mut().zip(calibration.records()) {
        let errors = |which: fn(&MeasuredRun, &Explained, &Factors) -> f64| {
            let mut all: Vec<f64> = runs
                .iter()
                .filter(|run| Key::of(run) == record.key)
                .filter_map(|run| Some((run, explained.get(run.id.as_str())?)))
                .map(|(run, known)| which(run, known, &record.factors).abs())
                .collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(0.0)
        };
        group.after.tpot = errors(|run, known, at| known.predict(at).tpot_ms / run.tpot_ms - 1.0);
        group.after.ttft = errors(|run, known, at| known.predict(at).ttft_ms / run.ttft_ms - 1.0);
    }
}

fn answer(
    arguments: &Tune,
    tuned: &Tuned,
    left_out: &BTreeMap<String, usize>,
    output: &Output,
) -> Result<()> {
    if output.wants_json() {
        let records: Vec<_> = tuned.groups.iter().zip(tuned.calibration.records()).collect();
        let records: Vec<_> = records
            .iter()
            .map(|(group, record)| {
                json!({
                    "key": {
                        "engine": record.key.engine, "version": record.key.version,
                        "kernel_source": record.key.kernel_source, "gpu": record.key.gpu,
                        "model": record.key.model,
                    },
                    "decode_factor": record.factors.decode_factor,
                    "prefill_factor": record.factors.prefill_factor,
                    "host_time_us": record.factors.host_time.0 as f64 * 1e-3,
                    "ttft_offset_us": record.factors.ttft_offset.0 as f64 * 1e-3,
                    "runs": group.runs,
                    "points": group.points,
                    "before": { "ttft": group.before.ttft, "tpot": group.before.tpot },
                    "after": { "ttft": group.after.ttft, "tpot": group.after.tpot },
                })
            })
            .collect();
        let left: Vec<_> =
            left_out.iter().map(|(why, runs)| json!({ "reason": why, "runs": runs })).collect();
        output.json(&json!({ "file": arguments.output, "records": records, "left_out": left }))?;
        return Ok(());
    }
    output.table(&table(tuned))?;
    output.note(
        "\nerrors are medians on the runs that the record was fitted to: no evidence; judge it on \
         others with `moecast validate --calibration`",
    )?;
    for (why, runs) in left_out {
        output.note(&format!("note: {runs} runs left out: {why}"))?;
    }
    let records = tuned.calibration.records().len();
    output.line(&format!("{}: {records} records", arguments.output.display()))
}

fn table(tuned: &Tuned) -> Table {
    let headings = [
        "engine",
        "version",
        "gpu",
        "model",
        "points",
        "decode",
        "prefill",
        "host",
        "offset",
        "TPOT error",
        "TTFT error",
    ];
    let mut table = Table::new(&headings);
    let arrow = |group: &Group, value: fn(&moecast_profiles::calibration::Errors) -> f64| {
        let percent = |errors| format!("{:.0}%", value(errors) * 100.0);
        format!("{} -> {}", percent(&group.before), percent(&group.after))
    };
    for (group, record) in tuned.groups.iter().zip(tuned.calibration.records()) {
        let Factors { decode_factor, prefill_factor, host_time, ttft_offset } = record.factors;
        table.row([
            record.key.engine.clone(),
            record.key.version.clone(),
            record.key.gpu.clone(),
            record.key.model.clone(),
            record.points.to_string(),
            format!("{decode_factor:.2}"),
            format!("{prefill_factor:.2}"),
            host_time.to_string(),
            ttft_offset.to_string(),
            arrow(group, |errors| errors.tpot),
            arrow(group, |errors| errors.ttft),
        ]);
    }
    table
}

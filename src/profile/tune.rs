//! `moecast profile tune`: constants of a deployment from a user's own benchmark runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use moecast_profiles::calibration::{
    Factors, Group, MeasuredRun, Options, Predicted, Tuned, read_runs, tune,
};
use moecast_profiles::cost::CostModel;
use moecast_profiles::engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::{DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_sim::steady::{ClosedLoop, Deployment, Surroundings};
use serde_json::json;

use crate::cli::Global;
use crate::cli::profile::Tune;
use crate::facts::Layout;
use crate::output::{Output, Table};
use crate::{facts, files};

/// Longest file of runs that is read.
const RUNS_BYTES_MAX: u64 = 64 << 20;
/// Requests of one client, as InferenceX measures.
const REQUESTS_PER_CLIENT: u32 = 10;

/// A deployment that runs were measured on.
struct Built {
    model: ModelShape,
    cost: Arc<dyn CostModel>,
}

pub(crate) fn run(arguments: &Tune, global: &Global, output: &Output) -> Result<()> {
    files::apart(&arguments.output, [&arguments.runs])?;
    let shown = arguments.runs.display().to_string();
    let bytes = files::read_small(&arguments.runs, RUNS_BYTES_MAX)?;
    let mut runs = read_runs(&bytes, &shown)?;
    ensure!(!runs.is_empty(), "{shown}: no runs; expected at least one line below the header");
    let mut deployments: BTreeMap<String, std::result::Result<Built, String>> = BTreeMap::new();
    for run in &mut runs {
        let built = deployments.entry(key(run)).or_insert_with(|| {
            build(run, arguments.profile.as_deref()).map_err(|error| format!("{error:#}"))
        });
        if let (true, Ok(_)) = (run.kernel_source.is_empty(), built) {
            run.kernel_source = arguments.profile.clone().unwrap_or_else(|| "shipped".to_owned());
        }
    }
    let (able, unable): (Vec<MeasuredRun>, Vec<MeasuredRun>) =
        runs.into_iter().partition(|run| deployments[&key(run)].is_ok());
    let predict = |run: &MeasuredRun, factors: &Factors| {
        let built = deployments.get(&key(run))?.as_ref().ok()?;
        Some(predict(run, built, factors, Seed(global.seed)))
    };
    let defaults = |run: &MeasuredRun| {
        let engine = engine::find(&run.engine).expect("the deployment was built for it");
        Factors::of(engine.at(&run.version))
    };
    let spinner = output.spinner("tune");
    let tuned = tune(&able, &predict, &defaults, Options::default());
    spinner.finish_and_clear();
    files::write_bytes(&arguments.output, tuned.calibration.write().as_bytes())?;
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for run in &unable {
        let why = deployments[&key(run)].as_ref().err().cloned().unwrap_or_default();
        *left_out.entry(why).or_default() += 1;
    }
    for run in &tuned.left_out {
        *left_out.entry(run.reason.clone()).or_default() += 1;
    }
    answer(arguments, &tuned, &left_out, output)
}

/// What runs of one deployment share.
fn key(run: &MeasuredRun) -> String {
    let MeasuredRun { model, gpu, tp, ep, moe_tp, dp, engine, version, .. } = run;
    format!("{model}|{gpu}|{tp}|{ep}|{moe_tp}|{dp}|{engine}|{version}|{}", run.moe_weight_dtype)
}

fn build(run: &MeasuredRun, profile: Option<&str>) -> Result<Built> {
    let name =
        facts::preset_in(&run.model).with_context(|| format!("{}: no model preset", run.model))?;
    let mut model = facts::model(name)?;
    model.expert_type = match run.moe_weight_dtype.as_str() {
        "" => model.expert_type,
        "fp8" | "fp8_block" => DataType::Fp8,
        "bfloat16" => DataType::Bf16,
        "w4a16_mxfp4" | "w4a8_mxfp4_mxfp8" | "mxfp4" => DataType::Mxfp4,
        other => anyhow::bail!("expert weights in {other}: expected bf16, fp8 or mxfp4"),
    };
    let gpus = run.n_gpus.clamp(1, 8);
    let hardware = Hardware::from_spec(&format!("{}:1x{gpus}", run.gpu))?;
    engine::find(&run.engine)?;
    let narrow = |ranks: u32| u16::try_from(ranks).context("at most 65535 ranks");
    let layout = Layout {
        tensor: narrow(run.tp)?,
        expert_tensor: narrow(run.moe_tp)?,
        experts: narrow(run.ep)?,
    };
    let costs = facts::costs_of(None, profile, &model, &hardware, &run.engine, layout)?;
    Ok(Built { model, cost: costs.kernels.model })
}

fn predict(run: &MeasuredRun, built: &Built, factors: &Factors, seed: Seed) -> Predicted {
    let deployment = Deployment {
        model: &built.model,
        cost: built.cost.as_ref(),
        data_ranks: u16::try_from(run.dp).unwrap_or(u16::MAX),
        expert_ranks: u16::try_from(run.ep).unwrap_or(u16::MAX),
        seed,
    };
    let mean = |nominal: u32| (f64::from(nominal) * (1.0 + run.length_range) / 2.0) as u32;
    let load = ClosedLoop {
        concurrency: run.concurrency,
        input_tokens: mean(run.isl).max(1),
        output_tokens: mean(run.osl).max(1),
        requests_per_client: REQUESTS_PER_CLIENT,
    };
    let around = Surroundings {
        decode_factor: factors.decode_factor,
        prefill_factor: factors.prefill_factor,
        host_time: factors.host_time,
        ttft_offset: factors.ttft_offset,
    };
    let seen = deployment.closed_loop(load, around);
    Predicted { ttft_ms: seen.ttft_ms, tpot_ms: seen.tpot_ms }
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
        "\nerrors are medians on the runs that the record was fitted to: no evidence. Predictions \
         are the steady state in closed form, without queues",
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

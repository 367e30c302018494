//! Measured runs of real deployments, run again in the simulator: what `validate` judges by and
//! `profile tune` fits with.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use moecast_profiles::calibration::{Factors, MeasuredRun, Predicted};
use moecast_profiles::model::DataType;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Nanos, SimTime};
use moecast_sim::serving::record::{PassParts, PassRecord, RequestRecord};
use moecast_sim::serving::service::{
    Limits, PoolSetting, Preemption, Role, RoutingSource, Speculation,
};
use moecast_sim::serving::{self, Layout, Observer, Service, Setting, router};
use moecast_traces::requests::Load;
use moecast_traces::requests::generators::{self, Length, Lengths};

use crate::deployment::{Deployment, Names};
use crate::facts;

/// Requests of one client, as InferenceX measures.
const REQUESTS_PER_CLIENT: u32 = 10;

/// What calibration records call the kernel tables that ship with moecast.
pub(crate) const SHIPPED: &str = "shipped";

/// A measured run, ready to be simulated.
pub(crate) struct Trial {
    service: Service,
    /// Requests at the start that the figures leave out.
    warm_up: u64,
}

/// A trial for each of `runs`, or why there is none. Runs of one deployment share what was
/// prepared for it.
pub(crate) fn trials(
    runs: &[MeasuredRun],
    profile: Option<&str>,
    seed: Seed,
) -> Vec<Result<Trial, String>> {
    let mut built: BTreeMap<String, Result<Service, String>> = BTreeMap::new();
    let said = |error: anyhow::Error| format!("{error:#}");
    let of = |run: &MeasuredRun| {
        let service =
            built.entry(key(run)).or_insert_with(|| service(run, profile, seed).map_err(said));
        let load = load(run, seed).map_err(said)?;
        let service = service.as_ref().map_err(Clone::clone)?;
        let service = service.limited(limits(run), load).map_err(|error| said(error.into()))?;
        let warm_up = if steady(run) { u64::from(run.concurrency) } else { 0 };
        Ok(Trial { service, warm_up })
    };
    runs.iter().map(of).collect()
}

/// What runs of one deployment share.
fn key(run: &MeasuredRun) -> String {
    let MeasuredRun { model, gpu, tp, ep, moe_tp, dp, engine, version, .. } = run;
    format!("{model}|{gpu}|{tp}|{ep}|{moe_tp}|{dp}|{engine}|{version}|{}", run.moe_weight_dtype)
}

/// The service that `run` measured.
fn service(run: &MeasuredRun, profile: Option<&str>, seed: Seed) -> Result<Service> {
    let name =
        facts::preset_in(&run.model).with_context(|| format!("{}: no model preset", run.model))?;
    let mut model = facts::model(name)?;
    model.expert_type = match run.moe_weight_dtype.as_str() {
        "" => model.expert_type,
        "fp8" | "fp8_block" => DataType::Fp8,
        "bfloat16" => DataType::Bf16,
        "w4a16_mxfp4" | "w4a8_mxfp4_mxfp8" | "mxfp4" => DataType::Mxfp4,
        "int4" | "int4_wo" => DataType::Int4,
        other => anyhow::bail!("expert weights in {other}: expected bf16, fp8, mxfp4 or int4"),
    };
    model.dense_type = match (run.precision.as_str(), model.expert_type) {
        // Checkpoints with 4-bit experts leave everything else as it was.
        (_, DataType::Mxfp4 | DataType::Int4) | ("bf16" | "bfloat16", _) => DataType::Bf16,
        ("fp8", _) => DataType::Fp8,
        _ => model.dense_type,
    };
    let narrow = |ranks: u32| u16::try_from(ranks).context("at most 65535 ranks");
    let layout = Layout {
        tensor: narrow(run.tp)?,
        data: narrow(run.dp)?,
        expert: narrow(run.ep)?,
        expert_tensor: narrow(run.moe_tp)?,
        pipeline: 1,
    };
    let deployment = Deployment::new(Names {
        model,
        gpu: &run.gpu,
        gpus_per_node: 0,
        engine: &run.engine,
        version: &run.version,
        layout,
        cost: None,
        profile,
        phase: None,
    })?;
    let routing = match facts::likeness(&deployment.model, seed)? {
        Some(trace) => RoutingSource::Mean(trace),
        None => RoutingSource::Even,
    };
    let pool = deployment.pool(Role::Both, 1, routing, None, Limits::default())?;
    alone(deployment, pool, Speculation::default(), seed)
}

/// One pool of `deployment` without calibration, under the smallest load.
pub(crate) fn alone(
    deployment: Deployment,
    pool: PoolSetting,
    speculation: Speculation,
    seed: Seed,
) -> Result<Service> {
    Ok(Service::new(Setting {
        factors: Factors::of(&deployment.engine),
        model: deployment.model,
        engine: deployment.engine,
        pools: vec![pool],
        router: router::find("round-robin")?,
        load: smallest_load(seed)?,
        speculation,
        preemption: Preemption::Recompute,
        prefix_cache: false,
        seed,
    })?)
}

/// One request of one token: what a service is built with before it gets a run's own load.
fn smallest_load(seed: Seed) -> Result<Load> {
    let values = BTreeMap::from([("clients".to_owned(), 1.0)]);
    let one = Length::Fixed { tokens: 1 };
    Ok(generators::generate(
        "closed-loop",
        &values,
        Lengths::Drawn { input: one, output: one },
        seed,
    )?)
}

/// What the clients of `run` ask.
fn load(run: &MeasuredRun, seed: Seed) -> Result<Load> {
    let values = BTreeMap::from([
        ("clients".to_owned(), f64::from(run.concurrency)),
        ("requests-per-client".to_owned(), f64::from(REQUESTS_PER_CLIENT)),
    ]);
    let length = |nominal| Length::Uniform { nominal, low: run.length_range, high: 1.0 };
    let lengths = Lengths::Drawn { input: length(run.isl), output: length(run.osl) };
    let load = generators::generate("closed-loop", &values, lengths, seed)?;
    Ok(match load {
        Load::Closed(clients) if steady(run) => Load::Closed(clients.staggered()),
        load => load,
    })
}

/// Whether clients are spread over a turn. Lengths that never vary leave clients in step for ever
/// in a simulation, not where a scheduler mixes prompts into passes that generate: measured times
/// to the first token hardly grow with the number of clients. Passes of prompts alone keep them in
/// step.
fn steady(run: &MeasuredRun) -> bool {
    run.length_range == 1.0 && run.engine != "sglang"
}

/// The limits that `run` was measured under: its own, or those that the scripts of InferenceX
/// start its engine with (SemiAnalysisAI/InferenceX, `benchmarks/`, 2025 and 2026). TensorRT-LLM
/// gets room for one prompt beside its clients, SGLang for 32,768 tokens of prompts.
fn limits(run: &MeasuredRun) -> Limits {
    let clients = run.concurrency.div_ceil(run.dp);
    let gpt_oss = run.model.to_lowercase().contains("gpt-oss");
    let (tokens, graph) = match run.engine.as_str() {
        "trtllm" if gpt_oss => (Some(20_000), Some(clients)),
        "trtllm" => (Some((clients + run.isl + 64).next_multiple_of(64)), None),
        "sglang" => (Some(32_768), Some(clients)),
        _ => (None, None),
    };
    Limits {
        step_tokens_max: run.step_tokens_max.or(tokens),
        sequences_max: run.sequences_max.or(Some(clients)),
        kv_tokens: None,
        graph_batch_max: graph,
    }
}

/// Mean times of a simulated run, as benchmarks report them.
pub(crate) fn predict(trial: &Trial, factors: Factors) -> Predicted {
    explain(trial, factors).predict(&factors)
}

/// A run with the parts of its mean times: what other factors would make of it, as long as they
/// do not change which requests share passes.
pub(crate) struct Explained {
    factors: Factors,
    ttft: Parts,
    tpot: Parts,
    /// Between sending and scheduler.
    offset: f64,
}

/// Parts of a mean time, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    decode: f64,
    prefill: f64,
    host: f64,
}

impl Parts {
    fn of(pass: &PassParts) -> Self {
        let ms = |time: Nanos| time.0 as f64 * 1e-6;
        Self { decode: ms(pass.decode), prefill: ms(pass.prefill), host: ms(pass.host) }
    }

    /// `share` of `more` on top.
    fn plus(&self, more: &Self, share: f64) -> Self {
        Self {
            decode: self.decode + more.decode * share,
            prefill: self.prefill + more.prefill * share,
            host: self.host + more.host * share,
        }
    }
}

impl Explained {
    /// The mean times under `factors`; exact under those of the run.
    pub(crate) fn predict(&self, factors: &Factors) -> Predicted {
        let ns = |time: Nanos| time.0.max(1) as f64;
        let base = &self.factors;
        let decode = factors.decode_factor / base.decode_factor;
        let prefill = factors.prefill_factor / base.prefill_factor;
        let host = ns(factors.host_time) / ns(base.host_time);
        let sum =
            |parts: &Parts| parts.decode * decode + parts.prefill * prefill + parts.host * host;
        let offset = self.offset * ns(factors.ttft_offset) / ns(base.ttft_offset);
        Predicted { ttft_ms: offset + sum(&self.ttft), tpot_ms: sum(&self.tpot) }
    }
}

/// Simulates a run under `factors`. One replica, one pass at a time.
pub(crate) fn explain(trial: &Trial, factors: Factors) -> Explained {
    let mut clock = Clock { warm_up: trial.warm_up, ..Clock::default() };
    serving::run(&trial.service.with_factors(factors), &mut clock, &mut |_| ());
    let mean = |(sum, count): (Parts, u64)| Parts::default().plus(&sum, 1.0 / count.max(1) as f64);
    let offset = clock.offset.0 as f64 * 1e-6 / clock.ttft.1.max(1) as f64;
    Explained { factors, ttft: mean(clock.ttft), tpot: mean(clock.tpot), offset }
}

/// Sums up the parts of passes, so that any stretch of time can be told apart into them.
#[derive(Default)]
struct Clock {
    /// Requests at the start that do not count.
    warm_up: u64,
    /// Sum over requests of the times between sending and scheduler.
    offset: Nanos,
    /// Ends of passes, and the parts of all passes until then.
    ends: Vec<(SimTime, Parts)>,
    /// Sums over requests, and how many.
    ttft: (Parts, u64),
    tpot: (Parts, u64),
}

impl Clock {
    /// Parts of all passes until `time`; of a pass under way, as much as has gone by.
    fn until(&self, time: SimTime) -> Parts {
        let after = self.ends.partition_point(|(end, _)| *end <= time);
        let (start, parts) =
            after.checked_sub(1).map_or((SimTime(0), Parts::default()), |last| self.ends[last]);
        let Some((end, more)) = self.ends.get(after) else { return parts };
        // Passes follow each other while anybody waits, so the next one began at the last's end.
        let share = time.since(start).0 as f64 / end.since(start).0 as f64;
        parts.plus(&more.plus(&parts, -1.0), share)
    }
}

impl Observer for Clock {
    fn request(&mut self, record: &RequestRecord) {
        if record.id < self.warm_up {
            return;
        }
        let first = self.until(record.first_token);
        let waited = first.plus(&self.until(record.reached), -1.0);
        self.offset += record.reached.since(record.arrival);
        self.ttft = (self.ttft.0.plus(&waited, 1.0), self.ttft.1 + 1);
        if record.output_tokens > 1 {
            let decoded = self.until(record.finished).plus(&first, -1.0);
            let share = 1.0 / f64::from(record.output_tokens - 1);
            self.tpot = (self.tpot.0.plus(&decoded, share), self.tpot.1 + 1);
        }
    }

    fn pass(&mut self, pass: &PassRecord<'_>) {
        let before = self.ends.last().map_or(Parts::default(), |(_, parts)| *parts);
        self.ends.push((pass.start + pass.time, before.plus(&Parts::of(&pass.parts), 1.0)));
    }

    fn token_gaps(&mut self, _: Nanos, _: u32) {}
}

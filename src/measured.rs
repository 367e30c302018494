//! Measured runs of real deployments, run again in the simulator: what `validate` judges by and
//! `profile tune` fits with.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use moecast_profiles::calibration::{Factors, MeasuredRun, Predicted};
use moecast_profiles::model::DataType;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Nanos;
use moecast_sim::serving::record::{PassRecord, RequestRecord};
use moecast_sim::serving::service::{Limits, Preemption, Role, RoutingSource, Speculation};
use moecast_sim::serving::{self, Layout, Observer, Service, Setting, router};
use moecast_traces::requests::Load;
use moecast_traces::requests::generators::{self, Length, Lengths};

use crate::deployment::{Deployment, Names};
use crate::facts;

/// Requests of one client, as InferenceX measures.
const REQUESTS_PER_CLIENT: u32 = 10;

/// What runs of one deployment share.
pub(crate) fn key(run: &MeasuredRun) -> String {
    let MeasuredRun { model, gpu, tp, ep, moe_tp, dp, engine, version, .. } = run;
    format!("{model}|{gpu}|{tp}|{ep}|{moe_tp}|{dp}|{engine}|{version}|{}", run.moe_weight_dtype)
}

/// The service that `run` measured, under its load.
pub(crate) fn service(run: &MeasuredRun, profile: Option<&str>, seed: Seed) -> Result<Service> {
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
    })?;
    let routing = match facts::likeness(&deployment.model, seed)? {
        Some(trace) => RoutingSource::Mean(trace),
        None => RoutingSource::Even,
    };
    let pool = deployment.pool(Role::Both, 1, routing, None, Limits::default());
    let factors = Factors::of(&deployment.engine);
    Ok(Service::new(Setting {
        model: deployment.model,
        engine: deployment.engine,
        factors,
        pools: vec![pool],
        router: router::find("round-robin")?,
        load: load(run, seed)?,
        speculation: Speculation::default(),
        preemption: Preemption::Recompute,
        prefix_cache: false,
        seed,
    })?)
}

/// What the clients of `run` ask.
pub(crate) fn load(run: &MeasuredRun, seed: Seed) -> Result<Load> {
    let values = BTreeMap::from([
        ("clients".to_owned(), f64::from(run.concurrency)),
        ("requests-per-client".to_owned(), f64::from(REQUESTS_PER_CLIENT)),
    ]);
    let length = |nominal| Length::Uniform { nominal, low: run.length_range, high: 1.0 };
    let lengths = Lengths::Drawn { input: length(run.isl), output: length(run.osl) };
    Ok(generators::generate("closed-loop", &values, lengths, seed)?)
}

/// Mean times of a simulated run, as benchmarks report them.
pub(crate) fn predict(service: &Service, factors: Factors) -> Predicted {
    let mut means = Means::default();
    serving::run(&service.with_factors(factors), &mut means, &mut |_| ());
    let mean = |(sum, count): (f64, u64)| if count > 0 { sum / count as f64 } else { 0.0 };
    Predicted { ttft_ms: mean(means.ttft), tpot_ms: mean(means.tpot) }
}

/// Sums and counts of milliseconds.
#[derive(Default)]
struct Means {
    ttft: (f64, u64),
    tpot: (f64, u64),
}

impl Observer for Means {
    fn request(&mut self, record: &RequestRecord) {
        let ms = |time: Nanos| time.0 as f64 * 1e-6;
        self.ttft.0 += ms(record.first_token.since(record.arrival));
        self.ttft.1 += 1;
        if record.output_tokens > 1 {
            let decoding = ms(record.finished.since(record.first_token));
            self.tpot.0 += decoding / f64::from(record.output_tokens - 1);
            self.tpot.1 += 1;
        }
    }

    fn pass(&mut self, _: &PassRecord<'_>) {}

    fn token_gaps(&mut self, _: Nanos, _: u32) {}
}

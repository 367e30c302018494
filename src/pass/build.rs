//! From a pass as typed to one that can be run.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use moecast_planner::algorithms;
use moecast_planner::problem::{Problem, Shape};
use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::exchange;
use moecast_profiles::engine::Phase;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::{DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;
use moecast_sim::forward::{Forward, Repeated, Setting};
use moecast_sim::serving::service::RoutingSource;
use moecast_traces::split::split;
use moecast_traces::{Header, RoutingTrace, TraceBuilder};

use super::file::{BatchFile, ModelFile, PassFile};
use crate::deployment::{Deployment, Names};
use crate::facts;

/// A pass that can be run, and what to say about it.
pub(crate) struct Built {
    pub(crate) forward: Forward,
    pub(crate) gpus: u32,
    pub(crate) gpus_per_node: u16,
    /// Layout, machine, exchange, placement and overlap.
    pub(crate) about: String,
}

/// `folder` is where paths start.
pub(crate) fn build(file: &PassFile, folder: &Path, seed: Seed) -> Result<Built> {
    let model = model(&file.model, folder)?;
    let mut deployment = Deployment::new(Names {
        model,
        gpu: &file.gpu,
        gpus_per_node: file.gpus_per_node,
        engine: &file.engine,
        version: &file.engine_version,
        layout: file.layout.resolve(),
        cost: file.cost.as_deref(),
        profile: None,
        phase: Some(if file.batch.prompts > 0 { Phase::Prefill } else { Phase::Decode }),
    })?;
    if let Some(network) = file.network {
        let Deployment { hardware, .. } = &mut deployment;
        let mut device = hardware.device().clone();
        device.network_bandwidth.value = network;
        *hardware = Hardware::new(device, hardware.nodes(), hardware.gpus_per_node())?;
    }
    let BatchFile { requests, context, prompts, prompt_tokens } = file.batch;
    let carrier = deployment.exchange(file.exchange.as_deref(), prompts > 0)?;
    let trace = routing(file, folder, &deployment, seed)?;
    // What a placement is made on is not what it is judged on.
    let (seen, trace) = match trace {
        Some(trace) if trace.tokens().is_some() && trace.request_count() > Some(1) => {
            let parts = split(&trace, HELDOUT, seed, &file.routing)?;
            (Some(Arc::new(parts.train)), Some(Arc::new(parts.heldout)))
        }
        counted => (counted.clone(), counted),
    };
    let placement = place(file, &deployment, seen.as_deref(), seed)?;
    let overlap = file.overlap.resolve()?;
    let collective = collective(file, &deployment)?;
    let (gpus, gpus_per_node) = (deployment.layout.gpus(), deployment.hardware.gpus_per_node());
    let about = format!(
        "{} on {} under {}, {}, {} slots by {}, {} routing, overlap: {overlap}",
        deployment.model.name,
        deployment.hardware.spec(),
        deployment.engine.name,
        deployment.layout,
        placement.slots(),
        file.algorithm,
        file.routing,
    );
    let forward = Forward::new(Setting {
        factors: Factors::of(&deployment.engine),
        hardware: deployment.hardware,
        layout: deployment.layout,
        kernels: deployment.costs.kernels,
        model: deployment.model,
        exchange: carrier,
        placement: Some(placement),
        routing: trace.map_or(RoutingSource::Even, RoutingSource::Mean),
        batch: Repeated { requests, context, prompts, prompt_tokens },
        overlap,
        scope: file.scope,
        collective,
        seed,
    })?;
    Ok(Built { forward, gpus, gpus_per_node, about })
}

/// Share of the requests that tokens are drawn from; a placement is made on the others.
const HELDOUT: f64 = 0.5;

/// What gathers weights and sums gradients.
const COLLECTIVE: &str = "all-gather-reduce-scatter";

fn collective(
    file: &PassFile,
    deployment: &Deployment,
) -> Result<Option<Arc<dyn exchange::ExchangeModel>>> {
    if !file.scope.gathers() {
        return Ok(None);
    }
    let Deployment { model, hardware, .. } = deployment;
    let built = (exchange::find(COLLECTIVE)?.build)(&exchange::Setting {
        hardware,
        model,
        dispatch_type: DataType::Bf16,
        combine_type: DataType::Bf16,
        profile: None,
    });
    Ok(Some(built.context("scope")?))
}

pub(crate) fn model(file: &ModelFile, folder: &Path) -> Result<ModelShape> {
    match file {
        ModelFile::Named(name) if name.ends_with(".json") => {
            facts::model(&folder.join(name).display().to_string())
        }
        ModelFile::Named(name) => facts::model(name),
        ModelFile::Shape(shape) => {
            shape.validate()?;
            Ok(ModelShape::clone(shape))
        }
    }
}

fn routing(
    file: &PassFile,
    folder: &Path,
    deployment: &Deployment,
    seed: Seed,
) -> Result<Option<Arc<RoutingTrace>>> {
    let name = &deployment.model.name;
    match file.routing.as_str() {
        "even" => Ok(None),
        "like" => {
            let like = facts::likeness_to_split(&deployment.model, seed)?;
            let like = like.with_context(|| {
                format!(
                    "routing: like {name}, of which nothing is published; expected even, or a trace"
                )
            })?;
            Ok(Some(like))
        }
        other if other.starts_with("zipf ") => Ok(Some(Arc::new(zipf(other, &deployment.model)?))),
        path => Ok(Some(Arc::new(facts::trace(&folder.join(path))?.trace))),
    }
}

/// Counts of `text`, `zipf S`: popular experts are other ones in every layer.
fn zipf(text: &str, model: &ModelShape) -> Result<RoutingTrace> {
    let exponent: Option<f64> = text.split_once(' ').and_then(|(_, number)| number.parse().ok());
    let exponent = exponent.filter(|exponent| (0.0..=4.0).contains(exponent));
    let exponent = exponent
        .with_context(|| format!("routing: {text}; expected zipf and an exponent of 0 to 4"))?;
    // Popular experts stand apart: the step shares no factor with the number of experts.
    let experts = u64::from(model.experts);
    let step = (experts * 5 / 8..).find(|step| common(*step, experts) == 1).expect("primes do");
    let mut counts = Vec::new();
    for layer in 0..model.moe_layers.len() as u64 {
        counts.extend((0..experts).map(|expert| {
            let rank = (expert + layer) * step % experts + 1;
            (f64::from(ZIPF_MOST) / (rank as f64).powf(exponent)) as u32
        }));
    }
    let layers = model.moe_layers.clone();
    let header = Header::new("zipf", &model.name, model.experts, model.top_k, layers);
    let mut builder = TraceBuilder::new(header);
    builder.push_counts(&counts);
    Ok(builder.finish(text)?)
}

/// Greatest common divisor.
fn common(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { common(right, left % right) }
}

/// Tokens of the most popular expert, in whose proportion all are chosen.
const ZIPF_MOST: u32 = 1_000_000;

/// The algorithm's placement over the loads of `trace`, or over even ones.
fn place(
    file: &PassFile,
    deployment: &Deployment,
    trace: Option<&RoutingTrace>,
    seed: Seed,
) -> Result<Placement> {
    let model = &deployment.model;
    let ranks = deployment.layout.expert;
    let shape = Shape {
        ranks,
        nodes: deployment.hardware.nodes(),
        groups: model.expert_groups,
        slots: file.slots.unwrap_or_else(|| {
            model.experts.next_multiple_of(ranks) + ranks * file.scope.materialise
        }),
    };
    let problem = match trace {
        Some(trace) => Problem::from_trace(trace, shape)?,
        None => {
            let layer = vec![1.0; usize::from(model.experts)];
            Problem::from_weights(&vec![layer; model.moe_layers.len()], shape)?
        }
    };
    Ok((algorithms::find(&file.algorithm)?.propose)(&problem, seed)?)
}

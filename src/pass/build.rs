//! From a pass as typed to one that can be run.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use moecast_planner::algorithms;
use moecast_planner::problem::{Problem, Shape};
use moecast_profiles::calibration::Factors;
use moecast_profiles::engine::Phase;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;
use moecast_sim::forward::{Forward, Repeated, Setting};
use moecast_sim::serving::service::RoutingSource;
use moecast_traces::RoutingTrace;

use super::file::{BatchFile, PassFile};
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
    let model = match file.model.ends_with(".json") {
        true => facts::model(&folder.join(&file.model).display().to_string())?,
        false => facts::model(&file.model)?,
    };
    let deployment = Deployment::new(Names {
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
    let BatchFile { requests, context, prompts, prompt_tokens } = file.batch;
    let exchange = deployment.exchange(file.exchange.as_deref(), prompts > 0)?;
    let trace = routing(file, folder, &deployment, seed)?;
    let placement = place(file, &deployment, trace.as_deref(), seed)?;
    let overlap = file.overlap.resolve()?;
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
        exchange,
        placement: Some(placement),
        routing: trace.map_or(RoutingSource::Even, RoutingSource::Mean),
        batch: Repeated { requests, context, prompts, prompt_tokens },
        overlap,
        seed,
    })?;
    Ok(Built { forward, gpus, gpus_per_node, about })
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
            let like = facts::likeness(&deployment.model, seed)?;
            let like = like.with_context(|| {
                format!(
                    "routing: like {name}, of which nothing is published; expected even, or a trace"
                )
            })?;
            Ok(Some(like))
        }
        path => Ok(Some(Arc::new(facts::trace(&folder.join(path))?.trace))),
    }
}

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
        slots: file.slots.unwrap_or_else(|| model.experts.next_multiple_of(ranks)),
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

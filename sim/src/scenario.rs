//! Everything that [`crate::run()`] may know: the file as typed, then the validated scenario.

use std::sync::Arc;

use moecast_profiles::cost::Kernels;
use moecast_profiles::cost::exchange::ExchangeModel;
use moecast_profiles::engine::Engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_traces::RoutingTrace;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::placement::Placement;

/// Which part of the recording is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of it.
    All,
    /// What the planner did not see.
    Heldout,
    /// What the planner saw.
    Train,
}

impl Part {
    /// The name as typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Heldout => "heldout",
            Self::Train => "train",
        }
    }
}

/// A scenario as it stands in `scenario.toml`. Paths are relative to that file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// Version of moecast that wrote it; informative.
    pub tool: String,
    /// The routing trace.
    pub trace: String,
    /// Its SHA-256; a file with another digest is refused.
    pub trace_sha256: String,
    /// The plan.
    pub plan: String,
    /// Its SHA-256; a file with another digest is refused.
    pub plan_sha256: String,
    /// Model preset, or path of a `config.json`.
    pub model: String,
    /// Cluster, `PRESET:NODESxGPUS`.
    pub cluster: String,
    /// Engine.
    pub engine: String,
    /// Kernel cost model.
    pub cost: String,
    /// Profile of measured kernels, where the cost model needs one: a shipped one, or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its SHA-256; a profile with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_sha256: Option<String>,
    /// Exchange model of every step; the engine's own, by the phase of a step, where there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// Part of the recording.
    pub part: Part,
    /// Placement algorithms that the plan is held against.
    pub baselines: Vec<String>,
    /// Context of every request where the recording does not know it, tokens.
    pub context_assumed: u32,
    /// Seed.
    pub seed: u64,
}

/// A validated scenario: one recording on one machine with one placement.
#[derive(Clone)]
pub struct Scenario {
    pub(crate) trace: RoutingTrace,
    pub(crate) model: ModelShape,
    pub(crate) hardware: Hardware,
    pub(crate) placement: Placement,
    pub(crate) engine: Engine,
    pub(crate) cost: Kernels,
    pub(crate) exchange: [Arc<dyn ExchangeModel>; 2],
    pub(crate) context_assumed: u32,
    pub(crate) seed: Seed,
}

/// What a scenario has besides its placement: shared by the placements that are compared.
#[derive(Clone)]
pub struct Setting {
    /// Model.
    pub model: ModelShape,
    /// Machine.
    pub hardware: Hardware,
    /// Engine.
    pub engine: Engine,
    /// Kernel costs, built for the model on the machine.
    pub cost: Kernels,
    /// Exchanges of steps that read prompts, and of those that only generate.
    pub exchange: [Arc<dyn ExchangeModel>; 2],
    /// Context of every request where the recording does not know it, tokens.
    pub context_assumed: u32,
    /// Seed.
    pub seed: Seed,
}

impl Scenario {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Error::Scenario`] when recording, model, placement and machine do not belong together.
    pub fn new(setting: Setting, trace: RoutingTrace, placement: Placement) -> Result<Self> {
        let Setting { model, hardware, engine, cost, exchange, context_assumed, seed } = setting;
        check_trace(&trace, &model)?;
        if placement.experts() != model.experts {
            let found = format!("{} experts", placement.experts());
            let expected = format!("the {} of {}", model.experts, model.name);
            return Err(Error::scenario("placement", found, expected));
        }
        if placement.layers().len() != model.moe_layers.len() {
            let found = format!("{} MoE layers", placement.layers().len());
            let expected = format!("the {} of {}", model.moe_layers.len(), model.name);
            return Err(Error::scenario("placement", found, expected));
        }
        placement.check_chains(&model.moe_layers)?;
        if placement.ranks() != hardware.ranks() {
            let found = format!("a placement for {} ranks", placement.ranks());
            let expected = format!("the {} GPUs of {}", hardware.ranks(), hardware.spec());
            return Err(Error::scenario("cluster", found, expected));
        }
        check_memory(&model, &hardware, &placement)?;
        Ok(Self {
            trace,
            model,
            hardware,
            placement,
            engine,
            cost,
            exchange,
            context_assumed,
            seed,
        })
    }

    /// The recording.
    #[must_use]
    pub fn trace(&self) -> &RoutingTrace {
        &self.trace
    }

    /// The placement.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}

/// Checks that `trace` can be a recording of `model`. Its top-k may differ: the recording wins.
///
/// # Errors
/// [`Error::Scenario`] names the figure that differs.
pub fn check_trace(trace: &RoutingTrace, model: &ModelShape) -> Result<()> {
    let header = trace.header();
    if header.experts != model.experts {
        let found = format!("{} experts per layer", header.experts);
        let expected = format!("the {} of {}", model.experts, model.name);
        return Err(Error::scenario("trace", found, expected));
    }
    if header.layers != model.moe_layers {
        let found = format!("MoE layers {}", show_layers(&header.layers));
        let expected = format!("{} of {}", show_layers(&model.moe_layers), model.name);
        return Err(Error::scenario("trace", found, expected));
    }
    Ok(())
}

fn show_layers(layers: &[u16]) -> String {
    match layers {
        [first, .., last] => format!("{first} to {last} ({} of them)", layers.len()),
        _ => format!("{layers:?}"),
    }
}

/// Experts alone must fit; other weights and caches come on top and are not checked here.
fn check_memory(model: &ModelShape, hardware: &Hardware, placement: &Placement) -> Result<()> {
    let slots = u64::from(placement.slots_per_rank()) * u64::from(model.distinct_moe_layers());
    let needed = model.expert_bytes() * slots;
    let memory = hardware.device().memory.value;
    if needed > memory {
        let found = format!("{needed} of expert weights on every GPU");
        let expected = format!("at most the {memory} of {}", hardware.device().name);
        return Err(Error::scenario("memory", found, expected));
    }
    Ok(())
}

//! What a placement algorithm is asked: recorded loads and the machine they must fit.

use moecast_profiles::ids::MoeLayer;
use moecast_sim::placement::check_divisible;
use moecast_traces::RoutingTrace;

use crate::error::{Error, Result};

/// Most recorded steps that a search looks at; longer recordings are sampled evenly.
pub const STEPS_MAX: usize = 512;

/// The recorded load of one MoE layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLoads {
    /// `[E]` tokens per expert over the whole recording.
    pub total: Vec<f32>,
    /// `[S][E]` tokens per expert of every step that the search looks at, row by row.
    pub steps: Vec<u32>,
}

/// Recorded loads and the machine they must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Logical experts per layer, `E`.
    pub experts: u16,
    /// Ranks, `R`.
    pub ranks: u16,
    /// Nodes; ranks are numbered node by node and divide by nodes.
    pub nodes: u16,
    /// Groups that the model's router limits its choice to; 1 where it does not.
    pub groups: u16,
    /// Physical slots per layer, `P`.
    pub slots: u16,
    /// Loads of every MoE layer.
    pub layers: Vec<LayerLoads>,
}

/// The machine that a problem is posed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Ranks.
    pub ranks: u16,
    /// Nodes.
    pub nodes: u16,
    /// Expert groups of the model.
    pub groups: u16,
    /// Physical slots per layer.
    pub slots: u16,
}

impl Problem {
    /// The problem of placing the experts that `trace` recorded.
    ///
    /// # Errors
    /// When slots do not divide by ranks, are fewer than experts, or ranks do not divide by nodes.
    pub fn from_trace(trace: &RoutingTrace, shape: Shape) -> Result<Self> {
        let experts = trace.header().experts;
        let sampled = sampled_steps(trace.steps().len());
        let layers = (0..trace.header().moe_layers())
            .map(|layer| layer_loads(trace, layer, &sampled))
            .collect();
        Self::new(experts, shape, layers)
    }

    /// The problem of placing experts of which only summed `weights` `[M][E]` are known.
    ///
    /// # Errors
    /// As [`Self::from_trace`], and when a layer has another number of experts than the first.
    pub fn from_weights(weights: &[Vec<f32>], shape: Shape) -> Result<Self> {
        let experts = weights.first().map_or(0, Vec::len);
        let layers = weights
            .iter()
            .map(|total| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "counts as floats"
                )]
                let step = total.iter().map(|&weight| weight.round() as u32).collect();
                LayerLoads { total: total.clone(), steps: step }
            })
            .collect();
        let experts = u16::try_from(experts)
            .map_err(|_| Error::problem("experts", experts.to_string(), "at most 65535"))?;
        Self::new(experts, shape, layers)
    }

    fn new(experts: u16, shape: Shape, layers: Vec<LayerLoads>) -> Result<Self> {
        let Shape { ranks, nodes, groups, slots } = shape;
        check_divisible(slots, ranks)?;
        if slots < experts || experts == 0 {
            let found = format!("{slots} slots for {experts} experts");
            return Err(Error::problem("slots", found, "a slot for every expert"));
        }
        if u32::from(slots) > u32::from(experts) * u32::from(ranks) {
            let found = format!("{slots} slots for {experts} experts on {ranks} ranks");
            return Err(Error::problem("slots", found, "at most one copy per expert and rank"));
        }
        if nodes == 0 || !ranks.is_multiple_of(nodes) {
            let found = format!("{ranks} ranks on {nodes} nodes");
            return Err(Error::problem("nodes", found, "nodes with equally many ranks"));
        }
        if groups == 0 || !experts.is_multiple_of(groups) {
            let found = format!("{experts} experts in {groups} groups");
            return Err(Error::problem("groups", found, "groups of equally many experts"));
        }
        for (ordinal, layer) in layers.iter().enumerate() {
            if layer.total.len() != usize::from(experts) {
                let place = format!("MoE layer {ordinal}");
                let found = format!("{} experts", layer.total.len());
                return Err(Error::problem(place, found, format!("{experts}")));
            }
        }
        Ok(Self { experts, ranks, nodes, groups, slots, layers })
    }

    /// Slots of one rank.
    #[must_use]
    pub fn slots_per_rank(&self) -> u16 {
        self.slots / self.ranks
    }
}

/// The steps that a search looks at: all of them, or [`STEPS_MAX`] evenly spaced ones.
fn sampled_steps(steps: usize) -> Vec<usize> {
    let kept = steps.min(STEPS_MAX);
    (0..kept).map(|index| index * steps / kept).collect()
}

fn layer_loads(trace: &RoutingTrace, layer: usize, sampled: &[usize]) -> LayerLoads {
    let layer = MoeLayer(u16::try_from(layer).expect("layer numbers are u16"));
    let experts = usize::from(trace.header().experts);
    let mut steps = vec![0_u32; sampled.len() * experts];
    for (row, &step) in steps.chunks_exact_mut(experts).zip(sampled) {
        trace.add_step_loads(step, layer, row);
    }
    #[expect(clippy::cast_precision_loss, reason = "EPLB computes in 32-bit floats too")]
    let total = trace.layer_loads(layer).into_iter().map(|load| load as f32).collect();
    LayerLoads { total, steps }
}

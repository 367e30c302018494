//! Placements that change while a recording is served: what rebalancing costs, and whether it pays.
//!
//! After every [`Policy::interval`] steps the loads of the last [`Policy::window`] steps are looked
//! at. Where they are out of balance an algorithm proposes a placement, and the weights that it
//! asks for travel over the links that tokens use. A layer is served by its new placement once its
//! weights have arrived, never before. Algorithms are closures that see the past alone.
//!
//! Links: a layer's weights take the latency of a class plus the bytes of its busiest port over
//! its bandwidth; classes run side by side, layers one after the other, as engines move them.
//! Beside traffic, weights have the links for what tokens leave of a step; what does not fit
//! delays the step. Deliberately absent: copies within a rank (memory is two hundred times as fast
//! as a network card), host memory as a source, caches of graphs that must be captured again.

mod clairvoyant;
mod every_step;
mod loads;
mod matching;
mod moving;
mod tape;
#[cfg(test)]
mod tests;
mod timeline;

use moecast_profiles::units::Nanos;

use crate::error::{Error, Result};
use crate::placement::Placement;
use crate::record::Run;
use crate::scenario::Scenario;

pub use clairvoyant::clairvoyant;
pub use loads::imbalance_of;
pub use moving::Moved;

/// Proposes a placement for loads `[M][E]` of the past; it must have as many experts, ranks and
/// slots as the one that is being served.
pub type Algorithm<'a> = dyn Fn(&[Vec<f64>]) -> Result<Placement> + Sync + 'a;

/// How weights come to their new ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Serving stands still until all layers have their weights (vLLM, `SGLang` by default).
    Blocking,
    /// So many layers at a time, beside the traffic of a step each (`TensorRT-LLM`,
    /// vllm-ascend, `SGLang` with `--eplb-rebalance-layers-per-chunk`).
    LayerByLayer {
        /// Layers whose weights move during one step.
        layers_per_step: usize,
    },
    /// Every expert has one home; in every step the free slots of all ranks are filled anew with
    /// copies of what was hot in the steps before, by a sparse all-gather, and nothing is kept
    /// (FSSDP of Hecate, arXiv 2502.02581). Interval, threshold and algorithm have no say.
    EveryStep,
}

/// When and how a placement changes.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Steps whose loads the algorithm sees.
    pub window: usize,
    /// Steps between two looks at the loads.
    pub interval: usize,
    /// Max over mean rank load of the window, mean over layers, above which the algorithm is
    /// asked. Loads are summed over the window first: what chance does to single steps no
    /// placement can mend.
    pub threshold: f64,
    /// How weights move.
    pub how: How,
    /// What proposes placements.
    pub algorithm: &'a Algorithm<'a>,
    /// What one call of it takes.
    pub algorithm_time: Nanos,
    /// Whether serving goes on while it is computed.
    pub algorithm_beside: bool,
}

impl Policy<'_> {
    fn check(&self) -> Result<()> {
        let counts = [("window", self.window), ("interval", self.interval)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::scenario(*name, "0", "at least 1 step"));
        }
        if let How::LayerByLayer { layers_per_step: 0 } = self.how {
            return Err(Error::scenario("layers per step", "0", "at least 1"));
        }
        if !(self.threshold.is_finite() && self.threshold >= 1.0) {
            let found = self.threshold.to_string();
            return Err(Error::scenario("threshold", found, "an imbalance, 1 or more"));
        }
        Ok(())
    }
}

/// One placement that was proposed, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalancing {
    /// Steps that were served before the loads were looked at.
    pub step: usize,
    /// Max over mean rank load of the window, mean over layers, as it was served.
    pub before: f64,
    /// The same of the placement that was proposed.
    pub proposed: f64,
    /// What was moved until the recording ended.
    pub moved: Moved,
    /// What it made serving wait.
    pub stall: Nanos,
}

/// A recording that was served by placements that change.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalanced {
    /// The steps by themselves.
    pub run: Run,
    /// `[S]` what each step waited for algorithm and weights.
    pub stalls: Vec<Nanos>,
    /// Placements that were proposed; none where copies are made in every step.
    pub rebalancings: Vec<Rebalancing>,
    /// How often loads were looked at.
    pub considered: u64,
    /// How often the algorithm was asked.
    pub calls: u64,
    /// All that was moved.
    pub moved: Moved,
}

impl Rebalanced {
    /// Time of all steps with what they waited.
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.run.steps.iter().map(|step| step.parts.total()).sum::<Nanos>() + self.stall()
    }

    /// What all steps waited for algorithm and weights.
    #[must_use]
    pub fn stall(&self) -> Nanos {
        self.stalls.iter().copied().sum()
    }
}

/// Serves the recording of `scenario`, beginning with its placement. `progress` is told how many
/// steps are done, from any thread.
///
/// The same scenario and policy give the same bytes on any number of threads.
///
/// # Errors
/// When the recording has no steps, a figure of `policy` cannot be, or the algorithm answers with
/// an error or a placement of another shape.
pub fn rebalance(
    scenario: &Scenario,
    policy: &Policy,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Rebalanced> {
    policy.check()?;
    if scenario.trace.steps().is_empty() {
        return Err(Error::scenario("trace", "no steps", "at least one recorded forward pass"));
    }
    match policy.how {
        How::EveryStep => every_step::serve(scenario, policy, progress),
        How::Blocking | How::LayerByLayer { .. } => timeline::serve(scenario, policy, progress),
    }
}

/// Checks that `proposed` can replace `served`.
fn check_shape(served: &Placement, proposed: &Placement) -> Result<()> {
    let shape = |placement: &Placement| {
        let layers = placement.layers().len();
        (placement.experts(), placement.ranks(), placement.slots(), layers)
    };
    if shape(served) == shape(proposed) {
        return Ok(());
    }
    let show = |placement: &Placement| {
        let (experts, ranks, slots, layers) = shape(placement);
        format!("{experts} experts in {slots} slots on {ranks} ranks in {layers} layers")
    };
    Err(Error::scenario("proposed placement", show(proposed), show(served)))
}

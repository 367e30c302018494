//! Which experts are copied before they are asked for: prefetchers, a registry.
//!
//! A prefetcher only wishes. The engine ([`crate::offload`]) drops wishes for what is resident or
//! on its way, queues the others behind all demand, and cannot take back a copy that has started.
//! Many published predictors are trained models; here they are the true routing seen through an
//! accuracy that is given, so that "what if the predictor were 85% right" is one number; that of
//! the others follows from the recording. The engine measures it for all of them.
//!
//! Prefetchers keep within [`Setting::depth`] layers, the next pass's first ones included where
//! they know them. Where a system's paper and its code differ, both are entries: `impact` and
//! `mrs`.

mod activation_matrix;
mod affinity;
mod gate_ahead;
mod impact;
mod known;
mod mrs;
mod next_layer;
mod none;
mod oracle;
mod pre_gated;
mod queue;
mod reach;
mod seen;
#[cfg(test)]
mod tests;
mod whole_path;

use std::sync::Arc;

use moecast_profiles::registry::{UnknownName, find as find_entry};
use moecast_profiles::seed::Seed;

use crate::cache::Routed;

/// An expert that should be copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// MoE layer.
    pub layer: u16,
    /// Logical expert.
    pub expert: u16,
    /// Higher goes first; of equals the nearer layer, then the order of wishing.
    pub priority: f32,
    /// As [`Demand::before`]: a rule of precision says by it which version is copied. 0, which is
    /// the highest, from prefetchers that predict no gate weights.
    pub before: f64,
}

/// An expert that tokens will choose, or are predicted to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Logical expert.
    pub expert: u16,
    /// Tokens that choose it.
    pub tokens: u32,
    /// Share of a token's gate weight that goes to experts that it prefers: of the token that has
    /// least of it. 0 where nobody asks, because there is one version.
    pub before: f64,
}

/// The routing that is still to come, for prefetchers that are given an accuracy and for the
/// oracle.
pub trait Ahead {
    /// Distinct experts that this pass's tokens will choose in MoE layer `layer`; empty beyond the
    /// last layer.
    fn rest_of_pass(&self, layer: usize, into: &mut Vec<Demand>);

    /// The same for the tokens that wait for the next pass, as far as they are known.
    fn next_pass(&self, layer: usize, into: &mut Vec<Demand>);
}

/// Seconds that a layer would gain from one expert, of those that are asked for there.
pub type Gain<'a> = dyn Fn(usize, &[Demand], u16) -> f64 + 'a;

/// What a prefetcher may look at.
pub struct View<'a> {
    /// MoE layer whose router has just spoken; `None` before the first layer of a pass.
    pub layer: Option<usize>,
    /// Number of the pass.
    pub pass: u64,
    /// Requests of the tokens of this pass, as the recording numbers them, in order.
    pub requests: &'a [u32],
    /// Whether an expert is in GPU memory, or on its way there.
    pub resident: &'a dyn Fn(usize, u16) -> bool,
    /// How many seconds a layer would gain if one of the experts asked for were resident: what the
    /// compute target would do with it and without.
    pub gain: &'a Gain<'a>,
    /// What is to come.
    pub ahead: &'a dyn Ahead,
}

/// Wishes for copies.
pub trait Prefetcher: Send {
    /// Whether [`Self::routed`] does anything: nobody prepares what is not heard.
    fn listens(&self) -> bool {
        false
    }

    /// A router has spoken: what prefetchers learn from, in deployment too.
    fn routed(&mut self, _: &Routed<'_>) {}

    /// A request of the recording is over.
    fn finished(&mut self, _request: u32) {}

    /// Adds wishes, right after [`Self::routed`] (and once before the first layer of a pass).
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>);
}

/// What a prefetcher is built for.
#[derive(Clone)]
pub struct Setting {
    /// MoE layers.
    pub layers: usize,
    /// Experts a layer.
    pub experts: usize,
    /// Experts that a token chooses in a layer.
    pub top_k: usize,
    /// Layers ahead that may be wished for; at least 1.
    pub depth: usize,
    /// Share of predicted experts that are right, one layer ahead, for entries whose accuracy is
    /// [`Accuracy::Given`]; they have published defaults.
    pub accuracy: Option<f64>,
    /// One seed; prefetchers name their stream.
    pub seed: Seed,
    /// What was seen before: the training part of the recording.
    pub trained: Arc<Trained>,
}

/// What prefetchers are fitted on.
#[derive(Clone, Debug, Default)]
pub struct Trained {
    /// `[M][E]` tokens.
    pub loads: Vec<Vec<u64>>,
    /// `[M - 1][E][E]` tokens that chose the one expert and, in the next layer, the other.
    pub transitions: Vec<Vec<Vec<u32>>>,
    /// One `[M * E]` activation matrix a request: tokens.
    pub requests: Vec<Vec<u32>>,
}

/// A prefetcher that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether it sees the routing to come, through an accuracy or as it is.
    pub looks_ahead: bool,
    /// Where its accuracy comes from.
    pub accuracy: Accuracy,
    /// Builds it.
    pub build: fn(&Setting) -> Box<dyn Prefetcher>,
}

/// Where the accuracy of a prefetcher comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// [`Setting::accuracy`], or as published: what it predicts from, hidden states or a trained
    /// model, is in no recording.
    Given,
    /// The recording: what it wishes for is learnt from it, read in it, or everything.
    Measured,
}

impl Accuracy {
    /// As outputs have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Measured => "measured",
        }
    }
}

moecast_profiles::named!(Entry);

/// Every prefetcher, alphabetical.
pub const ALL: &[Entry] = &[
    activation_matrix::ENTRY,
    affinity::ENTRY,
    gate_ahead::ENTRY,
    impact::ENTRY,
    mrs::ENTRY,
    next_layer::ENTRY,
    none::ENTRY,
    oracle::ENTRY,
    pre_gated::ENTRY,
    queue::ENTRY,
    whole_path::ENTRY,
];

/// Finds a prefetcher by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("prefetcher", ALL, name)
}

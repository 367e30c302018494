//! Kernel cost models: how long one kernel takes on one GPU.
//!
//! An [`Entry`] of [`ALL`] builds a [`CostModel`] for a model shape on a device: from a profile of
//! measured kernels, or by closed forms with stated, assumed efficiencies.

mod calibrated;
pub mod exchange;
mod fixed;
mod roofline;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::engine::Backend;
use crate::hardware::Device;
use crate::model::ModelShape;
use crate::profile::Profile;
use crate::registry::{UnknownName, find as find_entry};
use crate::table::Source;
use crate::units::Nanos;

/// Times of the kernels of one forward pass on one rank. All methods are pure.
pub trait CostModel: Send + Sync {
    /// Grouped GEMMs of the routed experts of one layer: gate, up and down projections.
    ///
    /// `rows_per_slot[slot]` is the number of rows that local slot `slot` receives, of a batch of
    /// `tokens` tokens in the whole expert-parallel group; slots with zero rows cost nothing. The
    /// time depends on the whole vector, not on its sum.
    fn experts(&self, tokens: u64, rows_per_slot: &[u32]) -> Nanos;

    /// Shared experts of one layer over `tokens` tokens; zero where the model has none.
    fn shared_experts(&self, tokens: u32) -> Nanos;

    /// The dense feed-forward network of one non-MoE layer over `tokens` tokens.
    fn dense_layer(&self, tokens: u32) -> Nanos;

    /// Attention of one layer with its projections over a batch.
    fn attention(&self, batch: AttentionBatch) -> Nanos;

    /// The router of one MoE layer over `tokens` tokens.
    fn gate(&self, tokens: u32) -> Nanos;

    /// The output head over `tokens` tokens whose next token is asked for.
    fn head(&self, tokens: u32) -> Nanos;

    /// The all-reduce of the residual stream of `tokens` tokens over the tensor-parallel ranks;
    /// zero where there is one.
    fn all_reduce(&self, tokens: u32) -> Nanos;

    /// How each kernel is known.
    fn known(&self) -> Vec<Known> {
        Vec::new()
    }
}

/// How the times of one kernel are known.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The kernel: `experts`, `attention decode`.
    pub kernel: String,
    /// The table that answers, or the closed form.
    pub by: String,
    /// How the answer is known.
    pub source: Source,
    /// Expected relative error (median), by points held out.
    pub error: f64,
}

/// What one rank's attention works on: requests that generate, and prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionBatch {
    /// Requests with one new token each.
    pub decode: Attended,
    /// Requests with a part of their prompt.
    pub prefill: Attended,
}

/// New tokens and what they attend to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attended {
    /// Requests.
    pub requests: u32,
    /// New tokens.
    pub tokens: u32,
    /// Sum over the new tokens of the number of tokens each attends to.
    pub attended: u64,
    /// Cache entries read from memory: each request's context once.
    pub cached: u64,
}

impl Attended {
    /// With the work of others beside it.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.tokens += more.tokens;
        self.attended += more.attended;
        self.cached += more.cached;
    }
}

impl AttentionBatch {
    /// All new tokens.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.decode.tokens + self.prefill.tokens
    }
}

/// What a cost model is built for.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The model.
    pub model: &'a ModelShape,
    /// The GPU.
    pub device: &'a Device,
    /// Tensor-parallel ranks of attention, dense layers, shared experts and head; `model` is the
    /// whole model, not a rank's share.
    pub tensor_ranks: u16,
    /// Ranks that every expert's intermediate width is divided over.
    pub expert_tensor_ranks: u16,
    /// Ranks that experts are divided over.
    pub expert_ranks: u16,
    /// What brings experts their tokens, where that decides which kernels run on them.
    pub exchange: Option<Backend>,
    /// Measured kernels of that GPU, where there are any.
    pub profile: Option<&'a Profile>,
}

/// A cost model built for a setting, and what it is called.
#[derive(Clone)]
pub struct Kernels {
    /// Name as typed, with the profile where there is one.
    pub name: String,
    /// One line.
    pub about: String,
    /// What is suspicious about the measurements.
    pub flags: Vec<String>,
    /// The times.
    pub model: Arc<dyn CostModel>,
}

impl Kernels {
    /// Builds `entry` for `setting`.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn new(entry: &Entry, setting: &Setting) -> crate::Result<Self> {
        let share = setting.model.sharded(setting.tensor_ranks)?;
        let setting = &Setting { model: &share, ..*setting };
        let model = (entry.build)(setting)?;
        let (mut name, mut about) = (entry.name.to_owned(), entry.about.to_owned());
        let mut flags = Vec::new();
        if let Some(profile) = setting.profile.filter(|_| entry.name == calibrated::ENTRY.name) {
            let by = &profile.provenance;
            name = format!("{name} ({} {} {})", by.system, by.engine, by.version);
            about = format!("measured kernels of {} {} on {}", by.engine, by.version, by.system);
            flags.clone_from(&profile.flags);
        }
        Ok(Self { name, about, flags, model })
    }
}

/// A cost model that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Builds the model; the error says what is missing. Through [`Kernels::new`] the model is
    /// one rank's share, experts apart.
    pub build: fn(&Setting) -> crate::Result<Arc<dyn CostModel>>,
}

crate::named!(Entry);

/// Every cost model, alphabetical.
pub const ALL: &[Entry] = &[calibrated::ENTRY, fixed::ENTRY, roofline::ENTRY];

/// Finds a cost model by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("cost model", ALL, name)
}

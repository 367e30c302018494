//! Kernel cost models: how long one kernel takes on one GPU.
//!
//! An [`Entry`] of [`ALL`] builds a [`CostModel`] for a model shape on a device. Today's models
//! are closed forms with stated, assumed efficiencies; measured tables replace them.

mod fixed;
mod roofline;
#[cfg(test)]
mod tests;

use crate::hardware::Device;
use crate::model::ModelShape;
use crate::registry::{UnknownName, find as find_entry};
use crate::units::Nanos;

/// Times of the kernels of one forward pass on one rank. All methods are pure.
pub trait CostModel: Send + Sync {
    /// Grouped GEMMs of the routed experts of one layer: gate, up and down projections.
    ///
    /// `tokens_per_slot[slot]` is the number of rows that local slot `slot` receives; slots with
    /// zero rows cost nothing. The time depends on the whole vector, not on its sum.
    fn experts(&self, tokens_per_slot: &[u32]) -> Nanos;

    /// Shared experts of one layer over `tokens` tokens; zero where the model has none.
    fn shared_experts(&self, tokens: u32) -> Nanos;

    /// The dense feed-forward network of one non-MoE layer over `tokens` tokens.
    fn dense_layer(&self, tokens: u32) -> Nanos;

    /// Attention of one layer with its projections over a batch.
    ///
    /// `tokens` new tokens attend to `context` tokens in sum (each new token counts the tokens
    /// before it), of which `cached` distinct cache entries are read from memory.
    fn attention(&self, batch: AttentionBatch) -> Nanos;

    /// The router of one MoE layer over `tokens` tokens.
    fn gate(&self, tokens: u32) -> Nanos;
}

/// What one rank's attention kernel works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionBatch {
    /// New tokens.
    pub tokens: u32,
    /// Sum over the new tokens of the number of tokens each attends to.
    pub attended: u64,
    /// Cache entries read from memory: each request's context once.
    pub cached: u64,
}

/// A cost model that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Builds the model.
    pub build: fn(&ModelShape, &Device) -> Box<dyn CostModel>,
}

crate::named!(Entry);

/// Every cost model, alphabetical.
pub const ALL: &[Entry] = &[fixed::ENTRY, roofline::ENTRY];

/// Finds a cost model by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("cost model", ALL, name)
}

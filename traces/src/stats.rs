//! What a recording says: load per layer, locality in time, what is picked together, and each
//! beside what chance alone would give.
//!
//! [`stats`] measures everything; every file here measures one thing and can be asked alone.
//! Caches are replayed on all tokens up to [`CACHE_PAIRS_MAX`] picks, beyond that on evenly spaced
//! stretches of the recording; `cache_tokens` says on how many. Everything else is of all tokens.
//! Layers and policies are measured in parallel and put together by index, so that nothing
//! depends on the number of threads. A recording that only counted has loads, their null and
//! drift; the rest is `null`.

pub mod active;
pub mod cache;
pub mod coactivation;
pub mod drift;
mod keys;
mod layer;
pub mod load;
pub mod replay;
pub mod reuse;
pub mod srp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod transition;
pub mod uniform;

use std::collections::BTreeMap;

use moecast_profiles::ids::MoeLayer;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::trace::RoutingTrace;

pub use layer::{CacheStats, LayerStats};

use active::ActiveExperts;
use cache::HitRates;
use drift::Drift;
use layer::Part;
use replay::Replay;
use reuse::ReuseStats;
use transition::TransitionStats;

/// Picks beyond which caches are replayed on a sample: 65536 tokens of Mixtral-8x7B.
pub const CACHE_PAIRS_MAX: usize = 1 << 22;

/// A number by segment length; `None` where no segment is that long.
pub type BySegment = BTreeMap<u32, Option<f64>>;

/// Hit rates of three policies, by cache ratio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChrStats {
    /// Least recently used.
    #[serde(deserialize_with = "keys::read")]
    pub lru: HitRates,
    /// Least frequently used; counts survive eviction.
    #[serde(deserialize_with = "keys::read")]
    pub lfu: HitRates,
    /// The best that any policy could do.
    #[serde(deserialize_with = "keys::read")]
    pub belady: HitRates,
}

/// Statistics of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceStats {
    /// Tokens; for counts, those of the busiest layer.
    pub tokens: u64,
    /// Requests, where the recording knows them.
    pub requests: Option<usize>,
    /// Forward passes, or recording windows.
    pub steps: usize,
    /// Logical experts per layer.
    pub experts: u16,
    /// Experts that one token chose per layer, at most.
    pub top_k: u16,
    /// Number of MoE layers.
    pub layers: usize,
    /// Mean of `max_over_mean` over layers.
    pub max_over_mean: f64,
    /// Locality of the whole model: one threshold, one cache for all layers.
    #[serde(flatten)]
    pub locality: CacheStats,
    /// The SRP of the model if every token picked uniformly.
    #[serde(deserialize_with = "keys::read")]
    pub srp_null: BySegment,
    /// Tokens that `sch` and `chr` were replayed on.
    pub cache_tokens: Option<usize>,
    /// Reuse distances inside layers, all layers together.
    pub reuse: Option<ReuseStats>,
    /// Distinct experts against batch size.
    pub active_experts: Option<Vec<ActiveExperts>>,
    /// Popularity between equal windows of time.
    pub drift: Drift,
    /// Popularity between domains, where the recording names them.
    pub domains: Option<Drift>,
    /// What each MoE layer tells about the next.
    pub transitions: Option<Vec<TransitionStats>>,
    /// Every layer.
    pub per_layer: Vec<LayerStats>,
}

/// Measures `trace`.
#[must_use]
pub fn stats(trace: &RoutingTrace) -> TraceStats {
    let header = trace.header();
    let replay = Replay::new(trace);
    let cached = replay.as_ref().map(|replay| replay.sample(CACHE_PAIRS_MAX));
    let replays = replay.as_ref().zip(cached.as_ref());
    let ordinals = u16::try_from(header.moe_layers()).expect("layers are numbered in 16 bits");
    let (model, parts): (CacheStats, Vec<Part>) = rayon::join(
        || cached.as_ref().map_or_else(CacheStats::default, CacheStats::of_model),
        || {
            let measure = |ordinal| layer::measure(trace, replays, MoeLayer(ordinal));
            (0..ordinals).into_par_iter().map(measure).collect()
        },
    );
    let transitions = replay.as_ref().map(transition::all);
    let mut locality = model;
    let reuse = layer::sum(&parts, &mut locality).map(|reuse| reuse.stats(header.top_k));
    let per_layer: Vec<LayerStats> = parts.into_iter().map(|part| part.stats).collect();
    TraceStats {
        tokens: trace.token_count(),
        requests: trace.request_count(),
        steps: trace.steps().len(),
        experts: header.experts,
        top_k: header.top_k,
        layers: header.moe_layers(),
        max_over_mean: mean(&per_layer),
        srp_null: srp::nulls(&locality.srp, header.experts, header.top_k),
        locality,
        cache_tokens: cached.as_ref().map(Replay::tokens),
        reuse,
        active_experts: active::active_experts(trace),
        drift: drift::between_windows(trace),
        domains: drift::between_domains(trace),
        transitions,
        per_layer,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of layers")]
fn mean(layers: &[LayerStats]) -> f64 {
    layers.iter().map(|layer| layer.max_over_mean).sum::<f64>() / layers.len().max(1) as f64
}

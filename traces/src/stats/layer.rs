//! Everything that is measured of one layer, and how layers add up to the model.

use std::collections::BTreeMap;

use moecast_profiles::ids::MoeLayer;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cache::{HitRates, Policy, RATIOS, hit_rates};
use super::coactivation::{Coactivation, CoactivationStats};
use super::load::Load;
use super::replay::Replay;
use super::reuse::{Reuse, ReuseStats};
use super::srp::{Best, SEGMENTS, Windows};
use super::{BySegment, ChrStats, keys, uniform};
use crate::trace::RoutingTrace;

/// Locality in time, of one layer or of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Segment routing best performance, by segment length.
    #[serde(deserialize_with = "keys::read")]
    pub srp: BySegment,
    /// The cache that its prediction would fill, in multiples of top-k.
    #[serde(deserialize_with = "keys::read")]
    pub srp_cache_ratio: BySegment,
    /// Segment cache best hit rate, by cache ratio, then by segment length.
    #[serde(deserialize_with = "keys::read_nested")]
    pub sch: BTreeMap<u32, BySegment>,
    /// Hit rates of cache policies, by cache ratio.
    pub chr: ChrStats,
}

/// One MoE layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerStats {
    /// Layer number as the model counts it.
    pub layer: u16,
    /// Ordinal among the MoE layers.
    pub ordinal: u16,
    /// (token, expert) pairs.
    pub pairs: u64,
    /// Load of the busiest expert over the mean load; 1 is perfectly even.
    pub max_over_mean: f64,
    /// Standard deviation over mean.
    pub cv: f64,
    /// Gini coefficient: 0 is even, 1 is one expert taking everything.
    pub gini: f64,
    /// Shannon entropy in bits; `log2(experts)` is even.
    pub entropy: f64,
    /// Share of the picks that the busiest half of the experts takes.
    pub busiest_half: f64,
    /// The same of as many picks by a uniform router; `None` for an empty layer.
    pub null: Option<Load>,
    /// Locality of this layer: a cache of its own.
    #[serde(flatten)]
    pub locality: CacheStats,
    /// Reuse distances.
    pub reuse: Option<ReuseStats>,
    /// Experts that are picked together.
    pub coactivation: Option<CoactivationStats>,
}

/// What is known of a layer before layers are added up.
pub(super) struct Part {
    pub(super) stats: LayerStats,
    windows: Vec<Windows>,
    reuse: Option<Reuse>,
}

/// Measures one layer; `replays` are all tokens, and those that caches are replayed on.
pub(super) fn measure(
    trace: &RoutingTrace,
    replays: Option<(&Replay<'_>, &Replay<'_>)>,
    layer: MoeLayer,
) -> Part {
    let Some((replay, cached)) = replays else {
        let stats = LayerStats::of(trace, layer, &trace.layer_loads(layer));
        return Part { stats, windows: Vec::new(), reuse: None };
    };
    let stream = replay.layer(layer);
    let top_k = trace.header().top_k;
    let windows: Vec<Windows> =
        SEGMENTS.iter().map(|&segment| Windows::of(&stream, replay.requests(), segment)).collect();
    let reuse = Reuse::of(&stream);
    let sample = (cached.tokens() < replay.tokens()).then(|| cached.layer(layer));
    let sample = sample.as_ref().unwrap_or(&stream);
    let mut locality = CacheStats::of_rates(|policy| hit_rates(sample, policy));
    locality.set_srp(&windows);
    let stats = LayerStats {
        locality,
        reuse: Some(reuse.stats(top_k)),
        coactivation: Some(Coactivation::of(&stream).stats(top_k)),
        ..LayerStats::of(trace, layer, &stream.loads())
    };
    Part { stats, windows, reuse: Some(reuse) }
}

/// Adds the layers up: the SRP of the model goes to `locality`, the reuse distances come back.
pub(super) fn sum(parts: &[Part], locality: &mut CacheStats) -> Option<Reuse> {
    let (first, rest) = parts.split_first()?;
    let mut windows = first.windows.clone();
    let mut reuse = first.reuse.clone()?;
    for part in rest {
        for (sum, windows) in windows.iter_mut().zip(&part.windows) {
            sum.add(windows);
        }
        reuse.add(part.reuse.as_ref()?);
    }
    locality.set_srp(&windows);
    Some(reuse)
}

impl LayerStats {
    fn of(trace: &RoutingTrace, layer: MoeLayer, loads: &[u64]) -> Self {
        let header = trace.header();
        let (pairs, load) = (loads.iter().sum(), Load::of(loads));
        Self {
            layer: header.layers[layer.index()],
            ordinal: layer.0,
            pairs,
            max_over_mean: load.max_over_mean,
            cv: load.cv,
            gini: load.gini,
            entropy: load.entropy,
            busiest_half: load.busiest_half,
            null: uniform::expected(header.experts, header.top_k, pairs),
            locality: CacheStats::default(),
            reuse: None,
            coactivation: None,
        }
    }
}

/// Nothing is known: what a recording that only counted has.
impl Default for CacheStats {
    fn default() -> Self {
        let segments: BySegment = SEGMENTS.iter().map(|&segment| (segment, None)).collect();
        let rates: HitRates = RATIOS.iter().map(|&ratio| (ratio, None)).collect();
        Self {
            srp: segments.clone(),
            srp_cache_ratio: segments.clone(),
            sch: RATIOS.iter().map(|&ratio| (ratio, segments.clone())).collect(),
            chr: ChrStats { lru: rates.clone(), lfu: rates.clone(), belady: rates },
        }
    }
}

impl CacheStats {
    /// The caches of the whole model, policy by policy in parallel; SRP comes from its layers.
    pub(super) fn of_model(replay: &Replay<'_>) -> Self {
        let stream = replay.model();
        let policies: Vec<Policy> = policies().collect();
        let rates: Vec<HitRates> =
            policies.par_iter().map(|&policy| hit_rates(&stream, policy)).collect();
        let of = |policy| {
            let index = policies.iter().position(|&other| other == policy);
            rates[index.expect("a policy of the list")].clone()
        };
        Self::of_rates(of)
    }

    fn of_rates(rates: impl Fn(Policy) -> HitRates) -> Self {
        let mut stats = Self {
            chr: ChrStats {
                lru: rates(Policy::Lru),
                lfu: rates(Policy::Lfu),
                belady: rates(Policy::Belady),
            },
            ..Self::default()
        };
        for segment in SEGMENTS {
            for (ratio, rate) in rates(Policy::Segment(segment)) {
                stats.sch.entry(ratio).or_default().insert(segment, rate);
            }
        }
        stats
    }

    fn set_srp(&mut self, windows: &[Windows]) {
        for (&segment, windows) in SEGMENTS.iter().zip(windows) {
            let best = windows.best();
            self.srp.insert(segment, best.map(|Best { srp, .. }| srp));
            self.srp_cache_ratio.insert(segment, best.map(|Best { cache_ratio, .. }| cache_ratio));
        }
    }
}

/// Every policy that is measured, the slow ones first.
fn policies() -> impl Iterator<Item = Policy> {
    let segments = SEGMENTS.iter().map(|&segment| Policy::Segment(segment));
    segments.chain([Policy::Lfu, Policy::Belady, Policy::Lru])
}

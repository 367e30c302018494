//! How unevenly a router loads its experts.

use moecast_profiles::ids::MoeLayer;
use serde::Serialize;

use crate::trace::RoutingTrace;

/// Load of one MoE layer over the whole recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
}

/// Load of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Every layer.
    pub per_layer: Vec<LayerStats>,
}

/// Measures the load of `trace`.
#[must_use]
pub fn stats(trace: &RoutingTrace) -> TraceStats {
    let header = trace.header();
    let per_layer: Vec<LayerStats> = (0_u16..)
        .zip(&header.layers)
        .map(|(ordinal, &layer)| layer_stats(layer, ordinal, &trace.layer_loads(MoeLayer(ordinal))))
        .collect();
    TraceStats {
        tokens: trace.token_count(),
        requests: trace.request_count(),
        steps: trace.steps().len(),
        experts: header.experts,
        top_k: header.top_k,
        layers: header.moe_layers(),
        max_over_mean: mean(&per_layer),
        per_layer,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of layers")]
fn mean(layers: &[LayerStats]) -> f64 {
    layers.iter().map(|layer| layer.max_over_mean).sum::<f64>() / layers.len().max(1) as f64
}

/// Statistics of one layer's loads `[E]`; an empty layer has zeros everywhere.
#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
fn layer_stats(layer: u16, ordinal: u16, loads: &[u64]) -> LayerStats {
    let pairs: u64 = loads.iter().sum();
    let empty =
        LayerStats { layer, ordinal, pairs, max_over_mean: 0.0, cv: 0.0, gini: 0.0, entropy: 0.0 };
    if pairs == 0 {
        return empty;
    }
    let (count, total) = (loads.len() as f64, pairs as f64);
    let average = total / count;
    let variance = loads.iter().map(|&load| (load as f64 - average).powi(2)).sum::<f64>() / count;
    let mut sorted = loads.to_vec();
    sorted.sort_unstable();
    let ranked: f64 = (1_u64..).zip(&sorted).map(|(rank, &load)| rank as f64 * load as f64).sum();
    let shares = loads.iter().filter(|&&load| load > 0).map(|&load| load as f64 / total);
    LayerStats {
        max_over_mean: sorted.last().map_or(0.0, |&load| load as f64) / average,
        cv: variance.sqrt() / average,
        gini: (2.0 * ranked / (count * total) - (count + 1.0) / count).max(0.0),
        // Zero minus, because the sum of one certain expert is -0.0 when negated.
        entropy: 0.0 - shares.map(|share| share * share.log2()).sum::<f64>(),
        ..empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loads: &[u64], expected: [f64; 4]) {
        let stats = layer_stats(3, 0, loads);
        let found = [stats.max_over_mean, stats.cv, stats.gini, stats.entropy];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{loads:?}: {stats:?}");
        }
    }

    #[test]
    fn solvable_by_hand() {
        // Even load: no spread, entropy log2(4) = 2 bits.
        check(&[5, 5, 5, 5], [1.0, 0.0, 0.0, 2.0]);
        // One expert takes all: max/mean 4, deviation sqrt(3) means, Gini (n-1)/n, no entropy.
        check(&[0, 0, 8, 0], [4.0, 3.0_f64.sqrt(), 0.75, 0.0]);
        // Half and half of two out of four: max/mean 2, deviation 1 mean, Gini 1/2, 1 bit.
        check(&[4, 0, 4, 0], [2.0, 1.0, 0.5, 1.0]);
        check(&[0, 0], [0.0; 4]);
    }

    #[test]
    fn relabelling_experts_changes_nothing() {
        let (a, b) = (layer_stats(0, 0, &[9, 1, 4, 2]), layer_stats(0, 0, &[1, 2, 4, 9]));
        assert_eq!((a.max_over_mean, a.cv, a.gini), (b.max_over_mean, b.cv, b.gini));
    }
}

//! How unevenly a layer loads its experts: five numbers that people publish.
//!
//! Cost: one pass over the recording for all layers; one sort of the experts per layer.

use serde::{Deserialize, Serialize};

use crate::trace::{Events, NO_EXPERT, RoutingTrace};

/// Unevenness of one layer's loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Load of the busiest expert over the mean load; 1 is perfectly even.
    pub max_over_mean: f64,
    /// Standard deviation over mean.
    pub cv: f64,
    /// Gini coefficient: 0 is even, `1 - 1/E` is one expert taking everything.
    pub gini: f64,
    /// Shannon entropy in bits; `log2(experts)` is even.
    pub entropy: f64,
    /// Share of the picks that the busiest half of the experts takes (of an odd number of
    /// experts, the smaller half); a half is even.
    pub busiest_half: f64,
}

impl Load {
    /// Measures `loads` `[E]`; an empty layer has zeros everywhere.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
    pub fn of(loads: &[u64]) -> Self {
        let pairs: u64 = loads.iter().sum();
        if pairs == 0 {
            return Self::default();
        }
        let (count, total) = (loads.len() as f64, pairs as f64);
        let average = total / count;
        let mut sorted = loads.to_vec();
        sorted.sort_unstable();
        // Sums run over the sorted loads, so that names of experts cannot change the last bit.
        let variance =
            sorted.iter().map(|&load| (load as f64 - average).powi(2)).sum::<f64>() / count;
        let ranked: f64 =
            (1_u64..).zip(&sorted).map(|(rank, &load)| rank as f64 * load as f64).sum();
        let shares = sorted.iter().filter(|&&load| load > 0).map(|&load| load as f64 / total);
        let half: u64 = sorted.iter().rev().take(loads.len() / 2).sum();
        Self {
            max_over_mean: sorted.last().map_or(0.0, |&load| load as f64) / average,
            cv: variance.sqrt() / average,
            gini: (2.0 * ranked / (count * total) - (count + 1.0) / count).max(0.0),
            // Zero minus, because the sum of one certain expert is -0.0 when negated.
            entropy: 0.0 - shares.map(|share| share * share.log2()).sum::<f64>(),
            busiest_half: half as f64 / total,
        }
    }
}

/// Picks `[parts, M, E]`; `part_of` tells the part of a row of the columns: a token, or a step
/// where the recording only counted.
#[must_use]
pub fn by_part(trace: &RoutingTrace, parts: usize, part_of: impl Fn(usize) -> usize) -> Vec<u64> {
    let header = trace.header();
    let (layers, experts) = (header.moe_layers(), usize::from(header.experts));
    let mut loads = vec![0; parts * layers * experts];
    if loads.is_empty() {
        return loads;
    }
    match trace.events() {
        Events::Tokens(columns) => {
            let k = usize::from(header.top_k);
            for (row, ids) in columns.experts.chunks_exact(layers * k).enumerate() {
                let start = part_of(row) * layers;
                for (layer, ids) in ids.chunks_exact(k).enumerate() {
                    for &id in ids.iter().filter(|&&id| id != NO_EXPERT) {
                        loads[(start + layer) * experts + usize::from(id)] += 1;
                    }
                }
            }
        }
        Events::Counts(columns) => {
            for (row, counts) in columns.counts.chunks_exact(layers * experts).enumerate() {
                let start = part_of(row) * layers * experts;
                for (sum, &count) in loads[start..].iter_mut().zip(counts) {
                    *sum += u64::from(count);
                }
            }
        }
    }
    loads
}

/// Unevenness of every MoE layer, without anything that takes time.
#[must_use]
pub fn per_layer(trace: &RoutingTrace) -> Vec<Load> {
    let experts = usize::from(trace.header().experts);
    by_part(trace, 1, |_| 0).chunks_exact(experts).map(Load::of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(loads: &[u64], expected: [f64; 5]) {
        let load = Load::of(loads);
        let found = [load.max_over_mean, load.cv, load.gini, load.entropy, load.busiest_half];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{loads:?}: {load:?}");
        }
    }

    #[test]
    fn solvable_by_hand() {
        // Even load: no spread, entropy log2(4) = 2 bits.
        check(&[5, 5, 5, 5], [1.0, 0.0, 0.0, 2.0, 0.5]);
        // One expert takes all: max/mean 4, deviation sqrt(3) means, Gini (n-1)/n, no entropy.
        check(&[0, 0, 8, 0], [4.0, 3.0_f64.sqrt(), 0.75, 0.0, 1.0]);
        // Half and half of two out of four: max/mean 2, deviation 1 mean, Gini 1/2, 1 bit.
        check(&[4, 0, 4, 0], [2.0, 1.0, 0.5, 1.0, 1.0]);
        check(&[0, 0], [0.0; 5]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_names_do_not_matter(
            loads in prop::collection::vec(0_u64..1000, 1..40),
        ) {
            let load = Load::of(&loads);
            prop_assert!((0.0..1.0).contains(&load.gini));
            let entropy_max = f64::from(u32::try_from(loads.len()).unwrap()).log2();
            prop_assert!((0.0..=entropy_max + 1e-9).contains(&load.entropy));
            let mut renamed = loads;
            renamed.reverse();
            prop_assert_eq!(load, Load::of(&renamed));
        }
    }
}

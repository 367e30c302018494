//! Reuse distance: how many distinct experts of its layer were picked between two uses of an
//! expert (Mattson et al. 1970, with one event per token). Experts picked by the two tokens
//! themselves are not between them: 0 means that the very next token picked the expert again.
//! A cache of one layer that holds k experts more than a distance serves that reuse.
//!
//! The queue of tokens is that of [`super::replay`]: a reuse may cross from one request to the
//! next. Cost: one comparison per pick and expert, in vectors.

use serde::{Deserialize, Serialize};

use super::replay::Stream;

/// Reuses by distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Reuse {
    /// Reuses at every distance, `[E]`.
    pub counts: Vec<u64>,
    /// Picks of an expert that had not been picked before.
    pub first: u64,
}

/// Reuse distances in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReuseStats {
    /// Picks of an expert that had not been picked before.
    pub first: u64,
    /// Mean distance.
    pub mean: Option<f64>,
    /// Smallest distance that at least half of the reuses do not exceed.
    pub median: Option<usize>,
    /// Mean distance if every token picked uniformly.
    pub null_mean: Option<f64>,
    /// Reuses at distance 0, 1, 2-3, 4-7, 8-15 and so on.
    pub histogram: Vec<u64>,
}

impl Reuse {
    /// Measures one layer.
    #[must_use]
    pub fn of(stream: &Stream<'_>) -> Self {
        let mut reuse = Self { counts: vec![0; stream.items()], first: 0 };
        // Token of the last use, plus one; 0 before the first.
        let mut last = vec![0_u32; stream.items()];
        for token in 0..stream.tokens() {
            for item in stream.picks(token) {
                let used = last[item];
                if used == 0 {
                    reuse.first += 1;
                    continue;
                }
                let between = last.iter().map(|&other| u32::from(other > used)).sum::<u32>();
                reuse.counts[between as usize] += 1;
            }
            let now = u32::try_from(token + 1).expect("fewer than 2^32 tokens");
            stream.picks(token).for_each(|item| last[item] = now);
        }
        reuse
    }

    /// Adds the reuses of another layer.
    pub fn add(&mut self, other: &Self) {
        for (sum, &count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.first += other.first;
    }

    /// A few numbers; the null takes every token to pick `top_k`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn stats(&self, top_k: u16) -> ReuseStats {
        let total: u64 = self.counts.iter().sum();
        let sum: u64 = (0_u64..).zip(&self.counts).map(|(distance, count)| distance * count).sum();
        let mut below = 0;
        let median = self.counts.iter().position(|&count| {
            below += count;
            total > 0 && 2 * below >= total
        });
        let mut histogram = Vec::new();
        let (mut start, mut end) = (0, 1);
        while start < self.counts.len() {
            histogram.push(self.counts[start..end.min(self.counts.len())].iter().sum());
            (start, end) = (end, 2 * end);
        }
        ReuseStats {
            first: self.first,
            mean: (total > 0).then(|| sum as f64 / total as f64),
            median,
            null_mean: null_mean(self.counts.len() as f64, f64::from(top_k)),
            histogram,
        }
    }
}

/// A reuse after g tokens without the expert has probability p(1 - p)^g with p = k/E, and each of
/// the E - 1 other experts was in one of them with probability 1 - (1 - k/(E - 1))^g. Summed:
fn null_mean(experts: f64, top_k: f64) -> Option<f64> {
    let (share, others) = (top_k / experts, experts - 1.0);
    if share >= 1.0 {
        return Some(0.0);
    }
    let stay = (1.0 - share) * (1.0 - top_k / others);
    Some(others * (1.0 - share / (1.0 - stay)))
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::MoeLayer;
    use proptest::prelude::*;

    use super::super::replay::Replay;
    use super::super::testing::{renamed, trace, traces};
    use super::*;
    use crate::RoutingTrace;

    fn reuse(trace: &RoutingTrace) -> Reuse {
        Reuse::of(&Replay::new(trace).unwrap().layer(MoeLayer(0)))
    }

    #[test]
    fn solvable_by_hand() {
        // Layer 0 sees {0,1} {0,2} {3,4} {1,2}: expert 0 returns at once; 1 after {0,2,3,4};
        // 2 after {3,4}.
        let rows = [[0, 1, 0, 1], [0, 2, 0, 1], [3, 4, 0, 1], [1, 2, 0, 1]];
        let reuse = reuse(&trace(5, &[0; 4], &rows));
        assert_eq!(reuse, Reuse { counts: vec![1, 0, 1, 0, 1], first: 5 });
        let stats = reuse.stats(2);
        assert_eq!((stats.mean, stats.median), (Some(2.0), Some(2)));
        // Distance 0; 1; 2 and 3; 4 and more.
        assert_eq!(stats.histogram, [1, 0, 1, 1]);
    }

    /// A long uniform sequence comes near the closed form.
    #[test]
    fn the_null_is_that_of_uniform_picks() {
        let mut random = moecast_profiles::seed::Seed(3).stream("test");
        let rows: Vec<Vec<u16>> = (0..20_000)
            .map(|_| {
                let ids = rand::seq::index::sample(&mut random, 16, 3);
                ids.iter().map(|id| u16::try_from(id).unwrap()).collect()
            })
            .collect();
        let stats = reuse(&super::super::testing::wide_trace(16, 3, &rows)).stats(3);
        let (found, expected) = (stats.mean.unwrap(), stats.null_mean.unwrap());
        assert!((found - expected).abs() < 0.05, "{found} against {expected}");
        assert_eq!(null_mean(8.0, 8.0), Some(0.0));
        assert_eq!(null_mean(1.0, 1.0), Some(0.0));
    }

    proptest! {
        #[test]
        fn every_pick_is_a_reuse_or_a_first_one(trace in traces(), shift in 1_u16..5) {
            let found = reuse(&trace);
            let replay = Replay::new(&trace).unwrap();
            let pairs = replay.layer(MoeLayer(0)).pairs();
            prop_assert_eq!(found.first + found.counts.iter().sum::<u64>(), pairs);
            let stats = found.stats(2);
            prop_assert_eq!(stats.histogram.iter().sum::<u64>() + found.first, pairs);
            prop_assert_eq!(found, reuse(&renamed(&trace, shift)));
        }
    }
}

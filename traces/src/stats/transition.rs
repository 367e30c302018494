//! From one MoE layer to the next: how much the experts of one tell about those of the next.
//!
//! Of every token, each pick of a layer is paired with each pick of the next layer. The mutual
//! information of such a pair is in bits, taken from counts as they are, which finds some even
//! where there is none: about (E - 1)^2 / (2 ln 2 x pairs). The null is measured: the same picks,
//! with the tokens of the next layer shuffled.
//! Cost: k^2 steps per token, twice; E x E counts per pair of layers.

use moecast_profiles::ids::MoeLayer;
use moecast_profiles::seed::Seed;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::replay::{Replay, Stream};

mod hops;

pub use hops::{Hops, hops};

/// Tokens that are shuffled among each other.
const BLOCK: usize = 4096;

/// How often an expert of one layer led to an expert of the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    experts: usize,
    /// `[E, E]`: from, to.
    counts: Vec<u64>,
}

/// What one layer tells about the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionStats {
    /// Layer number as the model counts it.
    pub layer: u16,
    /// Number of the next MoE layer.
    pub next_layer: u16,
    /// Mutual information in bits of a pick and a pick of the next layer.
    pub bits: f64,
    /// The same with the tokens of the next layer shuffled.
    pub null_bits: f64,
}

impl Transition {
    /// Counts the picks of `to` that followed those of `from`, two layers of one replay.
    #[must_use]
    pub fn between(from: &Stream<'_>, to: &Stream<'_>) -> Self {
        Self::paired(from, to, |token| token)
    }

    fn paired(from: &Stream<'_>, to: &Stream<'_>, partner: impl Fn(usize) -> usize) -> Self {
        let experts = from.items();
        let mut counts = vec![0; experts * to.items()];
        let mut next = Vec::with_capacity(to.width());
        for token in 0..from.tokens() {
            next.clear();
            next.extend(to.picks(partner(token)));
            for a in from.picks(token) {
                for &b in &next {
                    counts[a * experts + b] += 1;
                }
            }
        }
        Self { experts, counts }
    }

    /// (pick, next pick) pairs from expert `a` to expert `b`.
    #[must_use]
    pub fn pairs(&self, a: usize, b: usize) -> u64 {
        self.counts[a * self.experts + b]
    }

    /// Share of the next picks of tokens that picked `a` that are `b`; `None` where nothing
    /// picked `a`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn probability(&self, a: usize, b: usize) -> Option<f64> {
        let row = &self.counts[a * self.experts..(a + 1) * self.experts];
        let total: u64 = row.iter().sum();
        (total > 0).then(|| row[b] as f64 / total as f64)
    }

    /// Mutual information in bits of a pick and a pick of the next layer.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn bits(&self) -> f64 {
        let rows: Vec<u64> =
            self.counts.chunks_exact(self.experts).map(|row| row.iter().sum()).collect();
        let columns: Vec<u64> = (0..self.experts)
            .map(|column| self.counts[column..].iter().step_by(self.experts).sum())
            .collect();
        let total = rows.iter().sum::<u64>() as f64;
        let mut bits = 0.0;
        for (row, &from) in self.counts.chunks_exact(self.experts).zip(&rows) {
            for (&count, &to) in row.iter().zip(&columns).filter(|&(&count, _)| count > 0) {
                let count = count as f64;
                bits += count / total * (count * total / (from as f64 * to as f64)).log2();
            }
        }
        // Rounding may leave a hair below zero.
        bits.max(0.0)
    }
}

/// What each MoE layer but the last tells about the next.
#[must_use]
pub fn all(replay: &Replay<'_>) -> Vec<TransitionStats> {
    let layers = &replay.trace().header().layers;
    let partners = partners(replay.tokens());
    let measure = |(index, pair): (usize, &[u16])| {
        let ordinal = u16::try_from(index).expect("layers are numbered in 16 bits");
        let (from, to) = (replay.layer(MoeLayer(ordinal)), replay.layer(MoeLayer(ordinal + 1)));
        TransitionStats {
            layer: pair[0],
            next_layer: pair[1],
            bits: Transition::between(&from, &to).bits(),
            null_bits: Transition::paired(&from, &to, |token| partners[token] as usize).bits(),
        }
    };
    layers.par_windows(2).enumerate().map(measure).collect()
}

/// A random order of tokens: blocks are shuffled, and tokens inside blocks, so that a pass over
/// it stays in the processor's cache.
fn partners(tokens: usize) -> Vec<u32> {
    let mut random = Seed(0).stream("stats/transition");
    let end = u32::try_from(tokens).expect("fewer than 2^32 tokens");
    let all: Vec<u32> = (0..end).collect();
    let mut blocks: Vec<&[u32]> = all.chunks(BLOCK).collect();
    blocks.shuffle(&mut random);
    let mut partners = blocks.concat();
    partners.chunks_mut(BLOCK).for_each(|block| block.shuffle(&mut random));
    partners
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{traces, wide_trace};
    use super::*;

    #[test]
    fn solvable_by_hand() {
        // One pick per layer of four; the next layer repeats it: two bits, all hops stay.
        let rows: Vec<Vec<u16>> = (0..4000_u16).map(|token| vec![token % 4, token % 4]).collect();
        let trace = wide_trace(4, 1, &rows);
        let replay = Replay::new(&trace).unwrap();
        let stats = &all(&replay)[0];
        assert!((stats.bits - 2.0).abs() < 1e-12, "{stats:?}");
        assert!(stats.null_bits < 0.01, "{stats:?}");
        let transition =
            Transition::between(&replay.layer(MoeLayer(0)), &replay.layer(MoeLayer(1)));
        assert_eq!(transition.probability(1, 1), Some(1.0));
        assert_eq!(transition.probability(1, 2), Some(0.0));
    }

    #[test]
    fn independent_layers_share_no_bits() {
        // Every pair of (first, second) occurs equally often.
        let rows: Vec<Vec<u16>> =
            (0..6400_u16).map(|token| vec![token % 8, token / 8 % 8]).collect();
        let trace = wide_trace(8, 1, &rows);
        let stats = &all(&Replay::new(&trace).unwrap())[0];
        assert!(stats.bits < 1e-12, "{stats:?}");
    }

    #[test]
    fn partners_are_all_tokens() {
        let mut partners = partners(3 * BLOCK + 17);
        let moved = (0..).zip(&partners).filter(|&(token, &partner)| token != partner).count();
        assert!(moved > 3 * BLOCK);
        partners.sort_unstable();
        assert!((0..).zip(&partners).all(|(token, &partner)| token == partner));
    }

    proptest! {
        #[test]
        fn bits_are_never_negative_nor_more_than_a_choice_holds(trace in traces()) {
            let stats = &all(&Replay::new(&trace).unwrap())[0];
            for bits in [stats.bits, stats.null_bits] {
                prop_assert!((0.0..=5.0_f64.log2() + 1e-9).contains(&bits), "{bits}");
            }
        }
    }
}

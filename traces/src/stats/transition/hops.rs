//! How many of a token's hops from one MoE layer to the next can stay where the token is.
//!
//! A hop is a pick of a token and a pick of it in the next MoE layer; it can stay on a rank where
//! some rank holds a replica of both experts. The chance beside it is what the same placement
//! keeps if the two picks had nothing to do with each other: each as popular as recorded.
//! Cost: E x E counts and k^2 steps per token, per pair of layers.

use moecast_profiles::ids::{ExpertId, MoeLayer};
use rayon::prelude::*;
use serde::Serialize;

use super::{Replay, Transition};

/// The hops from one MoE layer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Hops {
    /// Layer number as the model counts it.
    pub layer: u16,
    /// Number of the next MoE layer.
    pub next_layer: u16,
    /// (pick, next pick) pairs.
    pub hops: u64,
    /// Share of them that can stay on a rank; `None` where there is no hop.
    pub share: Option<f64>,
    /// The share if picks of the two layers were independent.
    pub chance: Option<f64>,
}

/// The hops of every MoE layer but the last; `ranks_of` tells the ranks that hold an expert.
#[must_use]
pub fn hops<'a>(
    replay: &Replay<'_>,
    ranks_of: impl Fn(MoeLayer, ExpertId) -> &'a [u16] + Sync,
) -> Vec<Hops> {
    let header = replay.trace().header();
    let measure = |(index, pair): (usize, &[u16])| {
        let ordinal = u16::try_from(index).expect("layers are numbered in 16 bits");
        let (from, to) = (MoeLayer(ordinal), MoeLayer(ordinal + 1));
        let transition = Transition::between(&replay.layer(from), &replay.layer(to));
        let shared = |a: u16, b: u16| {
            let others = ranks_of(to, ExpertId(b));
            ranks_of(from, ExpertId(a)).iter().any(|rank| others.contains(rank))
        };
        let (hops, share, chance) = shares(&transition, header.experts, shared);
        Hops { layer: pair[0], next_layer: pair[1], hops, share, chance }
    };
    header.layers.par_windows(2).enumerate().map(measure).collect()
}

/// All hops, the share of those that are `shared`, and the share by chance.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn shares(
    transition: &Transition,
    experts: u16,
    shared: impl Fn(u16, u16) -> bool,
) -> (u64, Option<f64>, Option<f64>) {
    let wide = usize::from(experts);
    let (mut from, mut to) = (vec![0_u64; wide], vec![0_u64; wide]);
    let mut stay = 0;
    for (a, sum) in (0..experts).zip(&mut from) {
        for (b, other) in (0..experts).zip(&mut to) {
            let pairs = transition.pairs(usize::from(a), usize::from(b));
            *sum += pairs;
            *other += pairs;
            stay += if pairs > 0 && shared(a, b) { pairs } else { 0 };
        }
    }
    let all: u64 = from.iter().sum();
    if all == 0 {
        return (0, None, None);
    }
    let mut chance = 0.0;
    for (a, &out) in (0..experts).zip(&from).filter(|&(_, &out)| out > 0) {
        let next: u64 =
            (0..experts).zip(&to).filter(|&(b, _)| shared(a, b)).map(|(_, &into)| into).sum();
        chance += out as f64 * next as f64;
    }
    let total = all as f64;
    (all, Some(stay as f64 / total), Some(chance / (total * total)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::testing::{trace, traces, wide_trace};

    fn near(found: Option<f64>, expected: f64) -> bool {
        (found.unwrap() - expected).abs() < 1e-12
    }

    #[test]
    fn solvable_by_hand() {
        // One pick per layer of four, the next layer repeats it. Experts 0 and 1 on rank 0, the
        // others on rank 1: all hops stay. Then every expert of the next layer on the other rank:
        // none does. Then replicas everywhere. By chance half of them would stay.
        let rows: Vec<Vec<u16>> = (0..4000_u16).map(|token| vec![token % 4, token % 4]).collect();
        let trace = wide_trace(4, 1, &rows);
        let replay = Replay::new(&trace).unwrap();
        let two: [&[u16]; 2] = [&[0], &[1]];
        let same = hops(&replay, |_, expert| two[expert.index() / 2]);
        assert_eq!((same[0].hops, same[0].share), (4000, Some(1.0)));
        assert!(near(same[0].chance, 0.5), "{same:?}");
        let other = hops(&replay, |layer, expert| two[(expert.index() / 2 + layer.index()) % 2]);
        assert_eq!(other[0].share, Some(0.0));
        assert!(near(other[0].chance, 0.5), "{other:?}");
        let both = hops(&replay, |_, _| &[0, 1]);
        assert_eq!((both[0].share, both[0].chance), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn half_of_the_hops_stay() {
        // Picks {0,1} then {0,1} of four experts, one rank each: two of four hops stay.
        let trace = trace(4, &[0], &[[0, 1, 0, 1]]);
        let ranks: [&[u16]; 4] = [&[0], &[1], &[2], &[3]];
        let replay = Replay::new(&trace).unwrap();
        let found = hops(&replay, |_, expert| ranks[expert.index()]);
        assert_eq!((found[0].share, found[0].chance), (Some(0.5), Some(0.5)));
    }

    proptest! {
        /// One rank keeps everything; the names of ranks do not matter.
        #[test]
        fn shares_are_shares(trace in traces()) {
            let replay = Replay::new(&trace).unwrap();
            for pair in hops(&replay, |_, _| &[0]) {
                prop_assert!(pair.share.is_none_or(|share| (share - 1.0).abs() < 1e-12));
                prop_assert!(pair.chance.is_none_or(|chance| (chance - 1.0).abs() < 1e-12));
            }
            let ranks: [&[u16]; 3] = [&[0], &[1], &[2]];
            let names: [&[u16]; 3] = [&[2], &[0], &[1]];
            let found = hops(&replay, |_, expert| ranks[expert.index() % 3]);
            prop_assert_eq!(found, hops(&replay, |_, expert| names[expert.index() % 3]));
        }
    }
}

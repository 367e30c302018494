//! How many experts of a layer a batch wakes: distinct experts against batch size.
//!
//! A batch of B rows of the recording, either neighbours in the order of recording or drawn at
//! random without replacement; the mean over at most [`GROUPS_MAX`] batches and all layers. If
//! every token picked uniformly, a layer would wake E(1 - (1 - k/E)^B) experts, with k the mean
//! picks of a token there.
//! Cost: at most 2 x [`GROUPS_MAX`] x twice the largest batch x picks of a token.

use moecast_profiles::seed::Seed;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::trace::{NO_EXPERT, RoutingTrace};

/// Largest batch that is looked at.
pub const BATCH_MAX: usize = 4096;

/// Most batches per size; they are evenly spaced over the recording.
pub const GROUPS_MAX: usize = 64;

/// Distinct experts per layer at one batch size, mean over layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveExperts {
    /// Tokens in the batch.
    pub batch: usize,
    /// Of tokens that were recorded one after the other.
    pub consecutive: f64,
    /// Of tokens drawn at random.
    pub random: f64,
    /// If every token picked uniformly.
    pub null: f64,
}

/// Distinct experts at 1, 2, 4, ... tokens up to the recording; `None` where it only counted.
#[must_use]
pub fn active_experts(trace: &RoutingTrace) -> Option<Vec<ActiveExperts>> {
    let tokens = trace.tokens()?.step.len();
    let in_order: Vec<usize> = (0..tokens).collect();
    let mut shuffled = in_order.clone();
    shuffled.shuffle(&mut Seed(0).stream("stats/active"));
    let picks = picks_per_token(trace);
    let sizes = (0..).map(|power| 1 << power).take_while(|&size| size <= tokens.min(BATCH_MAX));
    Some(
        sizes
            .map(|batch| ActiveExperts {
                batch,
                consecutive: mean_distinct(trace, &in_order, batch),
                random: mean_distinct(trace, &shuffled, batch),
                null: uniform(trace.header().experts, &picks, batch),
            })
            .collect(),
    )
}

/// Mean picks of a token, by layer.
#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
fn picks_per_token(trace: &RoutingTrace) -> Vec<f64> {
    let Some(columns) = trace.tokens() else { return Vec::new() };
    let (layers, k) = (trace.header().moe_layers(), usize::from(trace.header().top_k));
    let mut picks = vec![0_u64; layers];
    for row in columns.experts.chunks_exact(layers * k) {
        for (sum, ids) in picks.iter_mut().zip(row.chunks_exact(k)) {
            *sum += ids.iter().filter(|&&id| id != NO_EXPERT).count() as u64;
        }
    }
    picks.into_iter().map(|picks| picks as f64 / columns.step.len().max(1) as f64).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a number of layers, a batch size")]
fn uniform(experts: u16, picks: &[f64], batch: usize) -> f64 {
    let experts = f64::from(experts);
    let woken = picks.iter().map(|k| experts * (1.0 - (1.0 - k / experts).powf(batch as f64)));
    woken.sum::<f64>() / picks.len() as f64
}

/// Distinct experts per layer in full groups of `batch` of `rows`, mean over groups and layers.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn mean_distinct(trace: &RoutingTrace, rows: &[usize], batch: usize) -> f64 {
    let Some(columns) = trace.tokens() else { return 0.0 };
    let header = trace.header();
    let (layers, k) = (header.moe_layers(), usize::from(header.top_k));
    let experts = usize::from(header.experts);
    // Number of the last group that woke each expert.
    let mut woken_by = vec![0_usize; layers * experts];
    let all = rows.len() / batch;
    let groups = all.min(GROUPS_MAX);
    let mut distinct = 0_u64;
    for number in 1..=groups {
        let start = (number - 1) * all / groups * batch;
        for &row in &rows[start..start + batch] {
            let ids = &columns.experts[row * layers * k..(row + 1) * layers * k];
            for (layer, ids) in ids.chunks_exact(k).enumerate() {
                for &id in ids.iter().filter(|&&id| id != NO_EXPERT) {
                    let mark = &mut woken_by[layer * experts + usize::from(id)];
                    distinct += u64::from(*mark != number);
                    *mark = number;
                }
            }
        }
    }
    distinct as f64 / (groups * layers) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{renamed, trace, traces, wide_trace};
    use super::*;

    #[test]
    fn solvable_by_hand() {
        // Neighbours repeat each other, so two of them wake two experts in each layer; four wake
        // four in one layer and two in the other.
        let rows = [[0, 1, 0, 1], [1, 0, 0, 1], [2, 3, 0, 1], [2, 3, 0, 1]];
        let found = active_experts(&trace(4, &[0; 4], &rows)).unwrap();
        let consecutive: Vec<f64> = found.iter().map(|active| active.consecutive).collect();
        assert_eq!(consecutive, [2.0, 2.0, 3.0]);
        // Two of four per token: 2, then 3, then 15/4 are awake.
        let null: Vec<f64> = found.iter().map(|active| active.null).collect();
        assert_eq!(null, [2.0, 3.0, 3.75]);
        assert_eq!(found[2].random, 3.0);
    }

    #[test]
    fn uniform_picks_meet_the_null() {
        use rand::RngExt;
        let mut random = moecast_profiles::seed::Seed(9).stream("test");
        let rows: Vec<Vec<u16>> =
            (0..8192).map(|_| (0..4).map(|_| random.random_range(0..64)).collect()).collect();
        for active in active_experts(&wide_trace(64, 1, &rows)).unwrap() {
            let far =
                (active.random - active.null).abs().max((active.consecutive - active.null).abs());
            assert!(far < 0.02 * active.null + 0.01, "{active:?}");
        }
    }

    proptest! {
        #[test]
        fn names_of_experts_do_not_matter(trace in traces(), shift in 1_u16..5) {
            prop_assert_eq!(active_experts(&trace), active_experts(&renamed(&trace, shift)));
        }
    }
}

//! Transition affinity: tokens that chose these experts here have mostly chosen those experts in
//! the next layer, as counted in training. What the affinity placements of `ExFlow` (arXiv
//! 2401.08383) count, used to copy ahead. Cost: E sums an expert and layer in reach, one sort.
//!
//! A routed expert hands its tokens on by its row of the counts, shared out to sum to one; as many
//! experts as were routed here are wished for, and from them the next layer in reach is predicted
//! in turn. What was never seen in training predicts nothing.

use std::sync::Arc;

use super::{Accuracy, Entry, Prefetcher, Trained, View, Wish, reach};
use crate::cache::Routed;

pub(super) const ENTRY: Entry = Entry {
    name: "affinity",
    about: "experts that in training followed those just routed, by transition counts",
    looks_ahead: false,
    accuracy: Accuracy::Measured,
    build: |setting| {
        Box::new(Affinity {
            trained: Arc::clone(&setting.trained),
            layers: setting.layers,
            experts: setting.experts,
            depth: setting.depth,
            routed: Vec::new(),
        })
    },
};

struct Affinity {
    trained: Arc<Trained>,
    layers: usize,
    experts: usize,
    depth: usize,
    /// Experts of the layer whose router has just spoken, and their tokens.
    routed: Vec<(u16, f64)>,
}

impl Affinity {
    /// Tokens expected in the layer after `layer`, best first, at most as many experts as `from`.
    fn next(&self, layer: usize, from: &[(u16, f64)]) -> Vec<(u16, f64)> {
        let Some(counts) = self.trained.transitions.get(layer) else { return Vec::new() };
        let mut expected = vec![0.0; self.experts];
        for &(expert, tokens) in from {
            let Some(row) = counts.get(usize::from(expert)) else { continue };
            let total: u64 = row.iter().map(|&count| u64::from(count)).sum();
            if total > 0 {
                let share = tokens / total as f64;
                for (expected, &count) in expected.iter_mut().zip(row) {
                    *expected += share * f64::from(count);
                }
            }
        }
        let mut experts: Vec<(u16, f64)> =
            (0_u16..).zip(expected).filter(|&(_, tokens)| tokens > 0.0).collect();
        reach::keep_best(&mut experts, from.len());
        experts
    }
}

impl Prefetcher for Affinity {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, routed: &Routed<'_>) {
        self.routed.clear();
        let tokens = routed.counts.iter().map(|&tokens| f64::from(tokens));
        self.routed.extend(routed.experts.iter().copied().zip(tokens));
    }

    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        let Some(spoken) = view.layer else { return };
        let mut experts = self.routed.clone();
        for layer in reach::layers(view, self.depth, self.layers) {
            experts = self.next(layer - 1, &experts);
            reach::wish(layer, layer - spoken, &experts, into);
        }
    }
}

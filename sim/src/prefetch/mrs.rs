//! The highest router scores of the next layer (`HybriMoE`, arXiv 2504.05897, as released): the
//! score by which its cache evicts, S <- a * TopP(s) + (1 - a) * S with a = 0.5, also says what to
//! copy. Cost: E multiplications and one sort a layer.
//!
//! Departures: recordings hold the scores of the k chosen experts, so that p = k where the code has
//! p = 2k; s is the mean over the tokens of an event. As many experts are wished for as this
//! layer's router has just chosen.

use super::{Accuracy, Entry, Prefetcher, View, Wish, reach};
use crate::cache::Routed;

/// Weight of the newest scores.
const NEWEST: f64 = 0.5;

pub(super) const ENTRY: Entry = Entry {
    name: "mrs",
    about: "the next layer's experts of the highest running router score (HybriMoE as released)",
    looks_ahead: false,
    accuracy: Accuracy::Measured,
    build: |setting| {
        let scores = vec![vec![0.0; setting.experts]; setting.layers];
        Box::new(Mrs { scores, chosen: 0 })
    },
};

struct Mrs {
    /// `[M][E]`.
    scores: Vec<Vec<f64>>,
    /// Distinct experts of the layer whose router has just spoken.
    chosen: usize,
}

impl Prefetcher for Mrs {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, routed: &Routed<'_>) {
        self.chosen = routed.experts.len();
        let Some(scores) = self.scores.get_mut(usize::from(routed.layer)) else { return };
        for score in scores.iter_mut() {
            *score *= 1.0 - NEWEST;
        }
        let tokens = f64::from(routed.tokens.max(1));
        for (&expert, &weight) in routed.experts.iter().zip(routed.weights) {
            scores[usize::from(expert)] += NEWEST * f64::from(weight) / tokens;
        }
    }

    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        if view.layer.is_none() {
            return;
        }
        for layer in reach::layers(view, 1, self.scores.len()) {
            let scored = (0_u16..).zip(self.scores[layer].iter().copied());
            let mut experts: Vec<_> = scored.filter(|&(_, score)| score > 0.0).collect();
            reach::keep_best(&mut experts, self.chosen);
            reach::wish(layer, 1, &experts, into);
        }
    }
}

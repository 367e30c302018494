//! The gates of the next layers, applied to the hidden state of this one (HOBBIT, arXiv 2411.01433;
//! first in Mixtral-offloading, arXiv 2312.17238): residual streams change little from layer to
//! layer. Cost: one look an expert and layer in reach.
//!
//! Departures: hidden states are not recorded, so that the truth is seen through the accuracy that
//! was measured (0.96 one layer ahead, 0.90 at two and three) or given. HOBBIT goes to a farther
//! layer only when the nearer one is in memory; here the farther ones are wished for at once, with
//! a lower priority, which the queue makes the same thing.

use super::seen::{Seen, decayed};
use super::{Accuracy, Demand, Entry, Prefetcher, View, Wish, reach};

pub(super) const ENTRY: Entry = Entry {
    name: "gate-ahead",
    about: "the next layers' gates on this layer's hidden state (HOBBIT)",
    looks_ahead: true,
    accuracy: Accuracy::Given,
    build: |setting| {
        Box::new(GateAhead {
            seen: Seen::new(setting, "gate-ahead"),
            layers: setting.layers,
            depth: setting.depth,
            accuracy: setting.accuracy,
            experts: Vec::new(),
        })
    },
};

struct GateAhead {
    seen: Seen,
    layers: usize,
    depth: usize,
    accuracy: Option<f64>,
    experts: Vec<Demand>,
}

impl Prefetcher for GateAhead {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        if view.layer.is_none() {
            // There is no hidden state yet that the first gate could be applied to.
            return;
        }
        for layer in reach::layers(view, self.depth, self.layers) {
            let distance = reach::distance(view, layer);
            let accuracy = decayed(self.accuracy, distance);
            self.seen.look(view, layer, accuracy, &mut self.experts);
            reach::wish_tokens(layer, distance, &self.experts, into);
        }
    }
}

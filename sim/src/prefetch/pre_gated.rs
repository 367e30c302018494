//! The gate of a block selects for the next block (Pre-gated MoE, arXiv 2308.12066): the model was
//! retrained so that the choice of one layer ahead is the choice itself. Cost: one wish an expert.
//!
//! Departures: none in time. The recorded model was not retrained; its routing stands for that of a
//! model that was. The first block has a gate of its own, so that its experts come on demand.

use super::{Accuracy, Demand, Entry, Prefetcher, View, Wish, reach};

pub(super) const ENTRY: Entry = Entry {
    name: "pre-gated",
    about: "exact, one layer ahead: for models retrained so that a gate selects for the next layer",
    looks_ahead: true,
    accuracy: Accuracy::Measured,
    build: |setting| Box::new(PreGated { layers: setting.layers, experts: Vec::new() }),
};

struct PreGated {
    layers: usize,
    experts: Vec<Demand>,
}

impl Prefetcher for PreGated {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        if view.layer.is_none() {
            return;
        }
        for layer in reach::layers(view, 1, self.layers) {
            self.experts.clear();
            view.ahead.rest_of_pass(layer, &mut self.experts);
            reach::wish_tokens(layer, 1, &self.experts, into);
        }
    }
}

//! Exact look-ahead over queued tokens (Read-ME, arXiv 2410.19123): one small router, decoupled
//! from the layers, has routed every token that waits, so that copies can follow the queue. Cost:
//! one wish an expert and layer in reach, two looks a layer.
//!
//! Departures: the recorded model was not refactored around such a router; its routing stands for
//! that of a model that was. An expert counts for all queued tokens that need it, of this pass and
//! of the next; it is the oracle's knowledge, with the queue's demand as the order within a layer.

use super::{Accuracy, Demand, Entry, Prefetcher, View, Wish, known, reach};

pub(super) const ENTRY: Entry = Entry {
    name: "queue",
    about: "exact over queued tokens, for models whose router is decoupled (Read-ME)",
    looks_ahead: true,
    accuracy: Accuracy::Measured,
    build: |setting| {
        Box::new(Queue {
            layers: setting.layers,
            depth: setting.depth,
            waiting: Vec::new(),
            experts: Vec::new(),
        })
    },
};

struct Queue {
    layers: usize,
    depth: usize,
    waiting: Vec<Demand>,
    experts: Vec<Demand>,
}

impl Prefetcher for Queue {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        let Self { waiting, experts, .. } = self;
        known::walk(view, self.depth, self.layers, |layer, distance, asked| {
            experts.clear();
            experts.extend_from_slice(asked);
            if view.layer.is_none_or(|spoken| layer > spoken) {
                waiting.clear();
                view.ahead.next_pass(layer, waiting);
                for own in experts.iter_mut() {
                    let later = waiting.iter().find(|other| other.expert == own.expert);
                    if let Some(later) = later {
                        own.tokens = own.tokens.saturating_add(later.tokens);
                        own.before = own.before.min(later.before);
                    }
                }
            }
            reach::wish_tokens(layer, distance, experts, into);
        });
    }
}

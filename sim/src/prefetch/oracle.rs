//! The rest of this pass and the next pass as they will be, nearest layer first: no prefetcher of
//! the same depth knows more. Cost: one wish an expert and layer in reach.

use super::{Accuracy, Entry, Prefetcher, View, Wish, known, reach};

pub(super) const ENTRY: Entry = Entry {
    name: "oracle",
    about: "what will be asked for, nearest layer first",
    looks_ahead: true,
    accuracy: Accuracy::Measured,
    build: |setting| Box::new(Oracle { layers: setting.layers, depth: setting.depth }),
};

struct Oracle {
    layers: usize,
    depth: usize,
}

impl Prefetcher for Oracle {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        known::walk(view, self.depth, self.layers, |layer, distance, experts| {
            reach::wish_tokens(layer, distance, experts, into);
        });
    }
}

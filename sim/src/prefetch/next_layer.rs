//! Everything of the next layer (SE-MoE, arXiv 2205.10034): right always, and as much traffic as
//! there can be. Cost: one wish an expert and layer.

use super::{Accuracy, Entry, Prefetcher, View, Wish};

pub(super) const ENTRY: Entry = Entry {
    name: "next-layer",
    about: "all experts of the next layers (SE-MoE)",
    looks_ahead: false,
    accuracy: Accuracy::Measured,
    build: |setting| {
        let experts = u16::try_from(setting.experts).expect("experts are u16");
        Box::new(NextLayer { layers: setting.layers, experts, depth: setting.depth })
    },
};

struct NextLayer {
    layers: usize,
    experts: u16,
    depth: usize,
}

impl Prefetcher for NextLayer {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        let first = view.layer.map_or(0, |layer| layer + 1);
        for layer in first..(first + self.depth).min(self.layers) {
            let layer = u16::try_from(layer).expect("layers are u16");
            let wish = |expert| Wish { layer, expert, priority: 0.0, before: 0.0 };
            into.extend((0..self.experts).map(wish));
        }
    }
}

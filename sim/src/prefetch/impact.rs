//! Impact-driven prefetching (`HybriMoE`, arXiv 2504.05897): for the next layers, what would each
//! missing expert save the schedule if it were there? The largest saving goes first, from whatever
//! layer. Cost: two schedules a predicted expert that is missing and layer in reach.
//!
//! Departures: demand is predicted by the next layers' gates, of which no accuracy is published; it
//! is HOBBIT's for the same means, or the given one. `HybriMoE` looks three layers ahead: depth 3.

use super::seen::{Seen, decayed};
use super::{Accuracy, Demand, Entry, Prefetcher, View, Wish, reach};

pub(super) const ENTRY: Entry = Entry {
    name: "impact",
    about: "the expert whose copy saves the schedule most time first (HybriMoE: depth 3)",
    looks_ahead: true,
    accuracy: Accuracy::Given,
    build: |setting| {
        Box::new(Impact {
            seen: Seen::new(setting, "impact"),
            layers: setting.layers,
            depth: setting.depth,
            accuracy: setting.accuracy,
            demand: Vec::new(),
        })
    },
};

struct Impact {
    seen: Seen,
    layers: usize,
    depth: usize,
    accuracy: Option<f64>,
    demand: Vec<Demand>,
}

impl Prefetcher for Impact {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        if view.layer.is_none() {
            return;
        }
        for layer in reach::layers(view, self.depth, self.layers) {
            let accuracy = decayed(self.accuracy, reach::distance(view, layer));
            self.seen.look(view, layer, accuracy, &mut self.demand);
            for &Demand { expert, before, .. } in &self.demand {
                if (view.resident)(layer, expert) {
                    continue;
                }
                let gain = (view.gain)(layer, &self.demand, expert);
                if gain > 0.0 {
                    let layer = u16::try_from(layer).expect("layers are u16");
                    into.push(Wish { layer, expert, priority: gain as f32, before });
                }
            }
        }
    }
}

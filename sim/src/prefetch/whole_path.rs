//! All layers of a pass, predicted before its first layer (`ExpertFlow`, arXiv 2410.17954): a
//! trained transformer reads the tokens and says which experts they will meet. Cost: one look an
//! expert and layer in a pass.
//!
//! Departures: the trained predictor is the truth seen through an accuracy, 0.9 by default, the
//! same for all layers. What was predicted wrongly comes on demand, which is the published
//! correction; the prediction for a layer ends when its truth is known. Wishes run `depth` layers
//! ahead.

use super::seen::Seen;
use super::{Accuracy, Demand, Entry, Prefetcher, View, Wish, reach};

/// Published as "over 90 %" in domain.
const ACCURACY: f64 = 0.9;

pub(super) const ENTRY: Entry = Entry {
    name: "whole-path",
    about: "all layers of a pass, predicted before its first (ExpertFlow)",
    looks_ahead: true,
    accuracy: Accuracy::Given,
    build: |setting| {
        Box::new(WholePath {
            seen: Seen::new(setting, "whole-path"),
            depth: setting.depth,
            accuracy: setting.accuracy.unwrap_or(ACCURACY),
            path: vec![Vec::new(); setting.layers],
        })
    },
};

struct WholePath {
    seen: Seen,
    depth: usize,
    accuracy: f64,
    /// `[M]` experts predicted for this pass.
    path: Vec<Vec<Demand>>,
}

impl Prefetcher for WholePath {
    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        match view.layer {
            None => {
                for (layer, experts) in self.path.iter_mut().enumerate() {
                    self.seen.look(view, layer, self.accuracy, experts);
                }
            }
            Some(layer) => {
                // The truth of this layer is known; what was missed is on its way on demand.
                if let Some(known) = self.path.get_mut(layer) {
                    known.clear();
                }
            }
        }
        for layer in reach::layers(view, self.depth, self.path.len()) {
            let distance = reach::distance(view, layer);
            reach::wish_tokens(layer, distance, &self.path[layer], into);
        }
    }
}

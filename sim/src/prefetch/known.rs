//! Exact knowledge of the routing to come, layer after layer and on into the next pass: what the
//! oracle has, and a router that is decoupled from the layers.

use super::{Demand, View, reach};

/// Calls `found` with the layers in reach, nearest first, and their distance. After the last layer
/// of a pass comes the first of the next, as far as its tokens are known; no layer comes twice.
pub(super) fn walk(
    view: &View<'_>,
    depth: usize,
    layers: usize,
    mut found: impl FnMut(usize, usize, &[Demand]),
) {
    let mut experts = Vec::new();
    for layer in reach::layers(view, depth, layers) {
        experts.clear();
        view.ahead.rest_of_pass(layer, &mut experts);
        found(layer, reach::distance(view, layer), &experts);
    }
    let Some(spoken) = view.layer else { return };
    let left = layers.saturating_sub(spoken + 1);
    for layer in 0..depth.saturating_sub(left).min(spoken + 1) {
        experts.clear();
        view.ahead.next_pass(layer, &mut experts);
        found(layer, left + layer + 1, &experts);
    }
}

//! What all prefetchers share about distance: which layers are in reach, and that nearer layers go
//! first, whatever is known of farther ones.

use std::ops::Range;

use super::{Demand, View, Wish};

/// Layers that may be wished for: the next `depth`, as far as there are any.
pub(super) fn layers(view: &View<'_>, depth: usize, layers: usize) -> Range<usize> {
    let first = view.layer.map_or(0, |layer| layer + 1).min(layers);
    first..first.saturating_add(depth).min(layers)
}

/// Layers from the router that has just spoken to `layer` of the same pass; at least 1.
pub(super) fn distance(view: &View<'_>, layer: usize) -> usize {
    view.layer.map_or(layer + 1, |spoken| layer.saturating_sub(spoken)).max(1)
}

/// Wishes for `experts` of a layer `distance` ahead. Of one layer, a larger share of what all of
/// them are worth together goes first; a nearer layer always does.
pub(super) fn wish(layer: usize, distance: usize, experts: &[(u16, f64)], into: &mut Vec<Wish>) {
    let total: f64 = experts.iter().map(|&(_, worth)| worth).sum();
    let layer = u16::try_from(layer).expect("layers are u16");
    into.extend(experts.iter().map(|&(expert, worth)| {
        let share = if total > 0.0 && total.is_finite() { worth / total } else { 0.0 };
        Wish { layer, expert, priority: (0.5 * share - distance as f64) as f32, before: 0.0 }
    }));
}

/// The same, where an expert is worth its tokens.
pub(super) fn wish_tokens(layer: usize, distance: usize, experts: &[Demand], into: &mut Vec<Wish>) {
    let total: u64 = experts.iter().map(|own| u64::from(own.tokens)).sum();
    let layer = u16::try_from(layer).expect("layers are u16");
    into.extend(experts.iter().map(|&Demand { expert, tokens, before }| {
        let share = f64::from(tokens) / total.max(1) as f64;
        Wish { layer, expert, priority: (0.5 * share - distance as f64) as f32, before }
    }));
}

/// Keeps the `count` experts of the highest worth, of equals the lower number, best first.
pub(super) fn keep_best(experts: &mut Vec<(u16, f64)>, count: usize) {
    experts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    experts.truncate(count);
}

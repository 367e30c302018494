//! How often a prefetcher is right: its wishes, held against what routers choose later in the pass.

use crate::prefetch::Wish;

/// What was wished for so many layers ahead, and what routers then chose: distinct experts of a
/// layer and pass, as routed. Wishes for the next pass are not among them, for which tokens it
/// takes is not settled when they are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Experts that were wished for.
    pub wished: u64,
    /// Of these, those that the router chose.
    pub right: u64,
    /// Experts that the router chose, wished for or not, in layers that are so far from the pass's
    /// start or farther.
    pub chosen: u64,
}

/// Counts them.
pub(super) struct Foresight {
    /// `[M]` (layers ahead, expert) as wished for in this pass.
    wished: Vec<Vec<(usize, u16)>>,
    /// `[E]` whether the router has just chosen it.
    chosen: Vec<bool>,
    /// `[depth]` from one layer ahead on.
    counts: Vec<Foreseen>,
}

impl Foresight {
    pub(super) fn new(layers: usize, experts: usize, depth: usize) -> Self {
        Self {
            wished: vec![Vec::new(); layers],
            chosen: vec![false; experts],
            counts: vec![Foreseen::default(); depth.min(layers)],
        }
    }

    /// `wish` was made after the router of layer `spoken`, or before the first.
    pub(super) fn wish(&mut self, spoken: Option<usize>, wish: &Wish) {
        let (first, layer) = (spoken.map_or(0, |layer| layer + 1), usize::from(wish.layer));
        if layer >= first && layer - first < self.counts.len() {
            self.wished[layer].push((layer - first, wish.expert));
        }
    }

    /// The router of `layer` chooses `experts`.
    pub(super) fn routed(&mut self, layer: usize, experts: impl Iterator<Item = u16> + Clone) {
        let mut count = 0;
        for expert in experts.clone() {
            self.chosen[usize::from(expert)] = true;
            count += 1;
        }
        for own in self.counts.iter_mut().take(layer + 1) {
            own.chosen += count;
        }
        for (ahead, expert) in self.wished[layer].drain(..) {
            self.counts[ahead].wished += 1;
            self.counts[ahead].right += u64::from(self.chosen[usize::from(expert)]);
        }
        experts.for_each(|expert| self.chosen[usize::from(expert)] = false);
    }

    /// By layers ahead, as far as anything was wished for.
    pub(super) fn counts(&self) -> Vec<Foreseen> {
        let far = self.counts.iter().rposition(|own| own.wished > 0).map_or(0, |last| last + 1);
        self.counts[..far].to_vec()
    }
}

//! HOBBIT's multidimensional policy: a weighted sum of how lately an expert was used, how often,
//! how often at high precision, and how soon its layer comes; the lowest leaves (Tang et al.,
//! "HOBBIT: a mixed precision expert offloading system for fast MoE inference", 2024):
//! `w1 R/T + w2 F/T + w3 H/T + w4 (1 - d/L)`, R the token of the last use, F uses, H uses at high
//! precision, T tokens so far, d layers until the expert's layer is computed, L layers.
//! Cost: the slots per eviction; 24 bytes an expert.
//! Departures: the weights are not published, so all are a quarter, and counts run over the
//! whole recording instead of one sequence. The formula's two layer indices are read such that a
//! near layer counts for more. Where experts have one version, all uses are of high precision; else
//! those of the last version are.

use super::passes::Passes;
use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Routed, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "hobbit",
    about: "recency, frequency, precision and layer distance in one sum",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Hobbit {
            residents: Residents::new(items),
            passes: Passes::new(setting),
            used: vec![(0, 0); items],
            versions: setting.versions,
            weights: [0.25; 4],
        })
    },
};

struct Hobbit {
    residents: Residents,
    passes: Passes,
    /// `[items]` token of the last use, and uses.
    used: Vec<(u64, u64)>,
    versions: usize,
    weights: [f64; 4],
}

impl Hobbit {
    fn count(&mut self, item: Item) {
        let used = &mut self.used[item as usize];
        *used = (self.passes.tokens, used.1 + 1);
    }

    fn worth(&self, item: Item, incoming: Item) -> f64 {
        let (last, uses) = self.used[item as usize];
        let is_high = item as usize % self.versions == self.versions - 1;
        let high = if is_high { uses } else { 0 };
        let tokens = self.passes.tokens.max(1) as f64;
        let share = |count: u64| count as f64 / tokens;
        let [recency, frequency, precision, layer] = self.weights;
        recency * share(last)
            + frequency * share(uses)
            + precision * share(high)
            + layer * self.passes.nearness(item, incoming)
    }
}

impl Policy for Hobbit {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, said: &Routed<'_>) {
        self.passes.routed(said);
    }

    fn hit(&mut self, item: Item, _: Moment) {
        self.count(item);
    }

    fn miss(&mut self, item: Item, _: Moment) {
        self.count(item);
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.add(item);
    }

    fn victim(&mut self, incoming: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.residents.lowest(keep, |item| self.worth(item, incoming))
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}

//! Least-Stale: layers are computed in turn, so an expert whose layer has passed without using it
//! is stale and leaves before anybody whose layer is yet to come; the stalest goes first (Hoang et
//! al., "SpecMD: a comprehensive study on speculative expert prefetching", 2026).
//! Cost: the slots per eviction; 12 bytes an expert.
//! Departure: the idea is the paper's, the order in detail is ours. First those whose layer has
//! passed and that an earlier pass used last, longest ago first; then those that this pass has
//! used, the latest layer first, because it is the last to come again; then those whose layer is
//! yet to come, the farthest first.

use super::passes::Passes;
use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Routed, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "least-stale",
    about: "who was not used when its layer passed leaves before who may be yet",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(LeastStale {
            residents: Residents::new(items),
            passes: Passes::new(setting),
            last: vec![0; items],
        })
    },
};

struct LeastStale {
    residents: Residents,
    passes: Passes,
    /// `[items]` pass of the last use.
    last: Vec<u64>,
}

impl LeastStale {
    /// Lowest for who is to leave first.
    fn order(&self, item: Item, incoming: Item) -> (u8, u64, usize) {
        let last = self.last[item as usize];
        let (layer, now) = (self.passes.layer_of(item), self.passes.layer_of(incoming));
        let farthest = usize::MAX - layer;
        match (layer <= now, last < self.passes.pass) {
            (true, true) => (0, last, layer),
            (true, false) => (1, 0, farthest),
            (false, _) => (2, 0, farthest),
        }
    }
}

impl Policy for LeastStale {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, said: &Routed<'_>) {
        self.passes.routed(said);
    }

    fn hit(&mut self, item: Item, _: Moment) {
        self.last[item as usize] = self.passes.pass;
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.last[item as usize] = self.passes.pass;
        self.residents.add(item);
    }

    fn victim(&mut self, incoming: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.residents.lowest(keep, |item| self.order(item, incoming))
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}

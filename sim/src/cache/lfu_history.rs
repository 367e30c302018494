//! LFU whose counts survive eviction: whoever was used least in the whole past leaves, of equals
//! who was used longest ago. This is the LFU of Liang et al. ("Not All Models Suit Expert
//! Offloading", 2025) and the one that static placement by frequency approaches.
//! Cost: logarithmic in the slots per look-up; 16 bytes an expert and about 40 a slot.

use std::collections::BTreeSet;

use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lfu-history",
    about: "the least frequently used leaves; counts survive eviction",
    sees: Sees::Past,
    build: |setting| {
        let rank = vec![(0, 0); setting.items()];
        Box::new(LfuHistory { residents: BTreeSet::new(), rank, clock: 0 })
    },
};

/// Uses, and when the last was.
type Rank = (u64, u64);

struct LfuHistory {
    /// Residents by rank.
    residents: BTreeSet<(Rank, Item)>,
    /// `[items]`
    rank: Vec<Rank>,
    /// Uses so far, of all: positions stand still within an event, this does not.
    clock: u64,
}

impl LfuHistory {
    fn count(&mut self, item: Item) {
        self.clock += 1;
        let rank = &mut self.rank[item as usize];
        *rank = (rank.0 + 1, self.clock);
    }
}

impl Policy for LfuHistory {
    fn hit(&mut self, item: Item, _: Moment) {
        self.residents.remove(&(self.rank[item as usize], item));
        self.count(item);
        self.residents.insert((self.rank[item as usize], item));
    }

    fn miss(&mut self, item: Item, _: Moment) {
        self.count(item);
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.insert((self.rank[item as usize], item));
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let mut all = self.residents.iter().map(|&(_, item)| item);
        all.find(|&item| keep.allows(item))
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(&(self.rank[item as usize], item));
    }
}

//! LFRU: a privileged part is LRU, the rest is LFU; a use lifts an expert of the rest into the
//! privileged part, whose oldest comes back in exchange, and the least used of the rest leaves
//! (Bilal and Kang, "A cache management scheme for efficient content eviction and replication in
//! cache networks", IEEE Access 5, 2017). Half of the slots are privileged.
//! Cost: logarithmic in the slots per look-up; 28 bytes an expert and about 40 a slot.
//! Departure: the paper counts within time windows of a network; here a count lasts as long as the
//! expert stays.

use std::collections::BTreeSet;

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lfru",
    about: "half is LRU, half is LFU; a use lifts from the latter into the former",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Lfru {
            privileged: Lists::new(items, 1),
            rest: BTreeSet::new(),
            rank: vec![(0, 0); items],
            lifted: vec![false; items],
            most: setting.slots / 2,
            clock: 0,
        })
    },
};

struct Lfru {
    privileged: Lists,
    rest: BTreeSet<((u64, u64), Item)>,
    /// `[items]` uses since it came, and when it came into the rest.
    rank: Vec<(u64, u64)>,
    lifted: Vec<bool>,
    /// Members of the privileged part.
    most: usize,
    clock: u64,
}

impl Lfru {
    fn lower(&mut self, item: Item) {
        self.clock += 1;
        self.rank[item as usize].1 = self.clock;
        self.lifted[item as usize] = false;
        self.rest.insert((self.rank[item as usize], item));
    }
}

impl Policy for Lfru {
    fn hit(&mut self, item: Item, _: Moment) {
        let before = self.rank[item as usize];
        self.rank[item as usize].0 += 1;
        if self.lifted[item as usize] {
            return self.privileged.refresh(0, item);
        }
        self.rest.remove(&(before, item));
        self.lifted[item as usize] = true;
        self.privileged.push_front(0, item);
        if self.privileged.len(0) > self.most {
            let oldest = self.privileged.back(0).expect("not empty");
            self.privileged.remove(0, oldest);
            self.lower(oldest);
        }
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.rank[item as usize].0 = 1;
        self.lower(item);
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let rest = self.rest.iter().map(|&(_, item)| item);
        rest.chain(self.privileged.from_back(0)).find(|&item| keep.allows(item))
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        if std::mem::take(&mut self.lifted[item as usize]) {
            self.privileged.remove(0, item);
        } else {
            self.rest.remove(&(self.rank[item as usize], item));
        }
    }
}

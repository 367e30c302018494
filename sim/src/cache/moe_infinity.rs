//! MoE-Infinity: whoever was visited least since it arrived leaves, as the released code does it
//! (Xue et al., "MoE-Infinity: efficient MoE inference on personal machines with sparsity-aware
//! expert cache", 2024).
//! Cost: the slots per eviction; 12 bytes an expert.
//! Departure: the code leaves equals to the order of its scan, which is that of layers and experts
//! here too; this is where it differs from `lfu`. Its activation-aware prefetching is a
//! prefetcher's business.

use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "moe-infinity",
    about: "the fewest visits since arrival leave; of equals the first layer's",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(MoeInfinity { residents: Residents::new(items), visits: vec![0; items] })
    },
};

struct MoeInfinity {
    residents: Residents,
    visits: Vec<u32>,
}

impl Policy for MoeInfinity {
    fn hit(&mut self, item: Item, _: Moment) {
        self.visits[item as usize] += 1;
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.visits[item as usize] = 1;
        self.residents.add(item);
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.residents.lowest(keep, |item| self.visits[item as usize])
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}

//! EdgeMoE: the expert leaves that is used seldom and whose layer is far from being computed (Yi et
//! al., "EdgeMoE: empowering sparse large language models on mobile devices", IEEE TMC 2025).
//! Cost: the slots per eviction; 16 bytes an expert.
//! Departure: the paper names both factors and no formula; here they are multiplied, uses in the
//! past by one minus the share of a pass until the expert's layer is next.

use super::passes::Passes;
use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "edgemoe",
    about: "the least of frequency times nearness of the layer leaves",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(EdgeMoe {
            residents: Residents::new(items),
            passes: Passes::new(setting),
            uses: vec![0; items],
        })
    },
};

struct EdgeMoe {
    residents: Residents,
    passes: Passes,
    uses: Vec<u64>,
}

impl Policy for EdgeMoe {
    fn hit(&mut self, item: Item, _: Moment) {
        self.uses[item as usize] += 1;
    }

    fn miss(&mut self, item: Item, _: Moment) {
        self.uses[item as usize] += 1;
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.add(item);
    }

    fn victim(&mut self, incoming: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.residents.lowest(keep, |item| {
            self.uses[item as usize] as f64 * self.passes.nearness(item, incoming)
        })
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}

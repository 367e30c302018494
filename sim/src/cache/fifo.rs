//! FIFO: whoever came first leaves; uses change nothing. Cost: constant per look-up; 8 bytes an
//! expert.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "fifo",
    about: "who came first leaves first",
    sees: Sees::Past,
    build: |setting| Box::new(Fifo { arrived: Lists::new(setting.items(), 1) }),
};

struct Fifo {
    /// Last to arrive first.
    arrived: Lists,
}

impl Policy for Fifo {
    #[inline]
    fn hit(&mut self, _: Item, _: Moment) {}

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        self.arrived.push_front(0, item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.arrived.from_back(0).find(|&item| keep.allows(item))
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.arrived.remove(0, item);
    }
}

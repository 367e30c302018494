//! LRU: whoever was used longest ago leaves. Cost: constant per look-up; 8 bytes an expert.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lru",
    about: "the least recently used leaves",
    sees: Sees::Past,
    build: |setting| Box::new(Lru { used: Lists::new(setting.items(), 1) }),
};

struct Lru {
    /// Most recent first.
    used: Lists,
}

impl Policy for Lru {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        self.used.refresh(0, item);
    }

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        self.used.push_front(0, item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.used.from_back(0).find(|&item| keep.allows(item))
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.used.remove(0, item);
    }
}

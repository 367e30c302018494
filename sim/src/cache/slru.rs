//! SLRU: LRU lists in a row; a use lifts an item into the next one, whose oldest sinks back in
//! exchange, and the lowest list pays for newcomers (Karedla, Love and Wherry, "Caching strategies
//! to improve disk system performance", Computer 27(3), 1994). Four lists of a quarter of the slots
//! each, as in libCacheSim; the paper has two.
//! Cost: constant per look-up; 9 bytes an expert.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "slru",
    about: "four LRU lists; every use lifts an expert into the next",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        let most = (setting.slots / LISTS).max(1);
        Box::new(Slru { used: Lists::new(items, LISTS), list_of: vec![0; items], most })
    },
};

const LISTS: usize = 4;

struct Slru {
    used: Lists,
    list_of: Vec<u8>,
    /// Members of a list; the lowest may have more while there is room.
    most: usize,
}

impl Slru {
    #[inline]
    fn put(&mut self, list: usize, item: Item) {
        self.used.push_front(list, item);
        self.list_of[item as usize] = list as u8;
    }
}

impl Policy for Slru {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        let list = usize::from(self.list_of[item as usize]);
        self.used.remove(list, item);
        let higher = (list + 1).min(LISTS - 1);
        if higher > list && self.used.len(higher) >= self.most {
            let sinks = self.used.back(higher).expect("a full list");
            self.used.remove(higher, sinks);
            self.put(list, sinks);
        }
        self.put(higher, item);
    }

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        let free = (0..LISTS).find(|&list| self.used.len(list) < self.most);
        self.put(free.unwrap_or(0), item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let mut all = (0..LISTS).flat_map(|list| self.used.from_back(list));
        all.find(|&item| keep.allows(item))
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.used.remove(self.list_of[item as usize].into(), item);
    }
}

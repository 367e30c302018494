//! ARC: two LRU lists, of those seen once and of those seen again, and for each a list of ghosts of
//! who left it; a miss on a ghost moves the border between the two towards the list that lost it
//! (Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003).
//! Cost: constant per look-up; 9 bytes an expert.
//! Departure: who may not leave because the current event uses it is passed by, if need be to the
//! other list. The border is a real number, as in the paper's text and in libCacheSim.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "arc",
    about: "recency and frequency share the slots as their ghosts ask for",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Arc {
            lists: Lists::new(items, 4),
            list_of: vec![NONE; items],
            slots: setting.slots,
            border: 0.0,
            forget: false,
        })
    },
};

/// Seen once, and seen again.
const ONCE: usize = 0;
const AGAIN: usize = 1;
/// Their ghosts stand two further.
const GHOSTS: usize = 2;
const NONE: u8 = u8::MAX;

struct Arc {
    lists: Lists,
    /// `[items]` the list of each, or [`NONE`].
    list_of: Vec<u8>,
    slots: usize,
    /// How long the list of those seen once should be.
    border: f64,
    /// Who leaves next leaves no ghost.
    forget: bool,
}

impl Arc {
    fn is_ghost(&self, item: Item, of: usize) -> bool {
        usize::from(self.list_of[item as usize]) == of + GHOSTS
    }

    #[inline]
    fn put(&mut self, list: usize, item: Item) {
        let before = self.list_of[item as usize];
        if before != NONE {
            self.lists.remove(before.into(), item);
        }
        self.lists.push_front(list, item);
        self.list_of[item as usize] = list as u8;
    }

    fn drop_ghost(&mut self, of: usize) {
        if let Some(oldest) = self.lists.back(of + GHOSTS) {
            self.lists.remove(of + GHOSTS, oldest);
            self.list_of[oldest as usize] = NONE;
        }
    }

    fn oldest(&self, list: usize, keep: Keep<'_>) -> Option<Item> {
        self.lists.from_back(list).find(|&item| keep.allows(item))
    }

    /// Who leaves by the border.
    fn replace(&self, incoming: Item, keep: Keep<'_>) -> Option<Item> {
        let once = self.lists.len(ONCE) as f64;
        let over =
            if self.is_ghost(incoming, AGAIN) { once >= self.border } else { once > self.border };
        let first = if once > 0.0 && over { ONCE } else { AGAIN };
        self.oldest(first, keep).or_else(|| self.oldest(1 - first, keep))
    }
}

impl Policy for Arc {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        self.put(AGAIN, item);
    }

    #[inline]
    fn miss(&mut self, item: Item, _: Moment) {
        let ghosts = [ONCE, AGAIN].map(|list| self.lists.len(list + GHOSTS) as f64);
        if self.is_ghost(item, ONCE) {
            let step = (ghosts[AGAIN] / ghosts[ONCE]).max(1.0);
            self.border = (self.border + step).min(self.slots as f64);
        } else if self.is_ghost(item, AGAIN) {
            let step = (ghosts[ONCE] / ghosts[AGAIN]).max(1.0);
            self.border = (self.border - step).max(0.0);
        }
    }

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        let known = self.list_of[item as usize] != NONE;
        self.put(if known { AGAIN } else { ONCE }, item);
    }

    #[inline]
    fn victim(&mut self, incoming: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.forget = false;
        if self.list_of[incoming as usize] != NONE {
            return self.replace(incoming, keep);
        }
        let length = |list| self.lists.len(list);
        let once = length(ONCE) + length(ONCE + GHOSTS);
        if once < self.slots {
            if once + length(AGAIN) + length(AGAIN + GHOSTS) >= 2 * self.slots {
                self.drop_ghost(AGAIN);
            }
        } else if length(ONCE) < self.slots {
            self.drop_ghost(ONCE);
        } else {
            self.forget = true;
            return self.oldest(ONCE, keep).or_else(|| self.oldest(AGAIN, keep));
        }
        self.replace(incoming, keep)
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        if std::mem::take(&mut self.forget) {
            let list = std::mem::replace(&mut self.list_of[item as usize], NONE);
            return self.lists.remove(list.into(), item);
        }
        let list = usize::from(self.list_of[item as usize]);
        self.put(list + GHOSTS, item);
    }
}

//! Belady: whoever is used again last leaves; no policy that must admit what it loads, with items
//! of one size, has more hits (Belady, "A study of replacement algorithms", IBM Systems Journal
//! 5(2), 1966). Residents stand in a set of their next uses, a tree of 64-bit words over the
//! positions of the stream, so that the last one is found in a few steps.
//! Cost: constant per look-up (three or four levels for a million); about 8 bytes a use.

use std::sync::Arc;

use moecast_traces::future::{NEVER, NextUse};

use super::positions::Positions;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "belady",
    about: "oracle: whoever is used again last leaves",
    sees: Sees::Future,
    build: |setting| {
        let future = setting.future.clone().expect("an entry that sees the future is given it");
        Box::new(Belady::new(future))
    },
};

struct Belady {
    future: Arc<NextUse>,
    /// Which item is used at every position.
    item_at: Vec<Item>,
    /// `[items]` uses of each item that are over.
    passed: Vec<u32>,
    /// `[items]` the position of the next use; [`NEVER`] where there is none.
    next: Vec<u64>,
    /// Next uses of residents.
    ahead: Positions,
    /// Residents that are never used again.
    dead: Vec<Item>,
}

impl Belady {
    fn new(future: Arc<NextUse>) -> Self {
        let items = future.items();
        let mut item_at = vec![0; future.uses()];
        for item in 0..u32::try_from(items).expect("fewer than 2^32 items") {
            for &position in future.of(item) {
                item_at[position as usize] = item;
            }
        }
        Self {
            item_at,
            passed: vec![0; items],
            next: vec![NEVER; items],
            ahead: Positions::new(future.uses()),
            dead: Vec::new(),
            future,
        }
    }

    /// Puts `item` where its first use after `now` says.
    #[inline]
    fn enter(&mut self, item: Item, now: u64) {
        let uses = self.future.of(item);
        let passed = &mut self.passed[item as usize];
        while uses.get(*passed as usize).is_some_and(|&at| u64::from(at) <= now) {
            *passed += 1;
        }
        if let Some(&at) = uses.get(*passed as usize) {
            self.next[item as usize] = at.into();
            self.ahead.insert(at as usize);
        } else {
            self.next[item as usize] = NEVER;
            self.dead.push(item);
        }
    }
}

impl Policy for Belady {
    #[inline]
    fn hit(&mut self, item: Item, at: Moment) {
        let next = self.next[item as usize];
        // A repeat within an event changes nothing: its next use is ahead.
        if next > at.position {
            return;
        }
        self.ahead.remove(next as usize);
        self.enter(item, at.position);
    }

    #[inline]
    fn admit(&mut self, item: Item, at: Moment) {
        self.enter(item, at.position);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let dead = self.dead.iter().rev().find(|&&item| keep.allows(item));
        if let Some(&item) = dead {
            return Some(item);
        }
        let mut last = self.ahead.last_before(usize::MAX);
        while let Some(position) = last {
            let item = self.item_at[position];
            if keep.allows(item) {
                return Some(item);
            }
            last = self.ahead.last_before(position);
        }
        None
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        let next = self.next[item as usize];
        if next == NEVER {
            let place = self.dead.iter().rposition(|&dead| dead == item).expect("a resident");
            self.dead.swap_remove(place);
        } else {
            self.ahead.remove(next as usize);
        }
    }
}

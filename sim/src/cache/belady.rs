//! Belady: whoever is used again last leaves; no policy that must admit what it loads, with items
//! of one size, has more hits (Belady, "A study of replacement algorithms", IBM Systems Journal
//! 5(2), 1966). Residents stand in a set of their next uses, a tree of 64-bit words over the
//! positions of the stream, so that the last one is found in a few steps.
//! Cost: constant per look-up (three or four levels for a million); about 12 bytes a use.

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

/// The position that stands for "never again" here.
const NO_USE: u32 = u32::MAX;

struct Belady {
    future: Arc<NextUse>,
    /// Which item is used at every position.
    item_at: Vec<Item>,
    /// Where that item is used next.
    next_at: Vec<u32>,
    /// `[items]` the position of the next use; [`NO_USE`] where there is none.
    next: Vec<u32>,
    /// Next uses of residents.
    ahead: Positions,
    /// Residents that are never used again.
    dead: Vec<Item>,
}

impl Belady {
    fn new(future: Arc<NextUse>) -> Self {
        let items = future.items();
        let (mut item_at, mut next_at) = (vec![0; future.uses()], vec![NO_USE; future.uses()]);
        for item in 0..u32::try_from(items).expect("fewer than 2^32 items") {
            let own = future.of(item);
            for (index, &position) in own.iter().enumerate() {
                item_at[position as usize] = item;
                next_at[position as usize] = own.get(index + 1).copied().unwrap_or(NO_USE);
            }
        }
        let ahead = Positions::new(future.uses());
        let next = vec![NO_USE; items];
        Self { item_at, next_at, next, ahead, dead: Vec::new(), future }
    }

    /// Puts `item` where its first use after `now` says.
    #[inline]
    fn enter(&mut self, item: Item, now: u64) {
        let at = usize::try_from(now).unwrap_or(usize::MAX);
        let next = match self.item_at.get(at) {
            Some(&used) if used == item => self.next_at[at],
            // A prefetched item: nothing of it is used now.
            _ => self.after(item, now),
        };
        self.next[item as usize] = next;
        if next == NO_USE {
            self.dead.push(item);
        } else {
            self.ahead.insert(next as usize);
        }
    }

    #[cold]
    fn after(&self, item: Item, now: u64) -> u32 {
        match self.future.after(item, now) {
            NEVER => NO_USE,
            next => u32::try_from(next).expect("positions are 32 bits"),
        }
    }
}

impl Policy for Belady {
    #[inline]
    fn hit(&mut self, item: Item, at: Moment) {
        let next = self.next[item as usize];
        // A repeat within an event changes nothing: its next use is ahead.
        if u64::from(next) <= at.position {
            self.ahead.remove(next as usize);
            self.enter(item, at.position);
        }
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
        if next == NO_USE {
            let place = self.dead.iter().rposition(|&dead| dead == item).expect("a resident");
            self.dead.swap_remove(place);
        } else {
            self.ahead.remove(next as usize);
        }
    }
}

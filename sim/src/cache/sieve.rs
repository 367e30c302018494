//! SIEVE: a FIFO queue that nobody moves in, and a hand that goes from its oldest to its newest
//! member, clears marks of use and evicts the first that has none (Zhang et al., "SIEVE is simpler
//! than LRU", NSDI 2024).
//! Cost: constant per look-up, amortised; 9 bytes an expert.
//! Departure: the hand passes by who may not leave because the current event uses it.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "sieve",
    about: "FIFO with a hand that evicts the first that was not used",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Sieve { arrived: Lists::new(items, 1), used: vec![false; items], hand: None })
    },
};

struct Sieve {
    arrived: Lists,
    used: Vec<bool>,
    /// Who is looked at next; the oldest where nobody is.
    hand: Option<Item>,
}

impl Policy for Sieve {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        self.used[item as usize] = true;
    }

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        self.used[item as usize] = false;
        self.arrived.push_front(0, item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        for _ in 0..=2 * self.arrived.len(0) {
            let item = self.hand.or_else(|| self.arrived.back(0))?;
            if keep.allows(item) {
                if !self.used[item as usize] {
                    self.hand = Some(item);
                    return Some(item);
                }
                self.used[item as usize] = false;
            }
            self.hand = self.arrived.towards_front(0, item);
        }
        None
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        if self.hand == Some(item) {
            self.hand = self.arrived.towards_front(0, item);
        }
        self.arrived.remove(0, item);
    }
}

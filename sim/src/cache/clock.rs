//! CLOCK: FIFO, but who was used since it was last looked at gets another round (Corbato, "A paging
//! experiment with the Multics system", 1968). One bit each, as a queue whose spared members are
//! put back at its front, which is what libCacheSim does.
//! Cost: constant per look-up, amortised; 9 bytes an expert.
//! Departure: who may not leave because the current event uses it is put back as if used.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "clock",
    about: "FIFO with a second chance for who was used",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Clock { arrived: Lists::new(items, 1), used: vec![false; items] })
    },
};

struct Clock {
    arrived: Lists,
    used: Vec<bool>,
}

impl Policy for Clock {
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
        // Two rounds meet everybody with a cleared bit, or nobody may leave.
        for _ in 0..=2 * self.arrived.len(0) {
            let item = self.arrived.back(0)?;
            if keep.allows(item) {
                if !self.used[item as usize] {
                    return Some(item);
                }
                self.used[item as usize] = false;
            }
            self.arrived.refresh(0, item);
        }
        None
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.arrived.remove(0, item);
    }
}

//! Belady's hits of single look-ups, without looking ahead and without a list of residents.
//!
//! An expert that is kept from one use to the next takes a slot between them, and every use takes
//! one for itself. Belady gives up whoever is used again last, so of all the stretches between uses
//! he keeps as many as fit into all slots but one; the same are kept by whoever takes each stretch
//! when it ends, if a slot is free all along it, and of the free ones that which was taken last
//! (Faigle and Nawijn, "Note on scheduling intervals on-line", Discrete Applied Mathematics 58(1),
//! 1995; Jain and Lin use stretches for hindsight in "Back to the future", ISCA 2016). A slot is
//! free from the end of its last stretch, so that what must be found is the last end before a use.
//! Memory: 8 bytes an item and a bit a look-up.

use super::Alone;
use crate::cache::Item;
use crate::cache::positions::Positions;

/// The uses of one pool so far.
pub(super) struct Optimum {
    /// `[items]` one more than the position of the last use; 0 where there was none.
    last: Vec<usize>,
    /// Where the last stretch of every slot ended.
    ends: Positions,
    /// Slots that have held no stretch yet.
    unused: usize,
    /// No slot is free from a position before this one.
    floor: usize,
    now: usize,
}

impl Optimum {
    pub(super) fn new(items: usize, slots: usize, look_ups: usize) -> Self {
        let ends = Positions::new(look_ups);
        Self { last: vec![0; items], ends, unused: slots - 1, floor: 0, now: 0 }
    }

    #[inline]
    fn look_up(&mut self, item: Item) -> bool {
        let now = self.now;
        self.now += 1;
        let next = std::mem::replace(&mut self.last[item as usize], self.now);
        // Between a use and the next look-up there is nothing to keep.
        if next == 0 || next == now {
            return next != 0;
        }
        // An end at the position after the last use leaves its slot free for what comes between.
        if next < self.floor && self.unused == 0 {
            return false;
        }
        if let Some(end) = self.ends.last_before(next + 1) {
            self.ends.remove(end);
        } else if self.unused > 0 {
            self.unused -= 1;
        } else {
            self.floor = next + 1;
            return false;
        }
        self.ends.insert(now);
        true
    }
}

impl Alone for Optimum {
    fn run(&mut self, items: &[Item], found: &mut [bool]) {
        for (&item, found) in items.iter().zip(found) {
            *found = self.look_up(item);
        }
    }
}

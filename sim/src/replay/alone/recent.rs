//! LRU's hits: an expert is resident as long as its last use is no older than that of the resident
//! whose last use is the oldest. Uses are written down one after the other and nothing is unlinked;
//! the oldest are passed over when room is needed, and only a use that was its expert's last makes
//! some. Memory: 20 bytes an item.

use super::Alone;
use crate::cache::Item;

pub(super) struct Recent {
    /// Uses, the oldest first, after one that is nobody's.
    uses: Vec<Item>,
    /// `[items]` which of the uses was the last; 0 where there was none.
    last: Vec<u32>,
    /// Whose last use is before this one is not resident.
    from: usize,
    /// Slots that are free; one too few for a moment.
    free: isize,
    /// Uses that are written down before those that do not count are struck out.
    most: usize,
}

impl Recent {
    pub(super) fn new(items: usize, slots: usize) -> Self {
        let most = 4 * items.max(16);
        let mut uses = Vec::with_capacity(most);
        uses.push(Item::MAX);
        Self { uses, last: vec![0; items], from: 1, free: slots as isize, most }
    }

    fn counts(&self, place: usize) -> bool {
        self.last[self.uses[place] as usize] as usize == place
    }

    #[inline]
    fn look_up(&mut self, item: Item) -> bool {
        if self.uses.len() == self.most {
            self.strike_out();
        }
        let now = self.uses.len() as u32;
        let last = std::mem::replace(&mut self.last[item as usize], now);
        self.uses.push(item);
        let hit = last as usize >= self.from;
        self.free -= isize::from(!hit);
        while self.free < 0 {
            self.free += isize::from(self.counts(self.from));
            self.from += 1;
        }
        hit
    }

    #[cold]
    fn strike_out(&mut self) {
        for last in &mut self.last {
            *last = if (*last as usize) < self.from { 0 } else { *last };
        }
        let mut kept = 1;
        for place in self.from..self.uses.len() {
            if self.counts(place) {
                let item = self.uses[place];
                self.uses[kept] = item;
                self.last[item as usize] = kept as u32;
                kept += 1;
            }
        }
        self.uses.truncate(kept);
        self.from = 1;
    }
}

impl Alone for Recent {
    fn run(&mut self, items: &[Item], found: &mut [bool]) {
        for (&item, found) in items.iter().zip(found) {
            *found = self.look_up(item);
        }
    }
}

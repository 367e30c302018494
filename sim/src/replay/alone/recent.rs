//! LRU's hits: an expert is resident as long as its last use is no older than that of the resident
//! whose last use is the oldest. Uses are numbered, a bit each says whether it was its expert's
//! last one, and the oldest is the first set bit: no list is kept in order, and nothing branches on
//! whether a look-up hits, which nobody can predict. Memory: 10 bytes an item.

use std::hint::select_unpredictable;

use super::Alone;
use crate::cache::Item;

pub(super) struct Recent {
    /// `[items]` number of the last use; 0 where there was none.
    last: Vec<usize>,
    /// Which uses are somebody's last; ones where nothing is written yet.
    bits: Vec<u64>,
    /// The next use's number.
    now: usize,
    /// Whose last use is before this one is not resident.
    from: usize,
    /// Slots that hold nobody.
    free: usize,
}

impl Recent {
    pub(super) fn new(items: usize, slots: usize) -> Self {
        let bits = vec![u64::MAX; (items / 4).max(64)];
        Self { last: vec![0; items], bits, now: 1, from: 1, free: slots }
    }

    /// Look-ups that there is room for, when all slots hold somebody.
    fn look_up(&mut self, items: &[Item], found: &mut [bool]) {
        let (last, bits) = (&mut self.last[..], &mut self.bits[..]);
        let mut from = self.from;
        for ((&item, found), now) in items.iter().zip(found).zip(self.now..) {
            let before = std::mem::replace(&mut last[item as usize], now);
            bits[before / 64] &= !(1 << (before % 64));
            *found = before >= from;
            // The use that has just been written down is set: there always is one.
            let mut place = from / 64;
            let mut word = bits[place] & (u64::MAX << (from % 64));
            while word == 0 {
                place += 1;
                word = bits[place];
            }
            let oldest = place * 64 + word.trailing_zeros() as usize;
            from = select_unpredictable(*found, from, oldest + 1);
        }
        self.now += items.len();
        self.from = from;
    }

    /// No more look-ups than slots hold nobody: everybody stays.
    fn fill(&mut self, items: &[Item], found: &mut [bool]) {
        for (&item, found) in items.iter().zip(found) {
            let before = std::mem::replace(&mut self.last[item as usize], self.now);
            self.bits[before / 64] &= !(1 << (before % 64));
            *found = before >= self.from;
            self.free -= usize::from(!*found);
            self.now += 1;
        }
    }

    /// Numbers residents' last uses from 1.
    fn make_room(&mut self) {
        let words = self.from / 64..self.bits.len();
        self.bits[words.start] &= u64::MAX << (self.from % 64);
        // `[words]` residents before each.
        let mut before = vec![0; self.bits.len()];
        let mut sum = 0;
        for word in words {
            before[word] = sum;
            sum += self.bits[word].count_ones() as usize;
        }
        for last in &mut self.last {
            let (word, bit) = (*last / 64, *last % 64);
            let rank = before[word] + (self.bits[word] & ((1 << bit) - 1)).count_ones() as usize;
            *last = if *last < self.from { 0 } else { rank + 1 };
        }
        self.bits.fill(u64::MAX);
        (self.now, self.from) = (sum + 1, 1);
    }
}

impl Alone for Recent {
    fn run(&mut self, mut items: &[Item], mut found: &mut [bool]) {
        while !items.is_empty() {
            let room = self.bits.len() * 64 - self.now;
            if room == 0 {
                self.make_room();
                continue;
            }
            let count = items.len().min(room);
            let count = if self.free > 0 { count.min(self.free) } else { count };
            let (now, later) = found.split_at_mut(count);
            if self.free > 0 {
                self.fill(&items[..count], now);
            } else {
                self.look_up(&items[..count], now);
            }
            (items, found) = (&items[count..], later);
        }
    }
}

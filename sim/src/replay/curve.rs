//! The miss-ratio curve of LRU, for all sizes in one pass (Mattson et al., "Evaluation techniques
//! for storage hierarchies", IBM Systems Journal 9(2), 1970): a cache holds an expert if it has as
//! many slots as experts were used since, itself included. How many that are is a sum over a
//! Fenwick tree of the times of last uses.
//!
//! It is exact for events, too: all experts of an event are ranked by the order before it, and
//! what a pool holds after an event that fits are always the most recently used. A pool that is
//! smaller than an event is another matter, so the curve begins at the largest event.

use super::Replay;
use super::events::Walk;
use crate::cache::Item;

/// Hits of LRU at every size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Look-ups.
    pub look_ups: u64,
    /// The smallest size of a pool that the curve is exact for.
    pub from: usize,
    /// Pools, of equal size.
    pub pools: usize,
    /// `[n]` hits with `n` slots in every pool.
    pub hits: Vec<u64>,
}

/// The curve of `replay`; slots are counted, and pools are of equal size.
#[must_use]
pub fn lru(replay: &Replay<'_>) -> Curve {
    let pools = replay.pool_count();
    let global = replay.is_global();
    let items = replay.experts() * if global { replay.layers() } else { 1 };
    let mut stacks: Vec<Stack> = (0..pools).map(|_| Stack::new(items)).collect();
    let mut at = vec![0_u64; items + 1];
    let (mut look_ups, mut from) = (0, 1);
    let access = replay.granularity == super::Granularity::Access;
    Walk::new(replay.trace, replay.granularity, global).each(false, |event| {
        let stack = &mut stacks[event.pool];
        if access {
            look_ups += event.picks.len() as u64;
            for &item in event.picks {
                if let Some(distance) = stack.distance(item) {
                    at[distance] += 1;
                }
                stack.touch(item);
            }
            return;
        }
        look_ups += event.distinct.len() as u64;
        from = from.max(event.distinct.len());
        for &item in event.distinct {
            if let Some(distance) = stack.distance(item) {
                at[distance] += 1;
            }
        }
        event.picks.iter().for_each(|&item| stack.touch(item));
    });
    for size in 1..at.len() {
        at[size] += at[size - 1];
    }
    Curve { look_ups, from, pools, hits: at }
}

const NEVER: u32 = 0;

/// Items by the time of their last use. Times are given anew when they run out, so that memory is
/// that of the items.
struct Stack {
    /// `[items]` time of the last use, from 1; [`NEVER`] where there was none.
    last: Vec<u32>,
    /// `[times]` who was used last at each.
    item_at: Vec<Item>,
    /// Fenwick tree over times: one for each that is somebody's last.
    sums: Vec<u32>,
    now: u32,
    used: u32,
}

const NOBODY: Item = Item::MAX;

impl Stack {
    fn new(items: usize) -> Self {
        let times = (4 * items).max(64);
        Self {
            last: vec![NEVER; items],
            item_at: vec![NOBODY; times + 1],
            sums: vec![0; times + 1],
            now: 0,
            used: 0,
        }
    }

    /// Slots that a cache needs to hold `item` now; `None` where it was never used.
    fn distance(&self, item: Item) -> Option<usize> {
        let last = self.last[item as usize];
        if last == NEVER {
            return None;
        }
        let (mut time, mut older) = (last as usize - 1, 0);
        while time > 0 {
            older += self.sums[time];
            time &= time - 1;
        }
        Some((self.used - older) as usize)
    }

    fn touch(&mut self, item: Item) {
        if self.now as usize + 1 == self.item_at.len() {
            self.renumber();
        }
        let last = self.last[item as usize];
        if last == NEVER {
            self.used += 1;
        } else {
            self.item_at[last as usize] = NOBODY;
            self.change(last, false);
        }
        self.now += 1;
        self.last[item as usize] = self.now;
        self.item_at[self.now as usize] = item;
        self.change(self.now, true);
    }

    fn change(&mut self, time: u32, add: bool) {
        let mut at = time as usize;
        while at < self.sums.len() {
            if add {
                self.sums[at] += 1;
            } else {
                self.sums[at] -= 1;
            }
            at += at & at.wrapping_neg();
        }
    }

    fn renumber(&mut self) {
        let order: Vec<Item> =
            self.item_at.iter().copied().filter(|&item| item != NOBODY).collect();
        self.item_at.fill(NOBODY);
        self.sums.fill(0);
        self.now = 0;
        for item in order {
            self.now += 1;
            self.last[item as usize] = self.now;
            self.item_at[self.now as usize] = item;
            self.change(self.now, true);
        }
    }
}

//! W-TinyLFU: newcomers enter a small LRU window; who leaves it competes with the oldest of the
//! main part for its place, and the one that was used more often lately stays (Einziger, Friedman
//! and Manes, "TinyLFU: a highly efficient cache admission policy", ACM TOS 13(4), 2017). The
//! window is a hundredth of the slots; a use lifts an expert of the main part into its protected
//! four fifths.
//! Cost: constant per look-up, amortised; 13 bytes an expert.
//! Departure: experts are few, so each has a count of its own where the paper has a sketch; counts
//! are halved after ten look-ups a slot, as there.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "w-tinylfu",
    about: "an LRU window, whose leavers must be used more than who they replace",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        let window = (setting.slots / 100).max(1);
        let main = setting.slots.saturating_sub(window);
        Box::new(Tiny {
            lists: Lists::new(items, 3),
            list_of: vec![0; items],
            counts: vec![0; items],
            counted: 0,
            period: 10 * setting.slots.max(1) as u64,
            window,
            protected: main * 4 / 5,
        })
    },
};

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

struct Tiny {
    lists: Lists,
    list_of: Vec<u8>,
    /// Recent uses of each expert.
    counts: Vec<u32>,
    counted: u64,
    period: u64,
    /// Members of the window and of the protected part.
    window: usize,
    protected: usize,
}

impl Tiny {
    fn count(&mut self, item: Item) {
        self.counts[item as usize] += 1;
        self.counted += 1;
        if self.counted >= self.period {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.counted = 0;
        }
    }

    fn put(&mut self, list: usize, item: Item) {
        self.lists.push_front(list, item);
        self.list_of[item as usize] = list as u8;
    }

    fn shift(&mut self, from: usize, to: usize, item: Item) {
        self.lists.remove(from, item);
        self.put(to, item);
    }

    fn oldest(&self, list: usize, keep: Keep<'_>) -> Option<Item> {
        self.lists.from_back(list).find(|&item| keep.allows(item))
    }
}

impl Policy for Tiny {
    fn hit(&mut self, item: Item, _: Moment) {
        self.count(item);
        let list = usize::from(self.list_of[item as usize]);
        if list != PROBATION || self.protected == 0 {
            return self.lists.refresh(list, item);
        }
        self.shift(PROBATION, PROTECTED, item);
        if self.lists.len(PROTECTED) > self.protected {
            let oldest = self.lists.back(PROTECTED).expect("not empty");
            self.shift(PROTECTED, PROBATION, oldest);
        }
    }

    fn miss(&mut self, item: Item, _: Moment) {
        self.count(item);
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.put(WINDOW, item);
        // While the cache fills nobody has to compete.
        while self.lists.len(WINDOW) > self.window {
            let oldest = self.lists.back(WINDOW).expect("not empty");
            self.shift(WINDOW, PROBATION, oldest);
        }
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let main = self.oldest(PROBATION, keep).or_else(|| self.oldest(PROTECTED, keep));
        if self.lists.len(WINDOW) < self.window {
            return main.or_else(|| self.oldest(WINDOW, keep));
        }
        let Some(candidate) = self.oldest(WINDOW, keep) else { return main };
        let Some(main) = main else { return Some(candidate) };
        if self.counts[candidate as usize] > self.counts[main as usize] {
            self.shift(WINDOW, PROBATION, candidate);
            return Some(main);
        }
        Some(candidate)
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.lists.remove(self.list_of[item as usize].into(), item);
    }
}

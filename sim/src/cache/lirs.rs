//! LIRS: experts that came back soon the last time are "low" and stay, all others are "high" and
//! pass through a short queue; whoever of them is used while the stack of recent uses still knows
//! it becomes low, in exchange for the low one that was used longest ago (Jiang and Zhang, "LIRS:
//! an efficient low inter-reference recency set replacement policy", SIGMETRICS 2002). A hundredth
//! of the slots, one at least, is for those that pass through.
//! Cost: constant per look-up, amortised; 17 bytes an expert.
//! Departure: the stack remembers at most all experts, so it needs no limit of its own. Where the
//! current event uses everybody in the queue, the oldest low one leaves.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lirs",
    about: "experts that came back soon stay, the others pass through a queue",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        let most = setting.slots.saturating_sub((setting.slots / 100).max(1)).max(1);
        Box::new(Lirs {
            stack: Lists::new(items, 1),
            queue: Lists::new(items, 1),
            state: vec![State::default(); items],
            low: 0,
            most,
        })
    },
};

#[derive(Clone, Copy, Default)]
struct State {
    low: bool,
    /// Whether the stack of recent uses knows it.
    stacked: bool,
}

struct Lirs {
    /// Recent uses, newest first; its last one is low.
    stack: Lists,
    /// Residents that are high, newest first.
    queue: Lists,
    state: Vec<State>,
    /// Low residents, and how many there may be.
    low: usize,
    most: usize,
}

impl Lirs {
    /// Puts `item` on top of the stack.
    fn stack(&mut self, item: Item) {
        let stacked = std::mem::replace(&mut self.state[item as usize].stacked, true);
        if stacked {
            self.stack.remove(0, item);
        }
        self.stack.push_front(0, item);
    }

    fn unstack(&mut self, item: Item) {
        if std::mem::take(&mut self.state[item as usize].stacked) {
            self.stack.remove(0, item);
        }
    }

    /// Forgets old uses of those that are high.
    fn prune(&mut self) {
        while let Some(last) = self.stack.back(0) {
            if self.state[last as usize].low {
                return;
            }
            self.unstack(last);
        }
    }

    fn make_low(&mut self, item: Item) {
        self.state[item as usize].low = true;
        self.low += 1;
        self.stack(item);
        while self.low > self.most {
            let oldest = self.stack.back(0).expect("a low one is at the end");
            self.unstack(oldest);
            self.state[oldest as usize].low = false;
            self.low -= 1;
            self.queue.push_front(0, oldest);
            self.prune();
        }
    }
}

impl Policy for Lirs {
    fn hit(&mut self, item: Item, _: Moment) {
        let State { low, stacked, .. } = self.state[item as usize];
        if low {
            self.stack(item);
        } else if stacked {
            self.queue.remove(0, item);
            self.make_low(item);
        } else {
            self.stack(item);
            self.queue.refresh(0, item);
        }
        self.prune();
    }

    fn admit(&mut self, item: Item, _: Moment) {
        let state = &mut self.state[item as usize];
        if state.stacked || self.low < self.most {
            self.make_low(item);
        } else {
            self.stack(item);
            self.queue.push_front(0, item);
        }
        self.prune();
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let queued = self.queue.from_back(0).find(|&item| keep.allows(item));
        let is_low = |item: &Item| self.state[*item as usize].low && keep.allows(*item);
        queued.or_else(|| self.stack.from_back(0).find(is_low))
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        let state = &mut self.state[item as usize];
        if std::mem::take(&mut state.low) {
            self.low -= 1;
            self.unstack(item);
            self.prune();
        } else {
            self.queue.remove(0, item);
        }
    }
}

//! A way between two memories: one copy at a time, in order of priority, and no copy that has
//! started is ever cancelled. Demand goes before every wish that has not started.

use moecast_profiles::units::{Nanos, SimTime};

/// A wish that waits for the link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Waiting {
    /// What is to be copied: a number that means something to whoever queued it.
    pub(super) what: u32,
    /// When it may start.
    pub(super) from: SimTime,
    /// Higher goes first; of equals whoever was queued first.
    pub(super) priority: f32,
    /// MoE layer that wants it, those of the next pass counted on; it is dropped after that.
    pub(super) layer: u16,
}

/// One way.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    free: SimTime,
    waiting: Vec<Waiting>,
    /// Time that copies took.
    pub(super) busy: Nanos,
    /// Bytes that were copied.
    pub(super) bytes: u64,
}

impl Link {
    pub(super) fn free(&self) -> SimTime {
        self.free
    }

    /// Copies now, or as soon as what has started is done. Returns when it has arrived.
    pub(super) fn demand(&mut self, from: SimTime, time: Nanos, bytes: u64) -> SimTime {
        self.free = self.free.max(from) + time;
        self.busy += time;
        self.bytes += bytes;
        self.free
    }

    pub(super) fn wish(&mut self, waiting: Waiting) {
        if !self.waits(waiting.what) {
            self.waiting.push(waiting);
        }
    }

    /// Whether a wish for `what` waits.
    pub(super) fn waits(&self, what: u32) -> bool {
        self.waiting.iter().any(|waiting| waiting.what == what)
    }

    /// Drops the wish for `what`, which has become demand.
    pub(super) fn forget(&mut self, what: u32) {
        self.waiting.retain(|waiting| waiting.what != what);
    }

    /// Drops wishes for layers that are over.
    pub(super) fn drop_before(&mut self, layer: u16) {
        self.waiting.retain(|waiting| waiting.layer >= layer);
    }

    /// A pass of `layers` layers is over: layers of the next one are no longer ahead of it.
    pub(super) fn turn(&mut self, layers: u16) {
        self.drop_before(layers);
        self.waiting.iter_mut().for_each(|waiting| waiting.layer -= layers);
    }

    /// Takes the wish that starts next, if it starts before `now`, and when it does.
    pub(super) fn next_before(&mut self, now: SimTime) -> Option<(Waiting, SimTime)> {
        let soonest = self.waiting.iter().map(|waiting| waiting.from).min()?;
        let start = self.free.max(soonest);
        if start >= now {
            return None;
        }
        let mut best: Option<usize> = None;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let better = best.is_none_or(|best| waiting.priority > self.waiting[best].priority);
            if waiting.from <= start && better {
                best = Some(index);
            }
        }
        let waiting = self.waiting.remove(best?);
        Some((waiting, start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(what: u32, priority: f32) -> Waiting {
        Waiting { what, from: SimTime(10), priority, layer: 0 }
    }

    /// A started copy blocks demand; a waiting one does not.
    #[test]
    fn demand_waits_for_what_has_started_and_for_nothing_else() {
        let mut link = Link::default();
        link.wish(wish(1, 0.5));
        link.wish(wish(2, 0.9));
        assert_eq!(link.next_before(SimTime(10)), None);
        let (first, start) = link.next_before(SimTime(50)).unwrap();
        assert_eq!((first.what, start), (2, SimTime(10)));
        assert_eq!(link.demand(start, Nanos(100), 7), SimTime(110));
        // Until 110 the link is taken: the other wish does not start before 50.
        assert_eq!(link.next_before(SimTime(50)), None);
        assert_eq!(link.demand(SimTime(50), Nanos(20), 1), SimTime(130));
        assert_eq!((link.busy, link.bytes), (Nanos(120), 8));
    }
}

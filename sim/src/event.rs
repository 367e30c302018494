//! The event kernel: what happens next, and the simulated clock.
//!
//! The ordering contract:
//!
//! - an event of an earlier time is popped before one of a later time;
//! - at one time, an event of a lower rank is popped before one of a higher rank;
//! - at one time and rank, events are popped in the order in which they were pushed;
//! - popping sets the clock to the time of the event, and nothing may be pushed before the clock,
//!   so that time never runs back. An event pushed at the time of the clock is still to come,
//!   whatever its rank.
//!
//! The order is total and depends on nothing but the pushes, so equal runs pop equal events.
//!
//! Inside is a tournament: a binary tree whose leaves are places for events and whose inner nodes
//! repeat the earlier of their two children. A heap would be half the size, yet which child moves
//! up, and how far down, is a coin toss that processors guess wrong; here the way from a leaf to
//! the root is known beforehand and every comparison is a conditional move. A popped place stays
//! as it is until the next push takes it over, for most events beget one: one way to the root for
//! both. Cost per event: the logarithm of the largest number of events ever pending.

use std::hint::select_unpredictable;

use moecast_profiles::units::SimTime;

/// Bits of a sort key that number the events, below 16 bits of rank.
const SEQUENCE_BITS: u32 = 48;

/// One node of the tournament: the key of an event and its place.
#[derive(Clone, Copy, Debug)]
struct Node {
    time: u64,
    /// Rank above sequence number.
    tie: u64,
    place: u64,
}

/// No event: later than all, for no event has the last sequence number.
const VACANT: Node = Node { time: u64::MAX, tie: u64::MAX, place: u64::MAX };

impl Node {
    /// The earlier of two, without a branch.
    #[inline]
    fn earlier(self, other: Self) -> Self {
        let swap = (other.time < self.time) | ((other.time == self.time) & (other.tie < self.tie));
        Self {
            time: select_unpredictable(swap, other.time, self.time),
            tie: select_unpredictable(swap, other.tie, self.tie),
            place: select_unpredictable(swap, other.place, self.place),
        }
    }
}

/// Pending events by time, rank and order of insertion, and the clock that they advance.
#[derive(Clone, Debug)]
pub struct EventQueue<E> {
    /// Node `i` repeats the earlier of `2 i` and `2 i + 1`; the leaves are the upper half.
    tree: Vec<Node>,
    /// By place; as many as leaves, a power of two.
    events: Vec<Option<E>>,
    /// Places without an event.
    free: Vec<u64>,
    /// The place popped last, if the tree still holds its key.
    popped: Option<u64>,
    pending: usize,
    sequence: u64,
    now: SimTime,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> EventQueue<E> {
    /// A queue without events; its clock shows zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: Vec::new(),
            events: Vec::new(),
            free: Vec::new(),
            popped: None,
            pending: 0,
            sequence: 0,
            now: SimTime(0),
        }
    }

    /// The time of the event popped last, zero before the first.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Events that are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending
    }

    /// Whether nothing is still to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Adds an event; `rank` orders events of one time, the lowest first.
    ///
    /// # Panics
    /// When `time` is before [`Self::now`], which is a broken invariant of the caller, and after
    /// 2^48 - 1 events.
    #[inline]
    pub fn push(&mut self, time: SimTime, rank: u16, event: E) {
        let now = self.now;
        assert!(time >= now, "an event at {} ns, and it is {} ns already", time.0, now.0);
        assert!(self.sequence + 1 < 1 << SEQUENCE_BITS, "{} events in one run", self.sequence);
        let tie = u64::from(rank) << SEQUENCE_BITS | self.sequence;
        self.sequence += 1;
        let place = self.popped.take().or_else(|| self.free.pop()).unwrap_or_else(|| self.grow());
        self.events[index(place)] = Some(event);
        self.pending += 1;
        self.play(place, Node { time: time.0, tie, place });
    }

    /// Removes the next event and sets the clock to its time.
    #[inline]
    pub fn pop(&mut self) -> Option<(SimTime, E)> {
        if self.pending == 0 {
            return None;
        }
        if let Some(place) = self.popped.take() {
            self.play(place, VACANT);
            self.free.push(place);
        }
        let first = self.tree[1];
        let event = self.events[index(first.place)].take();
        self.popped = Some(first.place);
        self.pending -= 1;
        self.now = SimTime(first.time);
        Some((self.now, event.expect("every place in the tree holds an event")))
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_time(&self) -> Option<SimTime> {
        if self.pending == 0 {
            return None;
        }
        let Some(place) = self.popped else {
            return Some(SimTime(self.tree[1].time));
        };
        // Whoever lost against the popped event lies beside its way to the root.
        let mut node = self.events.len() + index(place);
        let mut first = VACANT;
        while node > 1 {
            first = first.earlier(self.tree[node ^ 1]);
            node >>= 1;
        }
        Some(SimTime(first.time))
    }

    /// Sets the leaf of `place` and everything above it.
    #[inline]
    fn play(&mut self, place: u64, leaf: Node) {
        let tree = &mut self.tree[..2 * self.events.len()];
        let mut node = self.events.len() + index(place);
        let mut first = leaf;
        tree[node] = first;
        while node > 1 {
            first = first.earlier(tree[node ^ 1]);
            node >>= 1;
            tree[node] = first;
        }
    }

    /// Doubles the places and gives one that is free.
    #[cold]
    fn grow(&mut self) -> u64 {
        let old = self.events.len();
        let leaves = (2 * old).max(1);
        let mut tree = vec![VACANT; 2 * leaves];
        tree[leaves..leaves + old].copy_from_slice(&self.tree[old.min(self.tree.len())..]);
        for node in (1..leaves).rev() {
            tree[node] = tree[2 * node].earlier(tree[2 * node + 1]);
        }
        self.tree = tree;
        self.events.resize_with(leaves, || None);
        self.free.extend((old as u64 + 1..leaves as u64).rev());
        old as u64
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a place is the index of an event in memory")]
fn index(place: u64) -> usize {
    place as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain<E>(queue: &mut EventQueue<E>) -> Vec<(u64, E)> {
        std::iter::from_fn(|| queue.pop()).map(|(time, event)| (time.0, event)).collect()
    }

    #[test]
    fn earlier_before_later_then_rank_then_insertion() {
        let mut queue = EventQueue::new();
        for (time, rank, event) in
            [(5, 1, "e"), (3, 9, "b"), (5, 0, "c"), (5, 1, "f"), (5, 0, "d"), (1, 7, "a")]
        {
            queue.push(SimTime(time), rank, event);
        }
        assert_eq!((queue.len(), queue.next_time()), (6, Some(SimTime(1))));
        let expected = [(1, "a"), (3, "b"), (5, "c"), (5, "d"), (5, "e"), (5, "f")];
        assert_eq!(drain(&mut queue), expected);
        assert_eq!((queue.now(), queue.is_empty()), (SimTime(5), true));
    }

    #[test]
    fn nothing_pending_is_nothing_to_pop_and_leaves_the_clock() {
        let mut queue: EventQueue<()> = EventQueue::default();
        assert_eq!((queue.pop(), queue.next_time(), queue.now()), (None, None, SimTime(0)));
        queue.push(SimTime(4), 0, ());
        assert_eq!(queue.pop(), Some((SimTime(4), ())));
        assert_eq!((queue.pop(), queue.next_time(), queue.now()), (None, None, SimTime(4)));
    }

    #[test]
    fn an_event_may_cause_another_at_once_and_of_a_lower_rank() {
        let mut queue = EventQueue::new();
        queue.push(SimTime(2), 3, 'a');
        queue.push(SimTime(2), 4, 'c');
        assert_eq!(queue.pop(), Some((SimTime(2), 'a')));
        queue.push(SimTime(2), 0, 'b');
        assert_eq!(queue.next_time(), Some(SimTime(2)));
        assert_eq!(drain(&mut queue), [(2, 'b'), (2, 'c')]);
    }

    #[test]
    fn the_last_instant_and_rank_are_events_like_any_other() {
        let mut queue = EventQueue::new();
        queue.push(SimTime(u64::MAX), u16::MAX, 'a');
        queue.push(SimTime(u64::MAX), u16::MAX, 'b');
        queue.push(SimTime(0), 0, 'z');
        assert_eq!(drain(&mut queue), [(0, 'z'), (u64::MAX, 'a'), (u64::MAX, 'b')]);
    }

    #[test]
    #[should_panic(expected = "an event at 1 ns, and it is 2 ns already")]
    fn time_never_runs_back() {
        let mut queue = EventQueue::new();
        queue.push(SimTime(2), 0, ());
        queue.pop();
        queue.push(SimTime(1), 0, ());
    }

    proptest! {
        /// Pushes (with a delay and a rank) and pops, against a vector that is sorted each time.
        #[test]
        fn pops_as_a_sorted_vector_does(
            steps in proptest::collection::vec(proptest::option::of((0_u64..4, 0_u16..3)), 1..400)
        ) {
            let mut queue = EventQueue::new();
            let mut sorted: Vec<(SimTime, u16, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                if let Some((delay, rank)) = step {
                    let time = SimTime(queue.now().0 + delay);
                    queue.push(time, rank, number);
                    sorted.push((time, rank, number));
                    sorted.sort_unstable();
                } else {
                    let expected = (!sorted.is_empty()).then(|| sorted.remove(0));
                    prop_assert_eq!(queue.pop(), expected.map(|(time, _, event)| (time, event)));
                }
                prop_assert_eq!(queue.len(), sorted.len());
                prop_assert_eq!(queue.is_empty(), sorted.is_empty());
                prop_assert_eq!(queue.next_time(), sorted.first().map(|first| first.0));
            }
        }
    }
}

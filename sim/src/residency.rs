//! Which expert is in which memory: the sole owner of that truth. Policies of [`crate::cache`]
//! decide who leaves; only a [`Pool`] makes anyone come or go.

use std::sync::Arc;

use crate::cache::{Item, Keep, Moment, Policy};

/// The part of one memory that experts of some layers share.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `[items]` size of each; all ones where slots are counted.
    sizes: Arc<[u64]>,
    capacity: u64,
    used: u64,
    resident: Vec<bool>,
    /// Items that are resident for ever; no policy knows of them.
    pinned: Vec<bool>,
    /// `[items]` twice the number of the last event that used the item, plus one once it was dealt
    /// with.
    stamps: Vec<u32>,
    event: u32,
    position: u64,
}

/// What one event found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Distinct items that were resident, in order of first pick.
    pub hits: Vec<Item>,
    /// Those that were not.
    pub misses: Vec<Item>,
    /// Items that left to make room.
    pub evicted: Vec<Item>,
}

impl Looked {
    /// Empties all lists.
    pub fn clear(&mut self) {
        self.hits.clear();
        self.misses.clear();
        self.evicted.clear();
    }
}

impl Pool {
    /// An empty pool of `capacity` for items of `sizes`: bytes, or ones where slots are counted.
    #[must_use]
    pub fn new(sizes: Arc<[u64]>, capacity: u64) -> Self {
        let items = sizes.len();
        Self {
            sizes,
            capacity,
            used: 0,
            resident: vec![false; items],
            pinned: vec![false; items],
            stamps: vec![0; items],
            event: 0,
            position: 0,
        }
    }

    /// Makes `item` resident for ever, inside the capacity. False where it does not fit.
    pub fn pin(&mut self, item: Item) -> bool {
        let at = item as usize;
        assert!(!self.resident[at] || self.pinned[at], "item {item} is a policy's: pin it before");
        if self.pinned[at] || self.used + self.sizes[at] > self.capacity {
            return self.pinned[at];
        }
        self.used += self.sizes[at];
        (self.pinned[at], self.resident[at]) = (true, true);
        true
    }

    /// Whether `item` is resident.
    #[inline]
    #[must_use]
    pub fn holds(&self, item: Item) -> bool {
        self.resident[item as usize]
    }

    /// Whether `item` is resident for ever.
    #[inline]
    #[must_use]
    pub fn is_pinned(&self, item: Item) -> bool {
        self.pinned[item as usize]
    }

    /// What residents take of the capacity.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What residents may take.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Size of `item`.
    #[must_use]
    pub fn size(&self, item: Item) -> u64 {
        self.sizes[item as usize]
    }

    /// Look-ups so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// One event: classifies the distinct items of `picks` against the pool as it stands, then
    /// promotes, evicts and admits in the order of `picks`. Nobody whom the event uses leaves,
    /// unless the event alone is more than the pool holds. Repeats in `picks` only promote.
    pub fn look_up(
        &mut self,
        policy: &mut dyn Policy,
        picks: &[Item],
        layer: u16,
        into: &mut Looked,
    ) {
        self.classify(picks, into);
        for &item in picks {
            let at = self.moment(layer);
            if !self.first_touch(item) {
                self.repeat(policy, item, at);
            } else if self.holds(item) {
                self.promote(policy, item, at);
            } else {
                policy.miss(item, at);
                self.admit(policy, item, at, &mut into.evicted);
                self.position += 1;
            }
        }
    }

    /// Begins an event: notes which distinct items of `picks` are resident.
    pub fn classify(&mut self, picks: &[Item], into: &mut Looked) {
        if self.event >= u32::MAX / 2 - 1 {
            self.stamps.fill(0);
            self.event = 0;
        }
        self.event += 1;
        let now = self.event * 2;
        for &item in picks {
            let stamp = &mut self.stamps[item as usize];
            if *stamp == now {
                continue;
            }
            *stamp = now;
            let list = if self.resident[item as usize] { &mut into.hits } else { &mut into.misses };
            list.push(item);
        }
    }

    /// Ends an event before the next one begins: whom it used may leave for a prefetched item.
    pub fn finish(&mut self) {
        self.event += 1;
    }

    /// Keeps `item` from leaving for a prefetched one until this event ends, or the next one where
    /// none is under way: it is expected itself.
    pub fn expect(&mut self, item: Item) {
        self.stamps[item as usize] = self.stamps[item as usize].max(self.event * 2);
    }

    /// Whether `item`, which the event uses, is dealt with for the first time.
    fn first_touch(&mut self, item: Item) -> bool {
        let stamp = &mut self.stamps[item as usize];
        let first = *stamp == self.event * 2;
        *stamp |= 1;
        first
    }

    /// Now, for a policy.
    #[must_use]
    pub fn moment(&self, layer: u16) -> Moment {
        Moment { position: self.position, layer }
    }

    /// `item` is asked for again by the event that has just looked it up: no look-up of its own.
    pub fn repeat(&mut self, policy: &mut dyn Policy, item: Item, mut at: Moment) {
        if self.holds(item) && !self.is_pinned(item) {
            // It belongs to the look-up before: whoever sees the future must not take it for the
            // next one.
            at.position -= 1;
            policy.hit(item, at);
        }
    }

    /// Counts one look-up of a resident.
    pub fn promote(&mut self, policy: &mut dyn Policy, item: Item, at: Moment) {
        if !self.is_pinned(item) {
            policy.hit(item, at);
        }
        self.position += 1;
    }

    /// Counts one look-up of an item that is not resident and is not to become so.
    pub fn pass_by(&mut self, policy: &mut dyn Policy, item: Item, at: Moment) {
        policy.miss(item, at);
        self.position += 1;
    }

    /// Counts one look-up that [`Self::promote`] and [`Self::pass_by`] did not.
    pub fn count(&mut self) {
        self.position += 1;
    }

    /// Makes `item` resident; who leaves for it is added to `evicted`. False where it is larger
    /// than what is not pinned.
    pub fn admit(
        &mut self,
        policy: &mut dyn Policy,
        item: Item,
        at: Moment,
        evicted: &mut Vec<Item>,
    ) -> bool {
        self.come(policy, item, at, true, evicted)
    }

    /// As [`Self::admit`], but only where it drives out nobody whom the current event uses.
    pub fn prefetch(
        &mut self,
        policy: &mut dyn Policy,
        item: Item,
        at: Moment,
        evicted: &mut Vec<Item>,
    ) -> bool {
        self.come(policy, item, at, false, evicted)
    }

    /// Evicts until `item` fits, and lets it in. With `force` those whom the event uses leave too,
    /// where there is nobody else.
    fn come(
        &mut self,
        policy: &mut dyn Policy,
        item: Item,
        at: Moment,
        force: bool,
        evicted: &mut Vec<Item>,
    ) -> bool {
        let size = self.sizes[item as usize];
        if size > self.capacity {
            return false;
        }
        while self.used + size > self.capacity {
            let keep = Keep::new(&self.stamps, self.event * 2);
            let mut victim = policy.victim(item, keep, at);
            if victim.is_none() && force {
                victim = policy.victim(item, Keep::nobody(), at);
            }
            let Some(victim) = victim else { return false };
            self.leave(policy, victim, at);
            evicted.push(victim);
        }
        policy.admit(item, at);
        self.used += size;
        assert!(self.used <= self.capacity, "{} in a pool of {}", self.used, self.capacity);
        self.resident[item as usize] = true;
        true
    }

    #[inline]
    fn leave<P: Policy + ?Sized>(&mut self, policy: &mut P, item: Item, at: Moment) {
        let resident = &mut self.resident[item as usize];
        assert!(*resident, "a policy evicts item {item}, which is not resident");
        *resident = false;
        self.used -= self.sizes[item as usize];
        policy.evicted(item, at);
    }

    /// Single look-ups, each an event of its own: what cache simulators do. `found` says which of
    /// them hit. The `layer` of every [`Moment`] is 0.
    ///
    /// # Panics
    /// When something is pinned.
    pub fn run<P: Policy + ?Sized>(
        &mut self,
        policy: &mut P,
        accesses: &[Item],
        found: &mut [bool],
    ) {
        for (&item, found) in accesses.iter().zip(found) {
            let at = Moment { position: self.position, layer: 0 };
            self.position += 1;
            *found = self.resident[item as usize];
            if *found {
                policy.hit(item, at);
                continue;
            }
            policy.miss(item, at);
            let size = self.sizes[item as usize];
            if size > self.capacity {
                continue;
            }
            while self.used + size > self.capacity {
                let victim = policy.victim(item, Keep::nobody(), at).expect("a full pool");
                self.leave(policy, victim, at);
            }
            self.used += size;
            self.resident[item as usize] = true;
            policy.admit(item, at);
        }
    }
}

//! GPU caches, host memory and storage of one machine: who is where, what is on its way, and when
//! it arrives. Time comes in from outside and never runs back.

use std::sync::Arc;

use moecast_profiles::units::{Nanos, SimTime};

use super::link::{Link, Waiting};
use super::machine::Machine;
use super::shape::{Cache, Shape, Shelf};
use crate::cache::{Item, Moment, Routed};
use crate::error::Result;
use crate::residency::Looked;

/// Where a unit (one version of one expert) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In GPU memory from this time on.
    Gpu(SimTime),
    /// In host memory, or where the last tier is.
    Host,
    /// In storage alone.
    Storage,
}

/// What happened to experts.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Copies that were wished for and came too late, were used, or left unused.
    pub(super) wished: u64,
    pub(super) used: u64,
    pub(super) wasted: u64,
    /// Evictions since somebody last took the number.
    pub(super) evictions: u64,
}

/// All memories.
pub(super) struct Memory<'a> {
    shape: &'a Shape,
    machine: &'a Machine,
    /// GPU caches, `[rank][group][version pool]`.
    shelves: Vec<Shelf>,
    /// Host memory, where it does not hold everything.
    host: Option<Shelf>,
    /// `[rank]` links to GPU memory.
    pub(super) links: Vec<Link>,
    /// The way from storage to host memory.
    pub(super) storage: Link,
    /// `[units]` when a unit has arrived in GPU memory; meaningful while it is resident there.
    ready: Vec<SimTime>,
    /// `[units]` copied because of a wish, and not used since.
    unused: Vec<bool>,
    /// `[units]` admitted, and not copied yet.
    awaits: Vec<bool>,
    /// `[units]` bytes that left to make room for a unit and go back where experts are swapped.
    back: Vec<u64>,
    pub(super) tally: Tally,
    looked: Looked,
}

impl<'a> Memory<'a> {
    pub(super) fn new(
        shape: &'a Shape,
        machine: &'a Machine,
        cache: &Cache,
        streams: Option<&[Arc<[Item]>]>,
    ) -> Result<Self> {
        Ok(Self {
            shelves: cache.shelves(shape, streams),
            host: cache.host(shape, machine)?,
            links: vec![Link::default(); usize::from(machine.ranks())],
            storage: Link::default(),
            ready: vec![SimTime(0); shape.units()],
            unused: vec![false; shape.units()],
            awaits: vec![false; shape.units()],
            back: vec![0; shape.units()],
            tally: Tally::default(),
            looked: Looked::default(),
            shape,
            machine,
        })
    }

    /// The pool of `unit` and its number there.
    fn slot_of(&self, unit: u32) -> (usize, Item) {
        self.shape.slot_of(unit)
    }

    /// The pool of `unit`, its number there, and this moment of that pool.
    fn now(&self, unit: u32) -> (usize, Item, Moment) {
        let (shelf, item) = self.slot_of(unit);
        let (layer, ..) = self.shape.of_unit(unit);
        (shelf, item, self.shelves[shelf].pool.moment(self.shape.local_layer(layer)))
    }

    /// Where `unit` is.
    pub(super) fn place(&self, unit: u32) -> Place {
        let (shelf, item) = self.slot_of(unit);
        if self.shelves[shelf].pool.holds(item) {
            return Place::Gpu(self.ready[unit as usize]);
        }
        self.behind(unit)
    }

    fn behind(&self, unit: u32) -> Place {
        match &self.host {
            Some(host) if !host.pool.holds(unit) => Place::Storage,
            _ => Place::Host,
        }
    }

    /// Whether `unit` is in GPU memory or on its way there.
    pub(super) fn is_near(&self, unit: u32) -> bool {
        let (shelf, item) = self.slot_of(unit);
        self.shelves[shelf].pool.holds(item)
    }

    /// Copy times of `unit` from host memory, and from storage to host memory.
    pub(super) fn copy_times(&self, unit: u32) -> (Nanos, Nanos) {
        let bytes = self.shape.bytes[unit as usize];
        let near = self.machine.tiers[0].time(bytes, self.machine.lanes());
        let far = self.machine.tiers.get(1).map_or(Nanos(0), |tier| tier.time(bytes, 1));
        (near, far)
    }

    /// Whether any policy hears what routers say.
    pub(super) fn listens(&self) -> bool {
        self.shelves.iter().any(|shelf| shelf.policy.listens())
    }

    /// Lets policies hear what a layer's router said.
    pub(super) fn routed(&mut self, routed: &Routed<'_>) {
        let layer = usize::from(routed.layer);
        for (shelf, local) in self.shape.shelves_of(layer) {
            let own = Routed { layer: local, ..*routed };
            self.shelves[shelf].policy.routed(&own);
        }
    }

    /// Begins the event of one layer: `units` are used. Nobody of them leaves for a wish.
    pub(super) fn begin(&mut self, layer: usize, units: &[u32]) {
        for (shelf, _) in self.shape.shelves_of(layer) {
            let own: Vec<Item> = units
                .iter()
                .map(|&unit| self.shape.slot_of(unit))
                .filter(|(of, _)| *of == shelf)
                .map(|(_, item)| item)
                .collect();
            self.looked.clear();
            self.shelves[shelf].pool.classify(&own, &mut self.looked);
        }
    }

    /// Ends the event of one layer.
    pub(super) fn end(&mut self, layer: usize) {
        for (shelf, _) in self.shape.shelves_of(layer) {
            self.shelves[shelf].pool.finish();
        }
    }

    /// `unit` is used from GPU memory, where it is or arrives.
    pub(super) fn promote(&mut self, unit: u32) {
        let (shelf, item, at) = self.now(unit);
        let own = &mut self.shelves[shelf];
        own.pool.promote(&mut *own.policy, item, at);
        own.note(item);
        if std::mem::take(&mut self.unused[unit as usize]) {
            self.tally.used += 1;
        }
    }

    /// `unit`, which this event has looked up, is chosen by a further token.
    pub(super) fn repeat(&mut self, unit: u32) {
        let (shelf, item, at) = self.now(unit);
        let own = &mut self.shelves[shelf];
        own.pool.repeat(&mut *own.policy, item, at);
    }

    /// `unit` is used where it is, behind GPU memory. [`Self::bring_to_host`] follows.
    pub(super) fn pass_by(&mut self, unit: u32) {
        let (shelf, item, at) = self.now(unit);
        let own = &mut self.shelves[shelf];
        own.pool.pass_by(&mut *own.policy, item, at);
        own.note(item);
    }

    /// `unit`, which is not in GPU memory, is asked for there: makes it resident, where anything
    /// can be. [`Self::copy`] follows.
    pub(super) fn admit(&mut self, unit: u32) {
        let (shelf, item, at) = self.now(unit);
        self.links[self.shape.rank_of(unit)].forget(unit);
        let own = &mut self.shelves[shelf];
        own.policy.miss(item, at);
        self.looked.clear();
        own.pool.admit(&mut *own.policy, item, at, &mut self.looked.evicted);
        own.pool.count();
        own.note(item);
        self.left(shelf, unit);
        self.awaits[unit as usize] = true;
        self.unused[unit as usize] = false;
    }

    /// Whether `unit` has been admitted and must be copied.
    pub(super) fn awaits_copy(&self, unit: u32) -> bool {
        self.awaits[unit as usize]
    }

    /// Copies `unit`, which has been admitted, from `now` on. Returns when it arrives.
    pub(super) fn copy(&mut self, unit: u32, now: SimTime) -> SimTime {
        self.awaits[unit as usize] = false;
        let from = self.bring_to_host(unit, now);
        self.carry(unit, from)
    }

    /// Copies `unit` from host memory from `from` on, and back what left for it. Both copies are
    /// done before it is used, as they follow each other in one stream. Returns when.
    fn carry(&mut self, unit: u32, from: SimTime) -> SimTime {
        let (near, _) = self.copy_times(unit);
        let link = &mut self.links[self.shape.rank_of(unit)];
        let mut arrival = link.demand(from, near, self.shape.bytes[unit as usize]);
        let back = std::mem::take(&mut self.back[unit as usize]);
        if back > 0 {
            let time = self.machine.tiers[0].time(back, self.machine.lanes());
            arrival = link.demand(arrival, time, back);
        }
        self.ready[unit as usize] = arrival;
        arrival
    }

    /// When `unit` is in host memory, where it is read to if it is not.
    pub(super) fn bring_to_host(&mut self, unit: u32, now: SimTime) -> SimTime {
        let Some(host) = &mut self.host else { return now };
        let at = host.pool.moment(0);
        if host.pool.holds(unit) {
            host.pool.promote(&mut *host.policy, unit, at);
            host.note(unit);
            return now.max(host.arrived(unit));
        }
        self.looked.clear();
        host.policy.miss(unit, at);
        host.pool.admit(&mut *host.policy, unit, at, &mut self.looked.evicted);
        host.pool.count();
        host.note(unit);
        self.storage.forget(unit);
        let time = self.machine.tiers[1].time(self.shape.bytes[unit as usize], 1);
        let arrival = self.storage.demand(now, time, self.shape.bytes[unit as usize]);
        host.arrive(unit, arrival);
        arrival
    }

    /// Takes note of who left `shelf` for `room`.
    fn left(&mut self, shelf: usize, room: u32) {
        for index in 0..self.looked.evicted.len() {
            let unit = self.shape.unit_of(shelf, self.looked.evicted[index]);
            if self.machine.swap {
                self.back[room as usize] += self.shape.bytes[unit as usize];
            }
            self.tally.evictions += 1;
            if std::mem::take(&mut self.unused[unit as usize]) {
                self.tally.wasted += 1;
            }
        }
    }

    /// Queues a wish for `unit`, or keeps it where it is there already; `layer` is when: layers of
    /// the next pass count on.
    pub(super) fn wish(&mut self, layer: u16, unit: u32, priority: f32, now: SimTime) {
        let waiting = Waiting { what: unit, from: now, priority, layer };
        match self.place(unit) {
            Place::Gpu(_) => {
                let (shelf, item) = self.slot_of(unit);
                self.shelves[shelf].pool.expect(item);
            }
            Place::Host => self.links[self.shape.rank_of(unit)].wish(waiting),
            Place::Storage => self.storage.wish(waiting),
        }
    }

    /// Drops wishes for layers of this pass before `layer`.
    pub(super) fn drop_before(&mut self, layer: u16) {
        self.storage.drop_before(layer);
        self.links.iter_mut().for_each(|link| link.drop_before(layer));
    }

    /// A pass is over: drops the wishes for it.
    pub(super) fn turn(&mut self) {
        let layers = u16::try_from(self.shape.layers).expect("layers are u16");
        self.storage.turn(layers);
        self.links.iter_mut().for_each(|link| link.turn(layers));
    }

    /// Starts the copies that were wished for and that start before `now`.
    pub(super) fn advance(&mut self, now: SimTime) {
        while let Some((waiting, start)) = self.storage.next_before(now) {
            let unit = waiting.what;
            let Some(host) = &mut self.host else { continue };
            let at = host.pool.moment(0);
            self.looked.clear();
            let fits = !host.pool.holds(unit)
                && host.pool.prefetch(&mut *host.policy, unit, at, &mut self.looked.evicted);
            if fits {
                let bytes = self.shape.bytes[unit as usize];
                let time = self.machine.tiers[1].time(bytes, 1);
                let from = self.storage.demand(start, time, bytes);
                host.arrive(unit, from);
                self.links[self.shape.rank_of(unit)].wish(Waiting { from, ..waiting });
            }
        }
        for rank in 0..self.links.len() {
            while let Some((waiting, start)) = self.links[rank].next_before(now) {
                self.copy_wish(&waiting, start);
            }
        }
    }

    fn copy_wish(&mut self, waiting: &Waiting, start: SimTime) {
        let unit = waiting.what;
        let (shelf, item, at) = self.now(unit);
        let own = &mut self.shelves[shelf];
        if own.pool.holds(item) {
            return;
        }
        self.looked.clear();
        let fits = own.pool.prefetch(&mut *own.policy, item, at, &mut self.looked.evicted);
        self.left(shelf, unit);
        if !fits {
            return;
        }
        self.shelves[shelf].pool.expect(item);
        self.carry(unit, start);
        self.unused[unit as usize] = true;
        self.tally.wished += 1;
    }

    /// Bytes that experts take of GPU memory, all ranks together.
    pub(super) fn used(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.pool.used()).sum()
    }

    /// The look-ups of every pool, where they were noted.
    pub(super) fn streams(self) -> Vec<Arc<[Item]>> {
        self.shelves.into_iter().map(|shelf| shelf.noted.unwrap_or_default().into()).collect()
    }
}

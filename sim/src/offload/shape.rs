//! What there is to keep, and in which pools: units are versions of experts, numbered
//! `(layer * experts + expert) * versions + version`; version 0 has the highest precision.

use std::sync::Arc;

use moecast_profiles::seed::Seed;
use moecast_profiles::units::SimTime;
use moecast_traces::future::NextUse;

use super::machine::Machine;
use crate::cache::{self, Item, Moment, Policy, Sees, Setting};
use crate::error::{Error, Result};
use crate::residency::Pool;

/// Experts as units of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// MoE layers.
    pub layers: usize,
    /// Experts a layer.
    pub experts: usize,
    /// Experts that a token chooses in a layer.
    pub top_k: usize,
    /// Versions of every expert.
    pub versions: usize,
    /// Whether a version needs all versions after it: planes of bits, each adding to the last
    /// (nested precision). Else versions are copies of their own in pools of their own.
    pub nested: bool,
    /// `[units]` bytes of each.
    pub bytes: Vec<u64>,
    /// Ranks that experts are divided over: expert `e` is of rank `e % ranks`.
    pub ranks: usize,
    /// Whether every layer has a pool of its own.
    pub per_layer: bool,
}

impl Shape {
    /// Units of all layers.
    #[must_use]
    pub fn units(&self) -> usize {
        self.layers * self.experts * self.versions
    }

    /// The number of a unit.
    #[must_use]
    pub fn unit(&self, layer: usize, expert: u16, version: u8) -> u32 {
        let unit =
            (layer * self.experts + usize::from(expert)) * self.versions + usize::from(version);
        u32::try_from(unit).expect("fewer than 2^32 units")
    }

    /// The units that version `version` of an expert is made of.
    pub fn parts(&self, layer: usize, expert: u16, version: u8) -> std::ops::Range<u32> {
        let first = self.unit(layer, expert, version);
        let count = if self.nested { self.versions - usize::from(version) } else { 1 };
        first..first + u32::try_from(count).expect("few versions")
    }

    /// Layer, expert and version of a unit.
    #[must_use]
    pub fn of_unit(&self, unit: u32) -> (usize, u16, u8) {
        let unit = unit as usize;
        let (rest, version) = (unit / self.versions, unit % self.versions);
        let expert = u16::try_from(rest % self.experts).expect("experts are u16");
        (rest / self.experts, expert, u8::try_from(version).expect("few versions"))
    }

    /// The rank whose memory a unit belongs in.
    #[must_use]
    pub fn rank_of(&self, unit: u32) -> usize {
        unit as usize / self.versions % self.experts % self.ranks
    }

    /// Versions that share a pool, and pools of versions.
    fn versions_in_pool(&self) -> (usize, usize) {
        if self.nested { (self.versions, 1) } else { (1, self.versions) }
    }

    fn groups(&self) -> usize {
        if self.per_layer { self.layers } else { 1 }
    }

    /// Pools of all ranks.
    #[must_use]
    pub fn shelves(&self) -> usize {
        self.ranks * self.groups() * self.versions_in_pool().1
    }

    /// The pool's own number of a layer.
    #[must_use]
    pub fn local_layer(&self, layer: usize) -> u16 {
        if self.per_layer { 0 } else { u16::try_from(layer).expect("layers are u16") }
    }

    /// Pool of a unit, and its number there.
    #[must_use]
    pub fn slot_of(&self, unit: u32) -> (usize, Item) {
        let (layer, expert, version) = self.of_unit(unit);
        let (inside, pools) = self.versions_in_pool();
        let version = usize::from(version);
        let (pool, inner) = if pools == 1 { (0, version) } else { (version, 0) };
        let group = if self.per_layer { layer } else { 0 };
        let rank = usize::from(expert) % self.ranks;
        let shelf = (rank * self.groups() + group) * pools + pool;
        let local = usize::from(self.local_layer(layer));
        let item = (local * self.experts + usize::from(expert)) * inside + inner;
        (shelf, u32::try_from(item).expect("fewer than 2^32 units"))
    }

    /// The unit with number `item` of a pool.
    #[must_use]
    pub fn unit_of(&self, shelf: usize, item: Item) -> u32 {
        let (inside, pools) = self.versions_in_pool();
        let (item, pool) = (item as usize, shelf % pools);
        let group = shelf / pools % self.groups();
        let (rest, inner) = (item / inside, item % inside);
        let layer = if self.per_layer { group } else { rest / self.experts };
        let version = if pools == 1 { inner } else { pool };
        let unit = (layer * self.experts + rest % self.experts) * self.versions + version;
        u32::try_from(unit).expect("fewer than 2^32 units")
    }

    /// Pools that hold experts of `layer`, and its number there.
    pub fn shelves_of(&self, layer: usize) -> impl Iterator<Item = (usize, u16)> + use<> {
        let pools = self.versions_in_pool().1;
        let (groups, group) = (self.groups(), if self.per_layer { layer } else { 0 });
        let local = self.local_layer(layer);
        (0..self.ranks).flat_map(move |rank| {
            let first = (rank * groups + group) * pools;
            (first..first + pools).map(move |shelf| (shelf, local))
        })
    }

    /// Sizes of the items of one pool.
    fn sizes(&self, shelf: usize) -> Arc<[u64]> {
        let layers = if self.per_layer { 1 } else { self.layers };
        let items = layers * self.experts * self.versions_in_pool().0;
        (0..u32::try_from(items).expect("fewer than 2^32 units"))
            .map(|item| self.bytes[self.unit_of(shelf, item) as usize])
            .collect()
    }
}

/// How GPU memory for experts is shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One pool of all layers.
    Global,
    /// Every layer an equal part.
    PerLayer,
    /// Every layer so many experts of the highest precision, `[M]`.
    Planned(Vec<u32>),
}

/// What is in GPU caches when the first request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Empty,
    /// What the training part uses most, until the caches are full.
    #[default]
    Frequent,
}

/// The cache of experts in GPU memory.
#[derive(Clone)]
pub struct Cache {
    /// Bytes that experts may take, of one rank.
    pub capacity: u64,
    /// Who shares them.
    pub sharing: Sharing,
    /// Share of `capacity` for each version where they have pools of their own; sums to 1.
    pub version_shares: Vec<f64>,
    /// Who leaves.
    pub policy: &'static cache::Entry,
    /// Experts `(layer, expert)` that stay for ever, in the highest precision.
    pub pinned: Vec<(usize, u16)>,
    /// What is there at the start.
    pub start: Start,
    /// `[M][E]` tokens in the training part of the recording.
    pub trained: Vec<Vec<u64>>,
    /// One seed.
    pub seed: Seed,
}

/// A pool and who decides about it.
pub(super) struct Shelf {
    pub(super) pool: Pool,
    pub(super) policy: Box<dyn Policy>,
    /// Look-ups, where somebody will want them.
    pub(super) noted: Option<Vec<Item>>,
    /// `[items]` when each has arrived, in memories that are read ahead into.
    arrived: Vec<SimTime>,
}

impl Shelf {
    pub(super) fn note(&mut self, item: Item) {
        if let Some(noted) = &mut self.noted {
            noted.push(item);
        }
    }

    pub(super) fn arrived(&self, item: Item) -> SimTime {
        self.arrived[item as usize]
    }

    pub(super) fn arrive(&mut self, item: Item, at: SimTime) {
        self.arrived[item as usize] = at;
    }
}

impl Cache {
    /// Whether the parts fit `shape`.
    ///
    /// # Errors
    /// [`Error::Scenario`] names what does not.
    pub fn check(&self, shape: &Shape) -> Result<()> {
        if let Sharing::Planned(slots) = &self.sharing
            && slots.len() != shape.layers
        {
            let found = format!("{} layers", slots.len());
            return Err(Error::scenario("cache.slots", found, shape.layers.to_string()));
        }
        let pools = shape.versions_in_pool().1;
        if self.version_shares.len() != pools {
            let found = format!("{} shares", self.version_shares.len());
            return Err(Error::scenario("cache.shares", found, format!("{pools}, one a version")));
        }
        let sum: f64 = self.version_shares.iter().sum();
        if self.version_shares.iter().any(|&share| share.is_nan() || share < 0.0) || sum > 1.001 {
            let found = format!("{:?}", self.version_shares);
            return Err(Error::scenario("cache.shares", found, "shares that sum to 1"));
        }
        Ok(())
    }

    fn capacity_of(&self, shape: &Shape, shelf: usize) -> u64 {
        let pools = shape.versions_in_pool().1;
        let share = self.version_shares[shelf % pools];
        let whole = match &self.sharing {
            Sharing::Global => self.capacity,
            Sharing::PerLayer => self.capacity / shape.layers as u64,
            Sharing::Planned(slots) => {
                let layer = shelf / pools % shape.groups();
                let full = shape.parts(layer, 0, 0);
                let bytes: u64 = full.map(|unit| shape.bytes[unit as usize]).sum();
                u64::from(slots[layer]) * bytes
            }
        };
        if pools == 1 {
            return whole;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let part = (whole as f64 * share) as u64;
        part
    }

    /// All GPU pools, pinned and filled as told. `streams` are the look-ups of every pool, for
    /// policies that see the future.
    pub(super) fn shelves(&self, shape: &Shape, streams: Option<&[Arc<[Item]>]>) -> Vec<Shelf> {
        let mut shelves: Vec<Shelf> = (0..shape.shelves())
            .map(|shelf| self.shelf(shape, shelf, streams.map(|streams| &*streams[shelf])))
            .collect();
        for &(layer, expert) in &self.pinned {
            for unit in shape.parts(layer, expert, 0) {
                let (shelf, item) = shape.slot_of(unit);
                shelves[shelf].pool.pin(item);
            }
        }
        if self.start == Start::Frequent {
            self.fill(shape, &mut shelves);
        }
        shelves
    }

    fn shelf(&self, shape: &Shape, shelf: usize, stream: Option<&[Item]>) -> Shelf {
        let sizes = shape.sizes(shelf);
        let capacity = self.capacity_of(shape, shelf);
        let mean = (sizes.iter().sum::<u64>() / sizes.len().max(1) as u64).max(1);
        let own = |item: usize| {
            let item = u32::try_from(item).expect("fewer than 2^32 units");
            let (layer, expert, _) = shape.of_unit(shape.unit_of(shelf, item));
            self.trained.get(layer).map_or(0, |loads| loads[usize::from(expert)])
        };
        let setting = Setting {
            layers: if shape.per_layer { 1 } else { shape.layers },
            experts: shape.experts,
            versions: shape.versions_in_pool().0,
            top_k: shape.top_k,
            slots: usize::try_from(capacity / mean).unwrap_or(usize::MAX).min(sizes.len()),
            seed: self.seed,
            trained: (0..sizes.len()).map(own).collect(),
            future: stream.map(|stream| Arc::new(NextUse::new(sizes.len(), stream))),
        };
        // A first run for an oracle only notes what is looked up; any policy will do.
        let blind = self.policy.sees == Sees::Future && stream.is_none();
        let entry = if blind { cache::find("lru").expect("shipped") } else { self.policy };
        let policy = (entry.build)(&setting);
        let noted = blind.then(Vec::new);
        Shelf { pool: Pool::new(sizes, capacity), policy, noted, arrived: Vec::new() }
    }

    /// Fills what is free with what the training part uses most.
    fn fill(&self, shape: &Shape, shelves: &mut [Shelf]) {
        let mut order: Vec<(u64, u32)> = Vec::with_capacity(shape.layers * shape.experts);
        for (layer, loads) in self.trained.iter().enumerate() {
            for (expert, &load) in (0_u16..).zip(loads) {
                order.push((u64::MAX - load, shape.unit(layer, expert, 0)));
            }
        }
        order.sort_unstable();
        for (_, first) in order {
            let (layer, expert, _) = shape.of_unit(first);
            for unit in shape.parts(layer, expert, 0) {
                let (shelf, item) = shape.slot_of(unit);
                let own = &mut shelves[shelf];
                let fits = own.pool.used() + own.pool.size(item) <= own.pool.capacity();
                if fits && !own.pool.holds(item) {
                    let at = Moment::default();
                    own.pool.prefetch(&mut *own.policy, item, at, &mut Vec::new());
                }
            }
        }
    }

    /// Host memory where it does not hold every expert, filled with what is used most.
    pub(super) fn host(&self, shape: &Shape, machine: &Machine) -> Result<Option<Shelf>> {
        let Some(capacity) = machine.tiers[0].capacity else { return Ok(None) };
        let policy = cache::find(&machine.tiers[0].policy).map_err(|error| {
            Error::scenario("machine.tiers[0].policy", error.to_string(), "one")
        })?;
        if policy.sees == Sees::Future {
            let expected = "a policy that sees no future";
            return Err(Error::scenario("machine.tiers[0].policy", policy.name, expected));
        }
        let whole = Cache {
            capacity: capacity.0,
            sharing: Sharing::Global,
            version_shares: vec![1.0],
            policy,
            pinned: Vec::new(),
            ..self.clone()
        };
        // One pool of all units of all ranks, whatever GPU memory looks like.
        let flat = Shape { per_layer: false, nested: true, ranks: 1, ..shape.clone() };
        let mut shelves = vec![whole.shelf(&flat, 0, None)];
        whole.fill(&flat, &mut shelves);
        let mut shelf = shelves.remove(0);
        shelf.arrived = vec![SimTime(0); shape.units()];
        Ok(Some(shelf))
    }
}

//! A recording through caches of experts, without time: who would have been resident when it was
//! asked for. Every (policy, capacity) is a job of its own; jobs share nothing and may run in
//! parallel.
//!
//! What one event is decides the figures. `layer`, the default, is what engines do: all distinct
//! experts of one step in one layer are looked up against the cache as it stood, in token-major
//! order, repeats only promote, and nobody whom the event uses leaves. `token` takes all layers of
//! one token as one event. `access` takes every pick as one, in the order of step, token, layer and
//! slot, which is what cache simulators do.

pub mod curve;
mod events;
mod tally;

use std::sync::Arc;

use moecast_profiles::ids::MoeLayer;
use moecast_profiles::seed::Seed;
use moecast_traces::RoutingTrace;
use moecast_traces::future::NextUse;

use crate::cache::{Entry, Item, Policy, Routed, Sees, Setting};
use crate::error::{Error, Result};
use crate::residency::{Looked, Pool};
use events::{Event, Walk};
pub use tally::{Outcome, Tally, Window};

/// What is looked up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One pick.
    Access,
    /// The distinct experts of one step in one layer.
    Layer,
    /// The experts of one token in all layers.
    Token,
}

/// Which experts share slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// All of them.
    Global,
    /// Those of a layer; every layer has the same capacity.
    PerLayer,
    /// Those of a layer; slots by layer.
    Planned(Vec<u64>),
}

/// How much fits, of all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Experts.
    Slots(u64),
    /// Bytes.
    Bytes(u64),
}

/// A recording that is ready to be replayed.
pub struct Replay<'a> {
    trace: &'a RoutingTrace,
    granularity: Granularity,
    partition: Partition,
    /// `[layers]` bytes of one expert; empty where nobody knows.
    expert_bytes: Vec<u64>,
    /// `[layers, experts]` look-ups in the training part.
    trained: Vec<u64>,
    seed: Seed,
    windows: usize,
}

impl<'a> Replay<'a> {
    /// Prepares `trace`. Policies that are fitted see the loads of `training`; `expert_bytes` are
    /// those of each MoE layer, or none.
    ///
    /// # Errors
    /// When the recording only counted, or sizes are not one for each layer.
    pub fn new(
        trace: &'a RoutingTrace,
        training: &RoutingTrace,
        granularity: Granularity,
        partition: Partition,
        expert_bytes: Vec<u64>,
        seed: Seed,
    ) -> Result<Self> {
        let layers = trace.header().moe_layers();
        if trace.tokens().is_none() {
            let expected = "a recording that knows tokens: a cache is asked in their order";
            return Err(Error::scenario("trace", "counts", expected));
        }
        let wrong = |place: &str, found: usize, what: &str| {
            Err(Error::scenario(place, format!("{found} {what}"), format!("{layers}, one a layer")))
        };
        if !expert_bytes.is_empty() && expert_bytes.len() != layers {
            return wrong("expert bytes", expert_bytes.len(), "sizes");
        }
        if let Partition::Planned(slots) = &partition
            && slots.len() != layers
        {
            return wrong("slots per layer", slots.len(), "layers");
        }
        let loads = (0..layers as u16).map(|layer| training.layer_loads(MoeLayer(layer)));
        let trained = loads.flatten().collect();
        Ok(Self { trace, granularity, partition, expert_bytes, trained, seed, windows: 20 })
    }

    /// Cuts results over time into at most so many windows; 20 where nobody says.
    #[must_use]
    pub fn with_windows(mut self, windows: usize) -> Self {
        self.windows = windows.max(1);
        self
    }

    /// Everything that one policy needs to run with one capacity; nothing has run yet.
    ///
    /// # Errors
    /// When the capacity is in bytes and sizes are not known, or it holds no expert at all.
    pub fn job(&self, entry: &'static Entry, capacity: Capacity) -> Result<Job<'_, 'a>> {
        let futures = match entry.sees {
            Sees::Future => self.futures(),
            Sees::Past | Sees::Training => vec![None; self.pool_count()],
        };
        let mut pools = Vec::new();
        for (index, future) in futures.into_iter().enumerate() {
            pools.push(self.pool(entry, capacity, index, future)?);
        }
        Ok(Job { replay: self, pools })
    }

    fn layers(&self) -> usize {
        self.trace.header().moe_layers()
    }

    fn experts(&self) -> usize {
        self.trace.header().experts.into()
    }

    fn is_global(&self) -> bool {
        self.partition == Partition::Global
    }

    fn pool_count(&self) -> usize {
        if self.is_global() { 1 } else { self.layers() }
    }

    /// The layers of pool `index`.
    fn pool_layers(&self, index: usize) -> std::ops::Range<usize> {
        if self.is_global() { 0..self.layers() } else { index..index + 1 }
    }

    fn pool(
        &self,
        entry: &'static Entry,
        capacity: Capacity,
        index: usize,
        future: Option<Arc<NextUse>>,
    ) -> Result<(Pool, Box<dyn Policy>)> {
        let layers = self.pool_layers(index);
        let experts = self.experts();
        let share = |whole: u64| whole / self.pool_count() as u64;
        let (sizes, room, what) = match (capacity, &self.partition) {
            (Capacity::Slots(_), Partition::Planned(slots)) => (None, slots[index], "slots"),
            (Capacity::Slots(slots), _) => (None, share(slots), "slots"),
            (Capacity::Bytes(_), _) if self.expert_bytes.is_empty() => {
                let expected = "a recording or a model that says the bytes of an expert";
                return Err(Error::scenario("capacity", "bytes", expected));
            }
            (Capacity::Bytes(_), Partition::Planned(_)) => {
                let expected = "slots: the plan says those of each layer";
                return Err(Error::scenario("capacity", "bytes", expected));
            }
            (Capacity::Bytes(bytes), _) => {
                (Some(&self.expert_bytes[layers.clone()]), share(bytes), "bytes")
            }
        };
        let sizes: Vec<u64> = match sizes {
            None => vec![1; layers.len() * experts],
            Some(sizes) => sizes.iter().flat_map(|&size| vec![size; experts]).collect(),
        };
        let mean = (sizes.iter().sum::<u64>() / sizes.len() as u64).max(1);
        let slots = room / mean;
        if slots == 0 {
            let found = format!("{room} {what} in a pool");
            return Err(Error::scenario("capacity", found, "room for one expert at least"));
        }
        let trained = self.trained[layers.start * experts..layers.end * experts].to_vec();
        let setting = Setting {
            layers: layers.len(),
            experts,
            versions: 1,
            top_k: self.trace.header().top_k.into(),
            slots: usize::try_from(slots).unwrap_or(usize::MAX).min(sizes.len()),
            seed: self.seed,
            trained: trained.into(),
            future,
        };
        Ok((Pool::new(sizes.into(), room), (entry.build)(&setting)))
    }

    /// The future of every pool, which has as many positions as it has look-ups.
    fn futures(&self) -> Vec<Option<Arc<NextUse>>> {
        let mut uses = vec![Vec::new(); self.pool_count()];
        let repeats = self.granularity == Granularity::Access;
        let mut walk = Walk::new(self.trace, self.granularity, self.is_global());
        walk.each(false, |event| {
            let own: &mut Vec<Item> = &mut uses[event.pool];
            if repeats {
                own.extend_from_slice(event.picks);
            } else {
                own.extend_from_slice(event.distinct);
            }
        });
        let items = self.experts() * if self.is_global() { self.layers() } else { 1 };
        uses.iter().map(|uses| Some(Arc::new(NextUse::new(items, uses)))).collect()
    }
}

/// One policy with one capacity, ready to run.
pub struct Job<'r, 'a> {
    replay: &'r Replay<'a>,
    pools: Vec<(Pool, Box<dyn Policy>)>,
}

impl Job<'_, '_> {
    /// Replays the whole recording.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let replay = self.replay;
        let sizes = &replay.expert_bytes;
        let mut outcome = Outcome::new(replay.trace, sizes, replay.windows);
        let listens = self.pools.iter().any(|(_, policy)| policy.listens());
        let mut walk = Walk::new(replay.trace, replay.granularity, replay.is_global());
        let mut looked = Looked::default();
        let access = replay.granularity == Granularity::Access;
        walk.each(listens, |event| {
            let (pool, policy) = &mut self.pools[event.pool];
            for said in event.routed {
                policy.routed(&Routed {
                    layer: said.layer,
                    tokens: said.tokens,
                    experts: &said.experts,
                    counts: &said.counts,
                    weights: &said.weights,
                });
            }
            if access {
                let hits = policy.run(pool, event.picks);
                let tally = Tally { look_ups: event.picks.len() as u64, hits };
                outcome.add(event.step, event.layer, event.all_decode, tally);
            } else {
                looked.clear();
                pool.look_up(&mut **policy, event.picks, event.pool_layer, &mut looked);
                count(&mut outcome, event, &looked, replay);
            }
        });
        outcome
    }
}

/// Adds what one event found, to the layer and phase of each expert.
fn count(outcome: &mut Outcome, event: &Event<'_>, looked: &Looked, replay: &Replay<'_>) {
    let global = replay.is_global();
    let experts = replay.experts();
    let mut add = |items: &[Item], hit: u64| {
        for &item in items {
            let layer = if global { item as usize / experts } else { event.layer };
            let decode = event.decodes[item as usize];
            outcome.add(event.step, layer, decode, Tally { look_ups: 1, hits: hit });
        }
    };
    add(&looked.hits, 1);
    add(&looked.misses, 0);
}

#[cfg(test)]
mod tests;

//! A recording through caches of experts, without time: who would have been resident when it was
//! asked for. Every (policy, capacity) is a job of its own; jobs share nothing and may run in
//! parallel.
//!
//! What one event is decides the figures. `layer`, the default, is what engines do: all distinct
//! experts of one step in one layer are looked up against the cache as it stood, in token-major
//! order, repeats only promote, and nobody whom the event uses leaves. `token` takes all layers of
//! one token as one event. `access` takes every pick as one, in the order of step, token, layer and
//! slot, which is what cache simulators do.

mod alone;
pub mod curve;
mod events;
mod singles;
mod tally;

use std::sync::Arc;

use moecast_profiles::ids::MoeLayer;
use moecast_profiles::seed::Seed;
use moecast_traces::RoutingTrace;
use moecast_traces::future::NextUse;

use crate::cache::{Entry, Item, Policy, Routed, Sees, Setting};
use crate::error::{Error, Result};
use crate::residency::{Looked, Pool};
use alone::Alone;
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
        let single = self.granularity == Granularity::Access;
        let alone = |index: usize, items: usize, slots: usize| {
            let tokens = self.trace.token_count() as usize * self.pool_layers(index).len();
            let look_ups = tokens * usize::from(self.trace.header().top_k);
            alone::find(entry.name, items, slots, look_ups)
        };
        let mut seats = Vec::new();
        let mut futures = None;
        for index in 0..self.pool_count() {
            let (sizes, room, slots) = self.room(capacity, index)?;
            if single
                && matches!(capacity, Capacity::Slots(_))
                && let Some(alone) = alone(index, sizes.len(), slots)
            {
                seats.push(Seat::Alone(alone));
                continue;
            }
            let future = (entry.sees == Sees::Future).then(|| {
                let futures: &mut Vec<_> = futures.get_or_insert_with(|| self.futures());
                futures[index].clone()
            });
            let policy = (entry.build)(&self.setting(index, slots, future));
            seats.push(Seat::Pool(Pool::new(sizes.into(), room), policy));
        }
        Ok(Job { replay: self, seats })
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

    /// Sizes of the items of pool `index`, what fits into it, and how many of them.
    fn room(&self, capacity: Capacity, index: usize) -> Result<(Vec<u64>, u64, usize)> {
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
        let slots = usize::try_from(slots).unwrap_or(usize::MAX).min(sizes.len());
        Ok((sizes, room, slots))
    }

    /// What a policy of pool `index` is built for.
    fn setting(&self, index: usize, slots: usize, future: Option<Arc<NextUse>>) -> Setting {
        let (layers, experts) = (self.pool_layers(index), self.experts());
        let trained = self.trained[layers.start * experts..layers.end * experts].to_vec();
        Setting {
            layers: layers.len(),
            experts,
            versions: 1,
            top_k: self.trace.header().top_k.into(),
            slots,
            seed: self.seed,
            trained: trained.into(),
            future,
        }
    }

    /// The future of every pool, which has as many positions as it has look-ups.
    fn futures(&self) -> Vec<Arc<NextUse>> {
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
        uses.iter().map(|uses| Arc::new(NextUse::new(items, uses))).collect()
    }
}

/// One policy with one capacity, ready to run.
pub struct Job<'r, 'a> {
    replay: &'r Replay<'a>,
    seats: Vec<Seat>,
}

/// One pool and who decides for it.
enum Seat {
    Pool(Pool, Box<dyn Policy>),
    Alone(Box<dyn Alone>),
}

impl Seat {
    fn listens(&self) -> bool {
        matches!(self, Self::Pool(_, policy) if policy.listens())
    }

    /// Single look-ups; `found` says which of them hit.
    fn run(&mut self, items: &[Item], found: &mut [bool]) {
        match self {
            Self::Pool(pool, policy) => policy.run(pool, items, found),
            Self::Alone(alone) => alone.run(items, found),
        }
    }
}

impl Job<'_, '_> {
    /// Replays the whole recording.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let replay = self.replay;
        let mut outcome = Outcome::new(replay.trace, &replay.expert_bytes, replay.windows);
        let listens = self.seats.iter().any(Seat::listens);
        if replay.granularity == Granularity::Access && !listens {
            singles::run(&mut self, &mut outcome);
        } else {
            self.events(listens, &mut outcome);
        }
        outcome
    }

    /// Event by event.
    fn events(&mut self, listens: bool, outcome: &mut Outcome) {
        let replay = self.replay;
        let mut walk = Walk::new(replay.trace, replay.granularity, replay.is_global());
        let (mut looked, mut found) = (Looked::default(), Vec::new());
        walk.each(listens, |event| {
            let Seat::Pool(pool, policy) = &mut self.seats[event.pool] else {
                unreachable!("only single look-ups do without a pool")
            };
            for said in event.routed {
                policy.routed(&Routed {
                    layer: said.layer,
                    tokens: said.tokens,
                    experts: &said.experts,
                    counts: &said.counts,
                    weights: &said.weights,
                });
            }
            if replay.granularity == Granularity::Access {
                found.resize(event.picks.len(), false);
                policy.run(pool, event.picks, &mut found);
                let hits = found.iter().map(|&hit| u64::from(hit)).sum();
                let tally = Tally { look_ups: found.len() as u64, hits };
                outcome.add(event.step, event.layer, event.all_decode, tally);
            } else {
                looked.clear();
                pool.look_up(&mut **policy, event.picks, event.pool_layer, &mut looked);
                count(outcome, event, &looked, replay);
            }
        });
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

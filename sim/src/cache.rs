//! Which expert leaves a full memory: policies, a registry.
//!
//! A policy only decides. [`crate::residency::Pool`] owns the truth of who is resident, asks for
//! victims and tells the policy what it did; a policy that sees the future gets its index from
//! [`moecast_traces::future`] and is a bound. Every policy works on items of one pool, numbered
//! from 0: version `v` of expert `e` of the pool's `l`-th layer is
//! `(l * experts + e) * versions + v`.

mod arc;
mod belady;
mod clock;
mod edgemoe;
mod fifo;
mod finemoe;
mod fixed;
mod hobbit;
mod least_stale;
mod lfru;
mod lfu;
mod lfu_history;
mod lhd;
mod lirs;
pub mod list;
mod lru;
mod moe_infinity;
mod mrs;
mod passes;
pub(crate) mod positions;
mod random;
mod residents;
mod s3_fifo;
mod sieve;
mod slru;
mod w_tinylfu;

use std::sync::Arc;

use moecast_profiles::registry::{UnknownName, find as find_entry};
use moecast_profiles::seed::Seed;
use moecast_traces::future::NextUse;

use crate::residency::Pool;

/// Number of one expert (in one version) of one pool.
pub type Item = u32;

/// When something happens, in a pool's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Look-ups of this pool before this one: positions of [`NextUse`].
    pub position: u64,
    /// The pool's layer that is being computed.
    pub layer: u16,
}

/// Items that may not leave: those that the current event uses.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a> {
    stamps: &'a [u32],
    from: u32,
}

impl<'a> Keep<'a> {
    /// Keeps the items whose stamp is `from` or later.
    #[must_use]
    pub fn new(stamps: &'a [u32], from: u32) -> Self {
        Self { stamps, from }
    }

    /// Keeps nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self { stamps: &[], from: 0 }
    }

    /// Whether `item` may leave.
    #[inline]
    #[must_use]
    pub fn allows(&self, item: Item) -> bool {
        self.stamps.get(item as usize).is_none_or(|&stamp| stamp < self.from)
    }
}

/// What the router of one layer said for the tokens of one event.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The pool's layer.
    pub layer: u16,
    /// Tokens.
    pub tokens: u32,
    /// Distinct experts of that layer (not items), in order of first pick.
    pub experts: &'a [u16],
    /// Tokens that picked each.
    pub counts: &'a [u32],
    /// Sum over tokens of the gate weight of each, where weights were recorded; else counts / k.
    pub weights: &'a [f32],
}

/// A cache policy over the items of one pool.
pub trait Policy: Send {
    /// Whether [`Self::routed`] does anything: who replays need not prepare what nobody hears.
    fn listens(&self) -> bool {
        false
    }

    /// The router has chosen for a layer; comes before the look-ups of that event.
    fn routed(&mut self, _: &Routed<'_>) {}

    /// `item` was looked up and is resident. Repeats within one event come too.
    fn hit(&mut self, item: Item, at: Moment);

    /// `item` was looked up and is not resident; victims and [`Self::admit`] follow.
    fn miss(&mut self, _: Item, _: Moment) {}

    /// `item` is resident from now on: after a miss, or because it was prefetched.
    fn admit(&mut self, item: Item, at: Moment);

    /// Who should leave, of the resident items that `keep` allows; `None` where it allows none.
    /// [`Self::evicted`] follows. `incoming` is for whom.
    fn victim(&mut self, incoming: Item, keep: Keep<'_>, at: Moment) -> Option<Item>;

    /// `item` has left.
    fn evicted(&mut self, item: Item, at: Moment);

    /// Runs single look-ups: [`crate::residency::Pool::run`], compiled for this very policy.
    /// `found` says which of them hit.
    fn run(&mut self, pool: &mut Pool, accesses: &[Item], found: &mut [bool]) {
        pool.run(self, accesses, found);
    }
}

/// What a policy is built for.
#[derive(Clone)]
pub struct Setting {
    /// MoE layers of the pool.
    pub layers: usize,
    /// Experts a layer.
    pub experts: usize,
    /// Versions of every expert that the pool holds as items of their own; 1 but for nested
    /// precision.
    pub versions: usize,
    /// Experts that a token picks in a layer.
    pub top_k: usize,
    /// Items that the pool can hold (of mean size where sizes differ).
    pub slots: usize,
    /// One seed; policies name their stream.
    pub seed: Seed,
    /// `[items]` look-ups in the training part of the recording; empty where there is none.
    pub trained: Arc<[u64]>,
    /// The future; given to entries that say so.
    pub future: Option<Arc<NextUse>>,
}

impl Setting {
    /// Items of the pool.
    #[must_use]
    pub fn items(&self) -> usize {
        self.layers * self.experts * self.versions
    }

    /// The pool's layer of `item`.
    #[must_use]
    pub fn layer_of(&self, item: Item) -> usize {
        item as usize / (self.experts * self.versions)
    }
}

/// What a policy may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// What has happened.
    Past,
    /// What has happened, and the training part of the recording.
    Training,
    /// Everything: a bound, not a policy.
    Future,
}

/// A policy that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// What it may know.
    pub sees: Sees,
    /// Builds it, empty.
    pub build: fn(&Setting) -> Box<dyn Policy>,
}

moecast_profiles::named!(Entry);

/// Every cache policy, alphabetical.
pub const ALL: &[Entry] = &[
    arc::ENTRY,
    belady::ENTRY,
    clock::ENTRY,
    edgemoe::ENTRY,
    fifo::ENTRY,
    finemoe::ENTRY,
    hobbit::ENTRY,
    least_stale::ENTRY,
    lfru::ENTRY,
    lfu::ENTRY,
    lfu_history::ENTRY,
    lhd::ENTRY,
    lirs::ENTRY,
    lru::ENTRY,
    moe_infinity::ENTRY,
    mrs::ENTRY,
    random::ENTRY,
    s3_fifo::ENTRY,
    sieve::ENTRY,
    slru::ENTRY,
    fixed::ENTRY,
    w_tinylfu::ENTRY,
];

/// Finds a policy by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("cache policy", ALL, name)
}

#[cfg(test)]
mod tests;

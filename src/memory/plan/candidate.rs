//! A way to use a memory, and the ways there are.

use anyhow::Result;
use moecast_profiles::units::Bytes;
use moecast_sim::cache::{self, Sees};
use moecast_sim::{offload::target, prefetch};
use serde_json::{Value, json};

use super::base::{Base, Part};
use crate::cli::memory::plan::EngineArgument;
use crate::offload::build::{self, Built};
use crate::offload::file::{OffloadFile, PoolFile};

/// Cache policies worth a simulation; those of other names differ little from one of these.
const POLICIES: [&str; 9] =
    ["lru", "lfu", "s3-fifo", "arc", "mrs", "least-stale", "lfru", "slru", "w-tinylfu"];

/// Prefetchers that know the routing to come because the model is made or trained for it.
const PREDICTORS: [&str; 2] = ["gate-ahead", "pre-gated"];

/// Who computes what is missing, where a processor could.
const COMPUTES: [&str; 3] = ["cpu", "hybrid", "fiddler"];

/// Who shares memory for experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Global,
    PerLayer,
    /// Slots of each layer by dynamic programming over what each would save.
    Planned,
    /// The last layers whole, the others not at all: llama.cpp's `--n-cpu-moe`.
    WholeLayers,
}

impl Pool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerLayer => "per layer",
            Self::Planned => "planned",
            Self::WholeLayers => "whole layers",
        }
    }
}

/// A way to use a memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) compute: &'static str,
    pub(super) policy: &'static str,
    pub(super) pool: Pool,
    /// Share of each pool.
    pub(super) pinned: f64,
    pub(super) prefetch: &'static str,
    pub(super) depth: usize,
}

impl Candidate {
    pub(super) const LRU: Self = Self {
        compute: "gpu",
        policy: "lru",
        pool: Pool::Global,
        pinned: 0.0,
        prefetch: "none",
        depth: 1,
    };

    /// The most used experts for ever.
    pub(super) const STATIC: Self = Self { pinned: 1.0, ..Self::LRU };

    /// Of equal effect, the plainest.
    fn plain(self) -> Self {
        if self.pinned < 1.0 || self.pool == Pool::WholeLayers {
            return self;
        }
        // With nothing left to decide about, neither a policy nor a prefetcher has a say.
        Self { policy: "lru", prefetch: "none", depth: 1, ..self }
    }

    pub(super) fn prefetch(&self) -> String {
        match (self.prefetch, self.depth) {
            ("none", _) => "none".to_owned(),
            (name, 1) => name.to_owned(),
            (name, depth) => format!("{name} {depth}"),
        }
    }

    pub(super) fn policy(&self) -> &'static str {
        if self.pinned >= 1.0 { "static" } else { self.policy }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "policy": self.policy(),
            "pool": self.pool.name(),
            "pinned": self.pinned,
            "prefetch": self.prefetch,
            "depth": self.depth,
            "compute": self.compute,
        })
    }

    /// This with `capacity` bytes for experts, serving `part`, its first `requests` only.
    pub(super) fn build(
        &self,
        base: &Base,
        part: &Part,
        capacity: u64,
        requests: usize,
    ) -> Result<Built> {
        let mut file: OffloadFile = base.file.clone();
        file.compute = self.compute.to_owned();
        file.cache.policy = self.policy.to_owned();
        file.cache.pinned = self.pinned;
        file.prefetch.name = self.prefetch.to_owned();
        file.prefetch.depth = self.depth;
        file.prefetch.accuracy = None;
        file.load.requests = requests;
        file.cache.capacity = Some(Bytes(capacity));
        match self.pool {
            Pool::Global => file.cache.pool = PoolFile::Global,
            Pool::PerLayer => file.cache.pool = PoolFile::PerLayer,
            Pool::Planned | Pool::WholeLayers => {
                file.cache.pool = PoolFile::PerLayer;
                file.cache.capacity = None;
                file.cache.slots = self.slots(base, part, capacity);
            }
        }
        let mut built = build::build_from(&file, base.kernels.clone(), &part.routing, base.seed)?;
        if let Some(widths) = &part.widths {
            widths.apply(&mut built, base, capacity, self.pinned);
        }
        Ok(built)
    }

    /// Slots of each layer, of the size of its first expert, which is how a machine takes them.
    fn slots(&self, base: &Base, part: &Part, capacity: u64) -> Vec<u32> {
        let totals: Vec<u64> = (0..base.layers.len()).map(|l| base.layer_bytes(part, l)).collect();
        let given = match self.pool {
            Pool::WholeLayers => last_layers(&totals, capacity),
            _ => {
                let machine = &base.file.machine;
                let experts = u64::from(base.model.experts).max(1);
                let miss = |total: &u64| machine.tiers[0].time(total / experts, machine.lanes());
                let seconds: Vec<f64> =
                    totals.iter().map(|total| miss(total).0 as f64 * 1e-9).collect();
                part.curves.divide(capacity, &totals, &seconds)
            }
        };
        let first: Vec<u64> = (0..totals.len()).map(|l| base.first_bytes(part, l)).collect();
        in_slots(&given, &first, &totals, capacity)
    }
}

/// The last layers that fit `capacity` whole, and nothing of the others.
fn last_layers(totals: &[u64], capacity: u64) -> Vec<u64> {
    let mut left = capacity;
    let mut given = vec![0; totals.len()];
    for (given, &total) in given.iter_mut().zip(totals).rev() {
        let Some(rest) = left.checked_sub(total) else { break };
        (*given, left) = (total, rest);
    }
    given
}

/// Bytes `given` to each layer as slots of the size of its `first` expert; what rounding leaves of
/// `capacity` goes to those that lost most by it.
fn in_slots(given: &[u64], first: &[u64], totals: &[u64], capacity: u64) -> Vec<u32> {
    let mut slots: Vec<u64> = Vec::with_capacity(given.len());
    let mut left = capacity;
    let mut short: Vec<(u64, usize)> = Vec::new();
    for (layer, ((&bytes, &total), first)) in given.iter().zip(totals).zip(first).enumerate() {
        let first = (*first).max(1);
        let whole = bytes >= total;
        slots.push(if whole { total.div_ceil(first) } else { bytes / first });
        left = left.saturating_sub(if whole { total } else { bytes / first * first });
        if !whole && bytes % first > 0 {
            short.push((bytes % first, layer));
        }
    }
    short.sort_by_key(|&(lost, layer)| (u64::MAX - lost, layer));
    for (_, layer) in short {
        if let Some(rest) = left.checked_sub(first[layer].max(1)) {
            left = rest;
            slots[layer] += 1;
        }
    }
    slots.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect()
}

/// What may be chosen, axis by axis.
pub(super) struct Axes {
    computes: Vec<&'static str>,
    policies: Vec<&'static str>,
    prefetches: Vec<(&'static str, usize)>,
    pools: Vec<Pool>,
    pinned: Vec<f64>,
}

impl Axes {
    pub(super) const COUNT: usize = 5;

    pub(super) fn new(has_processor: bool, assume_predictor: bool) -> Self {
        let known =
            |name: &&str| cache::ALL.iter().any(|e| e.name == *name && e.sees != Sees::Future);
        let policies = POLICIES.into_iter().filter(known).collect();
        let mut computes = vec!["gpu"];
        if has_processor {
            let known = |name: &&str| target::ALL.iter().any(|entry| entry.name == *name);
            computes.extend(COMPUTES.into_iter().filter(known));
        }
        let mut prefetches = vec![("none", 1)];
        for entry in prefetch::ALL {
            let deployable =
                !entry.looks_ahead || (assume_predictor && PREDICTORS.contains(&entry.name));
            if deployable && entry.name != "none" {
                prefetches.extend([(entry.name, 1), (entry.name, 2)]);
            }
        }
        let pools = vec![Pool::Global, Pool::PerLayer, Pool::Planned];
        Self { computes, policies, prefetches, pools, pinned: vec![0.0, 0.25, 0.5, 0.75, 1.0] }
    }

    /// What `engine` can do: it keeps experts where they are put.
    pub(super) fn of_engine(engine: EngineArgument) -> Self {
        Self {
            computes: vec!["cpu"],
            policies: vec!["lru"],
            prefetches: vec![("none", 1)],
            pools: match engine {
                EngineArgument::LlamaCpp => vec![Pool::WholeLayers],
                EngineArgument::Ktransformers => {
                    vec![Pool::Global, Pool::PerLayer, Pool::Planned]
                }
            },
            pinned: vec![1.0],
        }
    }

    /// Where the search begins.
    pub(super) fn start(&self) -> Candidate {
        Candidate {
            compute: self.computes[self.computes.len() - 1],
            pool: self.pools[0],
            pinned: self.pinned[0],
            ..Candidate::LRU
        }
    }

    /// What is left to say where every expert stays.
    pub(super) fn resident(&self) -> Candidate {
        Candidate { pinned: 1.0, ..self.start() }
    }

    /// `of` with every value of one axis.
    pub(super) fn along(&self, axis: usize, of: Candidate) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = match axis {
            0 => self.computes.iter().map(|&compute| Candidate { compute, ..of }).collect(),
            1 => {
                let with = |&pinned: &f64| Candidate { pinned, ..of }.plain();
                self.pinned.iter().map(with).collect()
            }
            2 => self.policies.iter().map(|&policy| Candidate { policy, ..of }.plain()).collect(),
            3 => self.pools.iter().map(|&pool| Candidate { pool, ..of }).collect(),
            _ => {
                let with = |&(prefetch, depth): &(&'static str, usize)| {
                    Candidate { prefetch, depth, ..of }.plain()
                };
                self.prefetches.iter().map(with).collect()
            }
        };
        found.dedup();
        found
    }
}

//! What breaks while a service runs: ranks and nodes that are lost or slow, links that degrade.
//!
//! A lost rank takes the requests of its data-parallel rank with it, and the pass that its replica
//! was in. The other ranks go on where every expert still has a slot among them; else the whole
//! replica stops. A slowed rank makes all wait for it, as if it were the busiest of each layer.
//! Degraded links slow exchanges, all-reduces, messages between stages and hand-overs of caches.
//! Deliberately absent: the time until a fault is noticed, experts that are loaded again
//! elsewhere, ranks that share the work of a slow one.

mod degraded;
mod file;

use std::ops::Range;
use std::sync::Arc;

use moecast_profiles::cost::CostModel;
use moecast_profiles::units::SimTime;
use serde::{Deserialize, Serialize};

use self::degraded::Degraded;
use super::mean::Mean;
use super::moe::ExpertMap;
use super::service::Pool;

pub(crate) use degraded::{SlowExchange, slowed};
pub use file::{FaultFile, FaultKind};

/// What becomes of the requests of a rank that is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// They go back to the router; prompt and what was generated are read again.
    #[default]
    Retry,
    /// Their clients get no answer.
    Lost,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Damage {
    /// These ranks of a stage compute nothing.
    Lost(Range<usize>),
    /// A rank computes so many times as slowly.
    Slowed(usize, f64),
    /// Links take so many times as long.
    Links(f64),
}

/// A fault of one replica.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) at: SimTime,
    pub(crate) until: Option<SimTime>,
    pub(crate) pool: usize,
    /// Of the pool.
    pub(crate) replica: u16,
    pub(crate) damage: Damage,
    pub(crate) requests: Fate,
}

/// Experts of one MoE layer that no rank holds any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Ordinal of the MoE layer.
    pub layer: u16,
    /// How many.
    pub count: u16,
    /// The first few.
    pub first: Vec<u16>,
}

/// What a fault did when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Number of the fault in its file.
    pub fault: usize,
    /// The replica, counted over all pools.
    pub replica: u16,
    /// When.
    pub at: SimTime,
    /// Requests that went back to the router.
    pub retried: u64,
    /// Requests whose clients get no answer.
    pub lost: u64,
    /// Tokens whose cache was lost with them.
    pub lost_tokens: u64,
    /// Passes that came to nothing.
    pub passes: u64,
    /// Whether the replica serves nobody from here on.
    pub stops: bool,
    /// By layer, experts without a slot; they are why it stops, unless all ranks are lost.
    pub missing: Vec<Missing>,
}

/// What faults leave of a replica.
pub(crate) struct Condition {
    /// By rank of a stage, and by data-parallel rank.
    pub(crate) ranks_lost: Vec<bool>,
    pub(crate) groups_lost: Vec<bool>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) stopped: bool,
    pub(crate) map: Arc<ExpertMap>,
    pub(crate) mean: Arc<Mean>,
    pub(crate) cost: Arc<dyn CostModel>,
    pub(crate) links: f64,
}

impl Condition {
    /// Of a replica of `pool` with `faults` that have begun and not ended.
    pub(crate) fn of<'a>(pool: &Pool, faults: impl Iterator<Item = &'a Fault>) -> Self {
        let layout = &pool.layout;
        let ranks = layout.ranks() as usize;
        let mut lost = vec![false; ranks];
        let (mut slow, mut links) = (vec![1.0_f64; ranks], 1.0_f64);
        for fault in faults {
            match &fault.damage {
                Damage::Lost(ranks) => lost[ranks.clone()].fill(true),
                Damage::Slowed(rank, factor) => slow[*rank] *= factor,
                Damage::Links(factor) => links *= factor,
            }
        }
        // Nobody waits for a rank that is gone.
        let alive = slow.iter().zip(&lost).filter(|(_, lost)| !**lost);
        let compute = alive.map(|(slow, _)| *slow).fold(1.0, f64::max);
        let any = |ranks: &[bool]| ranks.contains(&true);
        let groups_lost: Vec<bool> = lost.chunks(usize::from(layout.tensor)).map(any).collect();
        let experts_lost: Vec<bool> =
            lost.chunks(usize::from(layout.expert_tensor)).map(any).collect();
        let mut condition = Self {
            stopped: !groups_lost.contains(&false),
            groups_lost,
            missing: Vec::new(),
            map: Arc::clone(&pool.map),
            mean: Arc::clone(&pool.routing.mean),
            cost: Arc::clone(&pool.kernels.model),
            links,
            ranks_lost: lost,
        };
        if any(&condition.ranks_lost) {
            match pool.map.without(&experts_lost) {
                Ok(map) => condition.map = Arc::new(map),
                Err(missing) => (condition.missing, condition.stopped) = (missing, true),
            }
        }
        if compute > 1.0 || links > 1.0 {
            let inner = Arc::clone(&pool.kernels.model);
            condition.cost = Arc::new(Degraded { inner, compute, links });
        }
        if compute > 1.0 || links > 1.0 || any(&condition.ranks_lost) {
            let map = ExpertMap::clone(&condition.map);
            let mean = pool.routing.mean.over(map, Arc::clone(&condition.cost), links);
            condition.mean = Arc::new(mean);
        }
        condition
    }
}

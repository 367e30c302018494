//! Faults as they stand in a service file, and what they mean for its replicas.

use moecast_profiles::units::{Nanos, SimTime};
use serde::{Deserialize, Serialize};

use super::{Damage, Fate, Fault};
use crate::error::{Error, Result};
use crate::serving::service::{Pool, Role, Service};

/// Largest factor: beyond it a rank is not slow but gone.
const FACTOR_MAX: f64 = 1e4;

/// What breaks, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A rank of a replica is gone.
    RankLost,
    /// All ranks of one node of a replica are gone.
    NodeLost,
    /// A rank computes more slowly.
    RankSlowed,
    /// The links of a replica carry less.
    LinkDegraded,
}

impl FaultKind {
    /// The name as typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RankLost => "rank-lost",
            Self::NodeLost => "node-lost",
            Self::RankSlowed => "rank-slowed",
            Self::LinkDegraded => "link-degraded",
        }
    }
}

/// A fault, as typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultFile {
    /// When it begins, from the start of the run.
    pub at: Nanos,
    /// When everything is as before; never where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Nanos>,
    /// What breaks.
    pub what: FaultKind,
    /// Role of the pool; the first one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Role>,
    /// Replica of the pool, from 0.
    #[serde(default)]
    pub replica: u16,
    /// Rank of the replica (of each stage, where there are several), from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// Node of the replica, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// How many times as long kernels, or transfers, take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// What becomes of requests whose rank is lost.
    #[serde(default)]
    pub requests: Fate,
}

impl Service {
    /// The same service with `faults`.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the fault and the key that cannot be.
    pub fn with_faults(self, faults: &[FaultFile]) -> Result<Self> {
        let checked = faults.iter().enumerate().map(|(number, fault)| {
            self.fault(fault).map_err(|(key, found, expected)| {
                Error::scenario(format!("faults[{number}].{key}"), found, expected)
            })
        });
        let faults = checked.collect::<Result<Vec<Fault>>>()?;
        Ok(Self { faults, ..self })
    }

    fn fault(&self, file: &FaultFile) -> std::result::Result<Fault, Refusal> {
        let roles: Vec<Role> = self.pools.iter().map(|pool| pool.role).collect();
        let place = match file.pool {
            None => Some(0),
            Some(role) => roles.iter().position(|other| *other == role),
        };
        let pool = place.ok_or_else(|| {
            ("pool", format!("{:?}", file.pool), format!("a pool of the service: {roles:?}"))
        })?;
        let replicas = self.pools[pool].replicas;
        if file.replica >= replicas {
            let expected = format!("below the {replicas} replicas of the pool");
            return Err(("replica", file.replica.to_string(), expected));
        }
        if let Some(until) = file.until.filter(|until| *until <= file.at) {
            return Err(("until", until.to_string(), format!("later than {}", file.at)));
        }
        Ok(Fault {
            at: SimTime(file.at.0),
            until: file.until.map(|until| SimTime(until.0)),
            pool,
            replica: file.replica,
            damage: damage(file, &self.pools[pool])?,
            requests: file.requests,
        })
    }
}

/// Key, what was found there, and what would be right.
type Refusal = (&'static str, String, String);

fn damage(file: &FaultFile, pool: &Pool) -> std::result::Result<Damage, Refusal> {
    let kind = file.what.name();
    let (ranks, per_node) = (pool.layout.ranks() as usize, usize::from(pool.gpus_per_node));
    let needed = |key: &'static str, value: Option<u16>, count: usize| {
        let value = value.map(usize::from);
        value.filter(|value| *value < count).ok_or_else(|| {
            let found = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            (key, found, format!("one of {count} for {kind}, from 0"))
        })
    };
    let factor = || {
        file.factor.filter(|factor| (1.0..=FACTOR_MAX).contains(factor)).ok_or_else(|| {
            let found = file.factor.map_or_else(|| "none".to_owned(), |factor| factor.to_string());
            ("factor", found, format!("1 to {FACTOR_MAX} times as long for {kind}"))
        })
    };
    let (rank, node, times) = match file.what {
        FaultKind::RankLost => (true, false, false),
        FaultKind::NodeLost => (false, true, false),
        FaultKind::RankSlowed => (true, false, true),
        FaultKind::LinkDegraded => (false, false, true),
    };
    for (key, given, wanted) in [
        ("rank", file.rank.is_some(), rank),
        ("node", file.node.is_some(), node),
        ("factor", file.factor.is_some(), times),
    ] {
        if given && !wanted {
            return Err((key, "a value".to_owned(), format!("none for {kind}")));
        }
    }
    Ok(match file.what {
        FaultKind::RankLost => {
            let rank = needed("rank", file.rank, ranks)?;
            Damage::Lost(rank..rank + 1)
        }
        FaultKind::NodeLost => {
            let node = needed("node", file.node, ranks.div_ceil(per_node))?;
            Damage::Lost(node * per_node..ranks.min((node + 1) * per_node))
        }
        FaultKind::RankSlowed => Damage::Slowed(needed("rank", file.rank, ranks)?, factor()?),
        FaultKind::LinkDegraded => Damage::Links(factor()?),
    })
}

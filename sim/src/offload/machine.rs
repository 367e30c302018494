//! The machine: memories that experts live in, the ways between them, and who computes.

use moecast_profiles::units::{Bandwidth, Bytes, Flops, Nanos};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// GPUs, the memories behind them, and what handling experts costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// GPUs that work on every pass together.
    #[serde(default = "one")]
    pub gpus: u16,
    /// How experts are divided over them.
    #[serde(default)]
    pub split: Split,
    /// Memories behind GPU memory, nearest first: host memory, then storage. The last one holds
    /// every expert.
    pub tiers: Vec<Tier>,
    /// A processor that computes experts in host memory, where it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<Processor>,
    /// What the GPU computes while experts are copied.
    #[serde(default)]
    pub beside_copies: Beside,
    /// Whether an expert that leaves GPU memory is copied back to host memory: frameworks whose
    /// weights have one place swap experts, and every copy there is followed by one back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swap: bool,
    /// What handling experts costs beside copies.
    #[serde(default)]
    pub costs: Costs,
}

/// What the GPU computes while experts of a layer are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beside {
    /// The experts that it has, then every other one when it arrives.
    #[default]
    Experts,
    /// One of three matrices of all experts at a time, as soon as all experts have that one: a
    /// kernel a matrix, as ggml has it, with copies in the same order.
    Matrices,
    /// Nothing: one grouped kernel when all experts are there.
    Nothing,
}

fn one() -> u16 {
    1
}

/// How experts are divided over GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Every GPU holds and copies its share of every expert; they act as one.
    #[default]
    Tensor,
    /// Expert `e` belongs to GPU `e` modulo GPUs, each with a cache and a link of its own.
    Expert,
}

/// One memory and the way from it to the memory before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its name in outputs.
    pub name: String,
    /// What experts may take of it; absent where all of them fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Bytes>,
    /// Bandwidth of a copy to the memory before it; of one GPU's link for the first tier.
    pub bandwidth: Bandwidth,
    /// Time of one copy before its first byte.
    #[serde(default)]
    pub latency: Nanos,
    /// Bandwidth of the processor's copy into a pinned buffer, which comes before the copy proper;
    /// absent where memory is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Bandwidth>,
    /// Copies that are under way side by side; they share the bandwidth, so that more of them only
    /// hide latency.
    #[serde(default = "one")]
    pub queue: u16,
    /// Cache policy where the memory does not hold all experts.
    #[serde(default = "lru", skip_serializing_if = "String::is_empty")]
    pub policy: String,
}

fn lru() -> String {
    "lru".to_owned()
}

impl Tier {
    /// Time that a copy of `bytes` occupies the way, all of `lanes` links of it side by side.
    #[must_use]
    pub fn time(&self, bytes: u64, lanes: u16) -> Nanos {
        if bytes == 0 {
            return Nanos(0);
        }
        let share = Bytes(bytes.div_ceil(u64::from(lanes.max(1))));
        let staged = self.staging.map_or(Nanos(0), |staging| staging.time_for(share));
        let latency = self.latency.0.div_ceil(u64::from(self.queue.max(1)));
        Nanos(latency) + self.bandwidth.time_for(share) + staged
    }
}

/// What computes experts in host memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Bandwidth at which it reads weights.
    pub bandwidth: Bandwidth,
    /// Rate at which it multiplies.
    pub flops: Flops,
    /// Time of one expert before its first byte.
    #[serde(default)]
    pub launch: Nanos,
}

impl Processor {
    /// Time of `operations` on `bytes` of weights.
    #[must_use]
    pub fn time(&self, bytes: u64, operations: u128) -> Nanos {
        self.launch + self.bandwidth.time_for(Bytes(bytes)).max(self.flops.time_for(operations))
    }
}

/// Times of handling experts; all are spent between the router and the first expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// The host reads what a layer's router chose, once a layer.
    #[serde(default)]
    pub synchronisation: Nanos,
    /// Looking one expert up.
    #[serde(default)]
    pub lookup: Nanos,
    /// Admitting one expert, its share of page tables included.
    #[serde(default)]
    pub admission: Nanos,
    /// Evicting one expert.
    #[serde(default)]
    pub eviction: Nanos,
    /// A pass beside its kernels.
    #[serde(default)]
    pub pass: Nanos,
}

impl Machine {
    /// Ranks that hold different experts.
    #[must_use]
    pub fn ranks(&self) -> u16 {
        match self.split {
            Split::Tensor => 1,
            Split::Expert => self.gpus,
        }
    }

    /// Links that copy one expert side by side.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        match self.split {
            Split::Tensor => self.gpus,
            Split::Expert => 1,
        }
    }

    /// Whether this can be simulated.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the first figure that cannot be.
    pub fn check(&self) -> Result<()> {
        let wrong = |place: String, found: String, expected: &str| {
            Err(Error::scenario(place, found, expected))
        };
        if self.gpus == 0 || self.gpus > 64 {
            return wrong("machine.gpus".to_owned(), self.gpus.to_string(), "1 to 64");
        }
        if self.tiers.is_empty() || self.tiers.len() > 2 {
            let found = format!("{} tiers", self.tiers.len());
            return wrong("machine.tiers".to_owned(), found, "host memory, or that and storage");
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            let place = |key: &str| format!("machine.tiers[{index}].{key}");
            if tier.bandwidth.0 == 0 || tier.staging.is_some_and(|staging| staging.0 == 0) {
                return wrong(place("bandwidth"), "0".to_owned(), "more than 0");
            }
            if tier.queue == 0 {
                return wrong(place("queue"), "0".to_owned(), "at least 1");
            }
            let last = index + 1 == self.tiers.len();
            if last && tier.capacity.is_some() {
                let expected = "no capacity: the last tier holds every expert";
                return wrong(place("capacity"), "a limit".to_owned(), expected);
            }
        }
        match &self.processor {
            Some(own) if own.bandwidth.0 == 0 || own.flops.0 == 0 => {
                let found = "a rate of 0".to_owned();
                wrong("machine.processor".to_owned(), found, "more than 0")
            }
            _ => Ok(()),
        }
    }
}

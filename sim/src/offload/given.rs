//! Kernel times that somebody measured as wholes, for machines that no cost model knows: phones,
//! or a paper that says what a layer takes.

use moecast_profiles::cost::{AttentionBatch, CostModel};
use moecast_profiles::units::Nanos;
use serde::{Deserialize, Serialize};

/// Times of one pass, by its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// A layer beside its routed experts, for one token.
    pub layer: Nanos,
    /// The same for every further token.
    #[serde(default)]
    pub layer_token: Nanos,
    /// One expert, for one token.
    pub expert: Nanos,
    /// The same for every further token.
    #[serde(default)]
    pub expert_token: Nanos,
    /// What comes after the last layer.
    #[serde(default)]
    pub head: Nanos,
}

fn more(first: Nanos, further: Nanos, tokens: u32) -> Nanos {
    match tokens {
        0 => Nanos(0),
        _ => first + further * u64::from(tokens - 1),
    }
}

impl CostModel for Given {
    fn experts(&self, _: u64, rows_per_slot: &[u32]) -> Nanos {
        rows_per_slot.iter().map(|&rows| more(self.expert, self.expert_token, rows)).sum()
    }

    fn shared_experts(&self, _: u32) -> Nanos {
        Nanos(0)
    }

    fn dense_layer(&self, _: u32) -> Nanos {
        Nanos(0)
    }

    fn attention(&self, batch: AttentionBatch) -> Nanos {
        more(self.layer, self.layer_token, batch.tokens())
    }

    fn gate(&self, _: u32) -> Nanos {
        Nanos(0)
    }

    fn head(&self, tokens: u32) -> Nanos {
        if tokens == 0 { Nanos(0) } else { self.head }
    }

    fn all_reduce(&self, _: u32) -> Nanos {
        Nanos(0)
    }
}

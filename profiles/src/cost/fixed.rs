//! The baseline: every kernel takes the same time, whatever it works on.
//!
//! Useful in tests that must be solvable by hand, and to see how much of a result is due to the
//! kernels at all.

use std::sync::Arc;

use super::{AttentionBatch, CostModel, Entry};
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "fixed",
    about: "every kernel with work to do takes 10 us (a baseline for tests)",
    build: |setting| {
        let model = setting.model;
        Ok(Arc::new(Fixed {
            shares: model.shared_inter > 0,
            dense: model.dense_inter > 0,
            alone: setting.tensor_ranks <= 1,
        }))
    },
};

const KERNEL: Nanos = Nanos(10_000);

struct Fixed {
    /// Whether the model has shared experts.
    shares: bool,
    /// Whether the model has dense layers.
    dense: bool,
    /// Whether there is nobody to reduce with.
    alone: bool,
}

fn unless_idle(idle: bool) -> Nanos {
    if idle { Nanos(0) } else { KERNEL }
}

impl CostModel for Fixed {
    fn experts(&self, _: u64, rows_per_slot: &[u32]) -> Nanos {
        unless_idle(rows_per_slot.iter().all(|&tokens| tokens == 0))
    }
    fn shared_experts(&self, tokens: u32) -> Nanos {
        unless_idle(tokens == 0 || !self.shares)
    }
    fn dense_layer(&self, tokens: u32) -> Nanos {
        unless_idle(tokens == 0 || !self.dense)
    }
    fn attention(&self, batch: AttentionBatch) -> Nanos {
        unless_idle(batch.tokens() == 0)
    }
    fn gate(&self, tokens: u32) -> Nanos {
        unless_idle(tokens == 0)
    }
    fn head(&self, tokens: u32) -> Nanos {
        unless_idle(tokens == 0)
    }
    fn all_reduce(&self, tokens: u32) -> Nanos {
        unless_idle(tokens == 0 || self.alone)
    }
}

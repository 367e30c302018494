//! Costs that are slower by a whole number: machines of which one is exactly twice the other.

use std::sync::Arc;

use moecast_profiles::cost::exchange::{ExchangeModel, Rule, Traffic, Way};
use moecast_profiles::cost::{AttentionBatch, CostModel, Known};
use moecast_profiles::units::Nanos;

/// Kernels or exchanges that take `times` as long.
pub(super) struct Slowed<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) times: u64,
}

impl<T: ?Sized> Slowed<T> {
    fn slow(&self, time: Nanos) -> Nanos {
        Nanos(time.0 * self.times)
    }
}

impl CostModel for Slowed<dyn CostModel> {
    fn experts(&self, tokens: u64, rows_per_slot: &[u32]) -> Nanos {
        self.slow(self.inner.experts(tokens, rows_per_slot))
    }
    fn shared_experts(&self, tokens: u32) -> Nanos {
        self.slow(self.inner.shared_experts(tokens))
    }
    fn dense_layer(&self, tokens: u32) -> Nanos {
        self.slow(self.inner.dense_layer(tokens))
    }
    fn attention(&self, batch: AttentionBatch) -> Nanos {
        self.slow(self.inner.attention(batch))
    }
    fn gate(&self, tokens: u32) -> Nanos {
        self.slow(self.inner.gate(tokens))
    }
    fn head(&self, tokens: u32) -> Nanos {
        self.slow(self.inner.head(tokens))
    }
    fn all_reduce(&self, tokens: u32) -> Nanos {
        self.slow(self.inner.all_reduce(tokens))
    }
}

impl ExchangeModel for Slowed<dyn ExchangeModel> {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        self.slow(self.inner.time(way, traffic))
    }
    fn start(&self, way: Way) -> Nanos {
        self.slow(self.inner.start(way))
    }
    fn rule(&self) -> Rule {
        self.inner.rule()
    }
    fn sends(&self, way: Way) -> f64 {
        self.inner.sends(way)
    }
    fn stays(&self) -> bool {
        self.inner.stays()
    }
    fn multiprocessors(&self) -> u16 {
        self.inner.multiprocessors()
    }
    fn known(&self) -> Vec<Known> {
        self.inner.known()
    }
}

//! Kernels and exchanges that take longer than they should.

use std::sync::Arc;

use moecast_profiles::cost::exchange::{ExchangeModel, Rule, Traffic, Way};
use moecast_profiles::cost::{AttentionBatch, CostModel, Known};
use moecast_profiles::units::Nanos;

/// `time`, `factor` times as long; exactly itself for a factor of 1.
pub(crate) fn slowed(time: Nanos, factor: f64) -> Nanos {
    if factor == 1.0 { time } else { Nanos::ceil_from(time.0 as f64 * factor) }
}

/// Kernels of a replica with a slowed rank, or slow links.
pub(crate) struct Degraded {
    pub(crate) inner: Arc<dyn CostModel>,
    pub(crate) compute: f64,
    pub(crate) links: f64,
}

impl CostModel for Degraded {
    fn experts(&self, tokens: u64, rows_per_slot: &[u32]) -> Nanos {
        slowed(self.inner.experts(tokens, rows_per_slot), self.compute)
    }
    fn shared_experts(&self, tokens: u32) -> Nanos {
        slowed(self.inner.shared_experts(tokens), self.compute)
    }
    fn dense_layer(&self, tokens: u32) -> Nanos {
        slowed(self.inner.dense_layer(tokens), self.compute)
    }
    fn attention(&self, batch: AttentionBatch) -> Nanos {
        slowed(self.inner.attention(batch), self.compute)
    }
    fn gate(&self, tokens: u32) -> Nanos {
        slowed(self.inner.gate(tokens), self.compute)
    }
    fn head(&self, tokens: u32) -> Nanos {
        slowed(self.inner.head(tokens), self.compute)
    }
    fn all_reduce(&self, tokens: u32) -> Nanos {
        slowed(self.inner.all_reduce(tokens), self.links)
    }
    fn known(&self) -> Vec<Known> {
        self.inner.known()
    }
}

/// An exchange over slow links.
pub(crate) struct SlowExchange {
    pub(crate) inner: Arc<dyn ExchangeModel>,
    pub(crate) links: f64,
}

impl ExchangeModel for SlowExchange {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        slowed(self.inner.time(way, traffic), self.links)
    }
    fn start(&self, way: Way) -> Nanos {
        slowed(self.inner.start(way), self.links)
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

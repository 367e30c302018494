//! One persistent kernel for dispatch, experts and combine, as FlashMoE (FlashDMoE, arXiv
//! 2506.04667): the GPUs themselves store tiles of tokens into each other's memory and signal
//! them one by one.
//!
//! A copy per pick, without padding to a capacity: only tokens that were routed travel. There is
//! one launch for the whole layer, so that neither way waits for one: what is left of the start is
//! a signal over the link. Its paper gives latencies of whole layers in 32 bits, no time of an
//! exchange, so the figures are assumed: a signal of twice the link's latency, and the shares of
//! bandwidth that one-sided kernels reach (`one-sided-nvlink`) and DeepEP between nodes. Tiles
//! that are computed while others still travel are overlap, which is not counted here.

use std::sync::Arc;

use super::{Entry, ExchangeModel, Line, Rule, Setting, Traffic, Way, known};
use crate::cost::Known;
use crate::hardware::LinkClass;
use crate::table::Source;
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "fused",
    about: "one persistent kernel that stores tiles into other GPUs' memory (FlashMoE); assumed",
    build: |setting| Ok(Arc::new(Fused::new(setting))),
};

/// Latencies of the link before the first byte arrives and after the last one: the store and its
/// signal. Assumed.
const SIGNALS: f64 = 2.0;
/// Share of NVLink's bandwidth. Assumed: that of `one-sided-nvlink`, dispatch.
const NVLINK: f64 = 0.72;
/// Share of the network card's bandwidth. Assumed: that of `deepep-low-latency`.
const NETWORK: f64 = 0.9;

struct Fused {
    lines: [Line; 2],
}

impl Fused {
    fn new(setting: &Setting) -> Self {
        let far = setting.hardware.nodes() > 1;
        let class = if far { LinkClass::Network } else { LinkClass::Domain };
        let start_us = SIGNALS * setting.hardware.latency(class).as_micros();
        let line = |way| Line::new(setting, setting.copy_bytes(way).0, start_us, NVLINK, NETWORK);
        Self { lines: Way::ALL.map(line) }
    }
}

impl ExchangeModel for Fused {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        Nanos::ceil_from(self.lines[way as usize].time(&traffic.per_pick))
    }

    fn start(&self, way: Way) -> Nanos {
        self.lines[way as usize].start()
    }

    fn rule(&self) -> Rule {
        Rule::PerPick
    }

    /// The block that schedules and receives; all others compute. Source: arXiv 2506.04667,
    /// section 3: one block is the operating system, the rest are processors.
    fn multiprocessors(&self) -> u16 {
        1
    }

    fn known(&self) -> Vec<Known> {
        let by = "assumed: FlashMoE with the bandwidths of other one-sided kernels";
        known(by, Source::Assumed, 0.5)
    }
}

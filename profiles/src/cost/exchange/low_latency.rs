//! DeepEP's low-latency kernels: every pick is a copy, sent straight to the rank of its expert,
//! over NVLink inside a node and over the network cards between nodes, side by side.
//!
//! A profile's table of that very model and number of nodes answers where there is one, at the
//! tokens that would crowd a port as much if they were spread evenly. Else a line: a start by
//! nodes, and the busiest port at a share of its bandwidth. Two published sets of constants:
//! DeepSeek's own for H800, which also serves unknown machines, and AIConfigurator's for H100 and
//! H200 (newer kernels start sooner but reach less of NVLink).

use std::sync::Arc;

use super::table::Tables;
use super::{Entry, ExchangeModel, Line, Rule, Setting, Traffic, Way, by_nodes, known};
use crate::cost::Known;
use crate::model::DataType;
use crate::table::Source;
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "deepep-low-latency",
    about: "DeepEP for decode: a copy per pick; measured tables where the profile has them",
    build: |setting| Ok(Arc::new(LowLatency::new(setting))),
};

/// Every copy in 8 bits carries its token's number, padded. Source: DeepEP `internode_ll.cu`.
const HEADER: u64 = 16;

/// Constants of one way.
struct Fitted {
    /// Microseconds at 1, 2, 4 and 8 nodes.
    start_us: [f64; 4],
    /// Share of the datasheet's NVLink bandwidth in one direction.
    domain: f64,
    /// Share of the network card's bandwidth.
    network: f64,
}

/// H800 (NVLink 200 GB/s by its datasheet, of which DeepEP names 160 the most that can be
/// reached; network card 50 GB/s), 128 tokens a rank, hidden 7168, top-8, FP8 dispatch, BF16
/// combine. Source: deepseek-ai/DeepEP, README: EP8, 16, 32, 64. Fitted on these four cells a
/// way; at most 2.2% off.
const H800: [Fitted; 2] = [
    Fitted { start_us: [34.1; 4], domain: 0.932 * 0.8, network: 0.932 },
    Fitted { start_us: [23.4; 4], domain: 0.87 * 0.8, network: 0.87 },
];
/// H100 and H200, 256 experts, 8 GPUs a node, hidden 7168, top-8. Source: aiconfigurator-core,
/// `wideep_deepep_ll_perf`. Fitted on 32, 128 and 256 tokens at 1, 2, 4 and 8 nodes; at most 2%
/// off.
const H200: [Fitted; 2] = [
    Fitted { start_us: [13.8, 20.8, 24.8, 27.0], domain: 0.56, network: 0.952 },
    Fitted { start_us: [8.7, 21.8, 24.1, 23.9], domain: 0.448, network: 0.912 },
];

struct LowLatency {
    lines: [Line; 2],
    tables: Option<Tables>,
    known: Vec<Known>,
}

impl LowLatency {
    fn new(setting: &Setting) -> Self {
        let device = &setting.hardware.device().name;
        let ours = ["h100", "h200"].iter().any(|name| device.starts_with(name));
        let (set, by) = if ours {
            (&H200, "published: aiconfigurator-core, H100 and H200, fitted on its 12 cells")
        } else {
            (&H800, "published: deepseek-ai/DeepEP README, H800, fitted on its 4 cells")
        };
        let here = ours || device.starts_with("h800");
        let (source, error) =
            if here { (Source::Interpolated, 0.02) } else { (Source::Extrapolated, 0.3) };
        let lines = Way::ALL.map(|way| {
            let bytes = copy_bytes(setting, way);
            let Fitted { start_us, domain, network } = set[way as usize];
            let start_us = by_nodes(start_us, setting.hardware.nodes());
            Line::new(setting, bytes, start_us, domain, network)
        });
        // Picks of one token that leave for each class when experts are chosen evenly.
        let tables = Tables::new(setting, "deepep-low-latency", &|way, share| {
            let bytes = copy_bytes(setting, way) as f64 / table_bytes(setting, way) as f64;
            f64::from(setting.model.top_k) * share / bytes
        });
        let known = match &tables {
            Some(tables) => tables.known.clone(),
            None => known(by, source, error),
        };
        Self { lines, tables, known }
    }
}

fn copy_bytes(setting: &Setting, way: Way) -> u64 {
    let header = way == Way::Dispatch && setting.dispatch_type == DataType::Fp8;
    setting.copy_bytes(way).0 + if header { HEADER } else { 0 }
}

/// Bytes of one copy in the benchmark that the tables hold.
fn table_bytes(setting: &Setting, way: Way) -> u64 {
    let values = u64::from(setting.model.hidden);
    match way {
        Way::Dispatch => DataType::Fp8.bytes_of(values).0 + HEADER,
        Way::Combine => DataType::Bf16.bytes_of(values).0,
    }
}

impl ExchangeModel for LowLatency {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let (line, ports) = (&self.lines[way as usize], &traffic.per_pick);
        match &self.tables {
            Some(tables) => tables.time(way, ports, line),
            None => Nanos::ceil_from(line.time(ports)),
        }
    }

    fn start(&self, way: Way) -> Nanos {
        let line = &self.lines[way as usize];
        self.tables.as_ref().map_or(line.start(), |tables| tables.start(way, line))
    }

    fn rule(&self) -> Rule {
        Rule::PerPick
    }

    // 0 multiprocessors: between its two halves the network cards work alone. Source: DeepEP,
    // docs/legacy.md, "low-latency kernels": a hook that does not occupy any SM.

    fn known(&self) -> Vec<Known> {
        self.known.clone()
    }
}

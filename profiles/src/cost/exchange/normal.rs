//! DeepEP's normal kernels: a token crosses to a node once, over the network card of the rank
//! that has the same place there, which passes it on over NVLink to each rank that wants it.
//!
//! A profile's table of that very model and number of nodes answers where there is one, at the
//! tokens that would crowd a port as much if they were spread evenly. Else a line: NVLink and the
//! network card side by side at shares of their bandwidths that were fitted on the bandwidths
//! which DeepSeek publishes for H800 (EP8, 16 and 32; at most 6% off), and starts by nodes as
//! AIConfigurator's tables of H200 have them with 20 SMs.

use std::sync::Arc;

use super::table::Tables;
use super::{Entry, ExchangeModel, Line, Rule, Setting, Traffic, Way, by_nodes, known};
use crate::cost::Known;
use crate::kernel::distinct_ranks;
use crate::model::DataType;
use crate::table::Source;
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "deepep-normal",
    about: "DeepEP for prefill: a copy per node, then NVLink; measured tables where there are any",
    build: |setting| Ok(Arc::new(Normal::new(setting))),
};

/// Microseconds at 1, 2, 4 and 8 nodes, dispatch and combine.
const START_US: [[f64; 4]; 2] = [[34.7, 28.9, 39.6, 46.0], [51.5, 54.7, 63.4, 63.7]];
/// Share of the datasheet's NVLink bandwidth: 132 and 133 of the 200 GB/s of an H800.
const NVLINK: [f64; 2] = [0.66, 0.667];
/// Share of the network card's bandwidth: of 50 GB/s.
const NETWORK: [f64; 2] = [0.888, 0.87];

struct Normal {
    lines: [Line; 2],
    tables: Option<Tables>,
    known: Vec<Known>,
}

impl Normal {
    fn new(setting: &Setting) -> Self {
        let nodes = setting.hardware.nodes();
        let lines = Way::ALL.map(|way| {
            let (bytes, index) = (setting.copy_bytes(way).0, way as usize);
            let start_us = by_nodes(START_US[index], nodes);
            Line::new(setting, bytes, start_us, NVLINK[index], NETWORK[index])
        });
        let groups = if nodes > 1 { nodes } else { setting.hardware.ranks() };
        let (picks, experts) = (setting.model.top_k, setting.model.experts);
        let distinct = distinct_ranks(f64::from(groups), f64::from(picks), f64::from(experts));
        let values = u64::from(setting.model.hidden);
        let tables = Tables::new(setting, "deepep-normal", &|way, share| {
            let table = match way {
                Way::Dispatch => DataType::Fp8.bytes_of(values),
                Way::Combine => DataType::Bf16.bytes_of(values),
            };
            distinct * share * table.0 as f64 / setting.copy_bytes(way).0 as f64
        });
        let here = setting.hardware.device().name.starts_with("h800");
        let (source, error) =
            if here { (Source::Interpolated, 0.05) } else { (Source::Extrapolated, 0.3) };
        let by = "published: deepseek-ai/DeepEP README, H800, fitted on its 6 bandwidths";
        let known = match &tables {
            Some(tables) => tables.known.clone(),
            None => known(by, source, error),
        };
        Self { lines, tables, known }
    }
}

impl ExchangeModel for Normal {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let (line, ports) = (&self.lines[way as usize], &traffic.per_node);
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
        Rule::PerNode
    }

    fn multiprocessors(&self) -> u16 {
        super::table::SMS
    }

    fn known(&self) -> Vec<Known> {
        self.known.clone()
    }
}

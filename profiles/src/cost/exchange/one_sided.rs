//! One-sided stores over one NVLink domain, as TensorRT-LLM does on GB200 NVL72: one copy per
//! token and destination rank.
//!
//! `max(start, 0.7 start + bytes / bandwidth)`: below some 5 us of transfer only the
//! synchronisation is seen. Constants were fitted on the ten cells per way of TensorRT-LLM's
//! blog 18 (GB200, DeepSeek-V3 shape, EP8 and EP32, 1 to 2048 tokens a rank), which they
//! reproduce within 8%; other machines reach the same share of their own NVLink.

use std::sync::Arc;

use super::{Entry, ExchangeModel, Line, Rule, Setting, Traffic, Way, known};
use crate::cost::Known;
use crate::table::Source;
use crate::units::Nanos;
use crate::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "one-sided-nvlink",
    about: "one-sided stores in one NVLink domain, as TensorRT-LLM on GB200 NVL72",
    build: |setting| Ok(Arc::new(OneSided::new(setting)?)),
};

/// Microseconds of an exchange of next to nothing, dispatch and combine.
const START_US: [f64; 2] = [19.5, 31.9];
/// Share of the start that a transfer cannot hide.
const START_SHARE: f64 = 0.7;
/// Share of NVLink's bandwidth: 647 and 702 of the 900 GB/s of a GB200.
const NVLINK: [f64; 2] = [647.0 / 900.0, 702.0 / 900.0];

/// Multiprocessors that store copies. Assumed: its kernels launch a block per token, and some 16
/// multiprocessors saturate NVLink with stores.
const MULTIPROCESSORS: u16 = 16;

struct OneSided {
    lines: [Line; 2],
    known: Vec<Known>,
}

impl OneSided {
    fn new(setting: &Setting) -> Result<Self> {
        if setting.hardware.nodes() > 1 {
            return Err(Error::Invalid {
                path: "exchange model one-sided-nvlink".to_owned(),
                key: "cluster".to_owned(),
                found: format!("{} NVLink domains", setting.hardware.nodes()),
                expected: "one: stores do not reach over the network".to_owned(),
            });
        }
        let line = |way: Way| {
            let (bytes, index) = (setting.copy_bytes(way).0, way as usize);
            Line::new(setting, bytes, START_US[index] * START_SHARE, NVLINK[index], 1.0)
        };
        let here = setting.hardware.device().name.starts_with("gb200");
        let (source, error) =
            if here { (Source::Interpolated, 0.05) } else { (Source::Extrapolated, 0.3) };
        let by = "published: TensorRT-LLM blog 18, GB200 NVL72, fitted on its 20 cells";
        Ok(Self { lines: Way::ALL.map(line), known: known(by, source, error) })
    }
}

impl ExchangeModel for OneSided {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let line = &self.lines[way as usize];
        let time = line.time(&traffic.per_rank);
        Nanos::ceil_from(if time > 0.0 { time.max(line.start_ns / START_SHARE) } else { 0.0 })
    }

    fn start(&self, way: Way) -> Nanos {
        self.lines[way as usize].start()
    }

    fn rule(&self) -> Rule {
        Rule::PerRank
    }

    fn multiprocessors(&self) -> u16 {
        MULTIPROCESSORS
    }

    fn known(&self) -> Vec<Known> {
        self.known.clone()
    }
}

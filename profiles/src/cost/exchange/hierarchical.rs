//! A two-level all-to-all, as Tutel's 2DH (arXiv 2206.03382): ranks of a node first exchange what
//! leaves for other nodes, so that each holds all that goes to its own place there; then ranks of
//! the same place send one message to every other node.
//!
//! A copy crosses NVLink once more than in a linear all-to-all, but a rank sends nodes - 1
//! messages over its network card instead of one to every remote rank: it gains where messages
//! are small and ranks many. Both phases are NCCL's, one after the other; figures are those of
//! `nccl-all-to-all`, and between nodes assumed as there. Departures: Tutel's strided copies
//! before and between the phases are not charged, and places of remote ranks are taken to be
//! chosen evenly.

use std::sync::Arc;

use super::nccl::{Collective, EXCHANGE, NETWORK_START_US, messages_us};
use super::{Entry, ExchangeModel, Rule, Setting, Traffic, Way};
use crate::cost::Known;
use crate::sample::Family;
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "hierarchical",
    about: "two-level all-to-all: inside nodes first, then one message a pair of nodes (Tutel 2DH)",
    build: |setting| Ok(Arc::new(Hierarchical::new(setting))),
};

struct Hierarchical {
    inside: Collective,
    /// Between nodes, where there are several.
    between: Option<Collective>,
    copy: [f64; 2],
    /// Share of the copies for other nodes that cross NVLink first.
    crossing: f64,
    /// Bytes that a curve counts per byte that leaves its rank.
    whole: f64,
}

impl Hierarchical {
    fn new(setting: &Setting) -> Self {
        let (nodes, ranks) = (setting.hardware.nodes(), f64::from(setting.hardware.ranks()));
        let places = f64::from(setting.hardware.gpus_per_node());
        let inside = Collective::new(setting, Family::AllToAll, &EXCHANGE);
        let between = (nodes > 1).then(|| {
            let start_us = NETWORK_START_US + messages_us(nodes - 1);
            Collective::new(setting, Family::AllToAll, &EXCHANGE).starting(start_us)
        });
        Self {
            inside: inside.starting(EXCHANGE.start_us),
            between,
            copy: Way::ALL.map(|way| setting.copy_bytes(way).0 as f64),
            crossing: 1.0 - 1.0 / places,
            whole: ranks / (ranks - 1.0).max(1.0),
        }
    }
}

impl ExchangeModel for Hierarchical {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let ports = &traffic.per_pick;
        if ports.is_empty() {
            return Nanos(0);
        }
        let copy = self.copy[way as usize];
        let (domain, network) = (ports.domain.busiest as f64, ports.network.busiest as f64);
        let inside = (domain + network * self.crossing) * copy;
        let time = self.inside.time(inside * self.whole, inside, 0.0);
        match &self.between {
            Some(between) => time + between.time(0.0, 0.0, network * copy),
            None => time,
        }
    }

    fn start(&self, _way: Way) -> Nanos {
        let between = self.between.as_ref().map_or(Nanos(0), Collective::start);
        self.inside.start() + between
    }

    fn rule(&self) -> Rule {
        Rule::PerPick
    }

    fn multiprocessors(&self) -> u16 {
        super::nccl::CHANNELS
    }

    fn known(&self) -> Vec<Known> {
        Way::ALL.map(|way| self.inside.known(way, self.between.is_some())).to_vec()
    }
}

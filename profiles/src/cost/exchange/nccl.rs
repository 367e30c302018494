//! NCCL: `start + hypot(transfer, c sqrt(megabytes))`, a transfer whose bandwidth is reached
//! slowly.
//!
//! Two ways to exchange with it: an all-to-all of one copy per pick, and the all-gather of every
//! rank's tokens before the experts with a reduce-scatter of all results after them, whose time
//! does not depend on the routing. A profile's curve of that very number of GPUs answers where
//! there is one. Else constants of AIConfigurator's tables of H200 with 8 GPUs, which the form
//! misses by a quarter at worst, and of which other machines reach the same share of their
//! bandwidth. Between nodes nobody measured: there, the network card at the share that NVLink
//! reaches, a start of its own, and a time for every remote rank that an all-to-all sends to, are
//! assumed.

use std::sync::Arc;

use super::{Entry, ExchangeModel, Rule, Setting, Traffic, Way, least};
use crate::cost::Known;
use crate::hardware::{Hardware, LinkClass};
use crate::profile::Curve;
use crate::sample::Family;
use crate::table::Source;
use crate::units::Nanos;

pub(super) const ALL_TO_ALL: Entry = Entry {
    name: "nccl-all-to-all",
    about: "NCCL all-to-all of one copy per pick; a profile's curve where it has one",
    build: |setting| Ok(Arc::new(AllToAll::new(setting))),
};

pub(super) const GATHER: Entry = Entry {
    name: "all-gather-reduce-scatter",
    about: "NCCL all-gather of all tokens, reduce-scatter of all results; blind to routing",
    build: |setting| Ok(Arc::new(Gather::new(setting))),
};

/// Start of a collective between nodes, microseconds. Assumed.
pub(super) const NETWORK_START_US: f64 = 30.0;

/// Microseconds that the network card and its proxy take for one more message. Assumed: a send
/// and a receive of NCCL to every remote rank, of which Tutel's paper (arXiv 2206.03382) shows
/// that small ones are bound by their number.
const MESSAGE_US: f64 = 1.0;

/// Microseconds of so many `messages` of a rank between nodes.
pub(super) fn messages_us(messages: u16) -> f64 {
    f64::from(messages) * MESSAGE_US
}

/// Start of an all-to-all in which every rank sends to every other.
pub(super) fn linear_start_us(hardware: &Hardware) -> f64 {
    if hardware.nodes() == 1 {
        return EXCHANGE.start_us;
    }
    NETWORK_START_US + messages_us(hardware.ranks() - hardware.gpus_per_node())
}

/// Channels of a collective, each a block on a multiprocessor of its own. Assumed: NCCL chooses
/// up to 32 by size and topology.
pub(super) const CHANNELS: u16 = 16;

/// Constants of one collective, in bytes over the wire: 7 of 8 bytes of the tables' sizes.
pub(super) struct Fitted {
    pub(super) start_us: f64,
    /// Share of the datasheet's bandwidth.
    share: f64,
    /// Microseconds per square root of a megabyte.
    sqrt_us: f64,
}

pub(super) const EXCHANGE: Fitted = Fitted { start_us: 8.0, share: 0.669, sqrt_us: 8.0 };
pub(super) const ALL_GATHER: Fitted = Fitted { start_us: 11.4, share: 0.725, sqrt_us: 8.3 };
const REDUCE_SCATTER: Fitted = Fitted { start_us: 10.7, share: 0.712, sqrt_us: 5.6 };

/// One collective on one machine.
pub(super) struct Collective {
    curve: Option<Curve>,
    start_ns: f64,
    /// Nanoseconds per byte of the busiest port.
    domain: f64,
    network: f64,
    /// Nanoseconds per square root of a byte.
    sqrt: f64,
}

impl Collective {
    pub(super) fn new(setting: &Setting, family: Family, fitted: &Fitted) -> Self {
        let hardware = setting.hardware;
        let far = hardware.nodes() > 1;
        let gpus = [u32::from(hardware.ranks())];
        let curve = setting.profile.filter(|_| !far).and_then(|profile| {
            let variant = profile.variants(family).into_iter().find(|own| own.contains("half"))?;
            profile.curve(family, variant, &gpus)
        });
        Self {
            curve,
            start_ns: if far { NETWORK_START_US } else { fitted.start_us } * 1e3,
            domain: 1.0 / (setting.port_gb_s(LinkClass::Domain) * fitted.share),
            network: 1.0 / (setting.port_gb_s(LinkClass::Network) * fitted.share),
            sqrt: fitted.sqrt_us,
        }
    }

    /// The same with another start, where no curve answers.
    pub(super) fn starting(self, start_us: f64) -> Self {
        Self { start_ns: start_us * 1e3, ..self }
    }

    /// What a collective of next to nothing takes.
    pub(super) fn start(&self) -> Nanos {
        match &self.curve {
            Some(curve) => least(curve),
            None => Nanos(self.start_ns as u64),
        }
    }

    /// Time where ports carry `domain` and `network` bytes and a curve would be asked for `size`.
    pub(super) fn time(&self, size: f64, domain: f64, network: f64) -> Nanos {
        if let Some(curve) = &self.curve {
            return curve.time_between(size.max(1.0));
        }
        let transfer = (domain * self.domain).max(network * self.network);
        Nanos::ceil_from(self.start_ns + transfer.hypot(self.sqrt * domain.max(network).sqrt()))
    }

    pub(super) fn known(&self, way: Way, far: bool) -> Known {
        let (by, source, error) = match &self.curve {
            Some(curve) => ("the profile's NCCL curve", curve.source, curve.error.max(0.03)),
            None if far => {
                ("assumed: NCCL's share of NVLink, over the network", Source::Assumed, 0.5)
            }
            None => {
                let by = "published: aiconfigurator-core, H200 with 8 GPUs, fitted on 21 cells";
                (by, Source::Extrapolated, 0.2)
            }
        };
        Known { kernel: way.name().to_owned(), by: by.to_owned(), source, error }
    }
}

struct AllToAll {
    collective: Collective,
    copy: [f64; 2],
    /// Bytes that a curve counts per byte that leaves its rank: it counts a rank's own part.
    whole: f64,
    far: bool,
}

impl AllToAll {
    fn new(setting: &Setting) -> Self {
        let ranks = f64::from(setting.hardware.ranks());
        Self {
            collective: Collective::new(setting, Family::AllToAll, &EXCHANGE)
                .starting(linear_start_us(setting.hardware)),
            copy: Way::ALL.map(|way| setting.copy_bytes(way).0 as f64),
            whole: ranks / (ranks - 1.0).max(1.0),
            far: setting.hardware.nodes() > 1,
        }
    }
}

impl ExchangeModel for AllToAll {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let ports = &traffic.per_pick;
        if ports.is_empty() {
            return Nanos(0);
        }
        let bytes = |copies: u64| copies as f64 * self.copy[way as usize];
        let (domain, network) = (bytes(ports.domain.busiest), bytes(ports.network.busiest));
        self.collective.time(domain * self.whole, domain, network)
    }

    fn start(&self, _way: Way) -> Nanos {
        self.collective.start()
    }

    fn rule(&self) -> Rule {
        Rule::PerPick
    }

    fn multiprocessors(&self) -> u16 {
        CHANNELS
    }

    fn known(&self) -> Vec<Known> {
        Way::ALL.map(|way| self.collective.known(way, self.far)).to_vec()
    }
}

struct Gather {
    ways: [Collective; 2],
    copy: [f64; 2],
    ranks: f64,
    nodes: f64,
}

impl Gather {
    fn new(setting: &Setting) -> Self {
        let gather = Collective::new(setting, Family::AllGather, &ALL_GATHER);
        let scatter = Collective::new(setting, Family::ReduceScatter, &REDUCE_SCATTER);
        Self {
            ways: [gather, scatter],
            copy: Way::ALL.map(|way| setting.copy_bytes(way).0 as f64),
            ranks: f64::from(setting.hardware.ranks()),
            nodes: f64::from(setting.hardware.nodes()),
        }
    }
}

impl ExchangeModel for Gather {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        if traffic.tokens_most == 0 {
            return Nanos(0);
        }
        // Ranks with fewer tokens pad theirs. Rings share the network cards of a node evenly.
        let all = traffic.tokens_most as f64 * self.ranks * self.copy[way as usize];
        let domain = all * (self.ranks - 1.0) / self.ranks;
        let network = all * (self.nodes - 1.0) / self.ranks;
        self.ways[way as usize].time(all, domain, network)
    }

    fn start(&self, way: Way) -> Nanos {
        self.ways[way as usize].start()
    }

    fn rule(&self) -> Rule {
        Rule::Gathered
    }

    fn multiprocessors(&self) -> u16 {
        CHANNELS
    }

    fn known(&self) -> Vec<Known> {
        Way::ALL.map(|way| self.ways[way as usize].known(way, self.nodes > 1.0)).to_vec()
    }
}

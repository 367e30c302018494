//! Models of expert dispatch and combine: how long the two exchanges of a layer take.
//!
//! All of them start from what every rank really sends to every other ([`Copies`]), so that a
//! placement which keeps tokens near, or a port that many tokens crowd, changes the time. An
//! [`Entry`] of [`ALL`] builds an [`ExchangeModel`] for a machine; an evaluation is a few
//! multiplications on [`Traffic`] or a look-up, without allocation.

mod context_coherent;
mod fused;
mod hierarchical;
mod low_latency;
mod nccl;
mod normal;
mod one_sided;
mod ports;
mod table;
#[cfg(test)]
mod tests;
mod traffic;

use std::sync::Arc;

pub use traffic::{Copies, Port, Ports, Traffic};

use super::Known;
use crate::engine::Backend;
use crate::hardware::{Hardware, LinkClass};
use crate::model::{DataType, ModelShape};
use crate::profile::{Curve, Profile};
use crate::registry::{UnknownName, find as find_entry};
use crate::table::Source;
use crate::units::{Bytes, Nanos};

/// The two exchanges of a layer. Both load the same ports: what one sends the other receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Tokens to the ranks of their experts.
    Dispatch,
    /// Results back to the tokens' own ranks.
    Combine,
}

impl Way {
    /// Both, in the order of a layer.
    pub const ALL: [Self; 2] = [Self::Dispatch, Self::Combine];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Combine => "combine",
        }
    }
}

/// What an exchange sends of a token that several experts chose: by which counting of [`Copies`]
/// it loads ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One copy per pick, straight to the rank of the expert.
    PerPick,
    /// One copy per token and destination rank.
    PerRank,
    /// One copy per token and destination node, which passes it on to its ranks.
    PerNode,
    /// Every rank gets every token, whatever was chosen.
    Gathered,
}

impl Rule {
    /// Copies of one way of `traffic` on `hardware`: kept on their rank, between ranks of a node,
    /// and between nodes.
    #[must_use]
    pub fn copies(self, traffic: &Traffic, hardware: &Hardware) -> [u64; LinkClass::ALL.len()] {
        let ports = match self {
            Self::PerPick => &traffic.per_pick,
            Self::PerRank => &traffic.per_rank,
            Self::PerNode => &traffic.per_node,
            // A ring passes every token on to each rank, and ranks with fewer tokens pad theirs.
            Self::Gathered => {
                let [ranks, nodes] = [hardware.ranks(), hardware.nodes()].map(u64::from);
                let tokens = traffic.tokens_most * ranks;
                return [tokens, tokens * (ranks - nodes), tokens * (nodes - 1)];
            }
        };
        [ports.local, ports.domain.total, ports.network.total]
    }
}

/// Times of the exchanges of one layer. All methods are pure and do not allocate.
pub trait ExchangeModel: Send + Sync {
    /// Time from the first rank's start to the last rank's end; nothing to send takes no time.
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos;

    /// The part of [`Self::time`] that no byte accounts for: latency, launch, synchronisation.
    /// Never more than the time of any traffic that leaves its ranks.
    fn start(&self, _way: Way) -> Nanos {
        Nanos(0)
    }

    /// By which counting it loads ports.
    fn rule(&self) -> Rule;

    /// Share of the copies by its rule that are sent in that way.
    fn sends(&self, _way: Way) -> f64 {
        1.0
    }

    /// Whether a token stays at the rank of its first expert, and the next layer's dispatch starts
    /// there instead of at its own rank.
    fn stays(&self) -> bool {
        false
    }

    /// Multiprocessors of a GPU that it takes from other kernels while it runs.
    fn multiprocessors(&self) -> u16 {
        0
    }

    /// How the time of either way is known.
    fn known(&self) -> Vec<Known>;

    /// Whether every rank gets all tokens, not only those that picked its experts.
    fn gathers(&self) -> bool {
        self.rule() == Rule::Gathered
    }
}

/// What an exchange model is built for.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The machine; ranks are numbered node by node.
    pub hardware: &'a Hardware,
    /// The model: its hidden width, picks and experts.
    pub model: &'a ModelShape,
    /// How activations travel to the experts.
    pub dispatch_type: DataType,
    /// How results travel back.
    pub combine_type: DataType,
    /// Measured exchanges of that GPU, where there are any.
    pub profile: Option<&'a Profile>,
}

impl Setting<'_> {
    /// Bytes of one copy of a token on its way.
    #[must_use]
    pub fn copy_bytes(&self, way: Way) -> Bytes {
        let data_type = match way {
            Way::Dispatch => self.dispatch_type,
            Way::Combine => self.combine_type,
        };
        data_type.bytes_of(u64::from(self.model.hidden))
    }

    /// One direction of the port of a rank into links of `class`, in bytes a nanosecond (GB/s).
    fn port_gb_s(&self, class: LinkClass) -> f64 {
        self.hardware.bandwidth(class).map_or(f64::INFINITY, |bandwidth| bandwidth.0 as f64 * 1e-9)
    }
}

/// A start, and the busiest port of either class side by side.
#[derive(Clone, Copy, Debug)]
struct Line {
    start_ns: f64,
    /// Nanoseconds that one copy occupies a port.
    domain_ns: f64,
    network_ns: f64,
}

impl Line {
    /// For copies of `bytes`, where ports reach the shares `domain` and `network` of their
    /// datasheet's bandwidths.
    fn new(setting: &Setting, bytes: u64, start_us: f64, domain: f64, network: f64) -> Self {
        let copy = |class, share| bytes as f64 / (setting.port_gb_s(class) * share);
        Self {
            start_ns: start_us * 1e3,
            domain_ns: copy(LinkClass::Domain, domain),
            network_ns: copy(LinkClass::Network, network),
        }
    }

    fn start(&self) -> Nanos {
        Nanos(self.start_ns as u64)
    }

    /// Nanoseconds of the transfers alone.
    fn transfer(&self, ports: &Ports) -> f64 {
        let domain = self.domain_ns * ports.domain.busiest as f64;
        domain.max(self.network_ns * ports.network.busiest as f64)
    }

    fn time(&self, ports: &Ports) -> f64 {
        if ports.is_empty() { 0.0 } else { self.start_ns + self.transfer(ports) }
    }
}

/// The least time of a measured curve, which need not be the one of its smallest size.
fn least(curve: &Curve) -> Nanos {
    let times = (0..=40).map(|octave| curve.time(1 << octave));
    times.min().expect("there are octaves")
}

/// A figure that was fitted at 1, 2, 4 and 8 nodes, for `nodes` nodes: linear in the logarithm of
/// nodes, held outside.
fn by_nodes(figures: [f64; 4], nodes: u16) -> f64 {
    let place = f64::from(nodes.max(1)).log2().min(3.0);
    let low = (place as usize).min(2);
    let share = place - low as f64;
    figures[low] + share * (figures[low + 1] - figures[low])
}

/// One line for either way.
fn known(by: &str, source: Source, error: f64) -> Vec<Known> {
    let line = |way: Way| Known { kernel: way.name().to_owned(), by: by.to_owned(), source, error };
    Way::ALL.map(line).to_vec()
}

/// An exchange model that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Builds the model; the error says what does not fit.
    pub build: fn(&Setting) -> crate::Result<Arc<dyn ExchangeModel>>,
}

crate::named!(Entry);

/// Every exchange model, alphabetical.
pub const ALL: &[Entry] = &[
    nccl::GATHER,
    context_coherent::ENTRY,
    low_latency::ENTRY,
    normal::ENTRY,
    fused::ENTRY,
    hierarchical::ENTRY,
    nccl::ALL_TO_ALL,
    one_sided::ENTRY,
    ports::ENTRY,
];

/// What models the exchanges of an engine that uses `backend`; ports at the datasheet's bandwidth
/// where nobody measured.
#[must_use]
pub fn of_backend(backend: Backend) -> &'static Entry {
    match backend {
        Backend::AllgatherReduceScatter => &nccl::GATHER,
        Backend::DeepepLowLatency => &low_latency::ENTRY,
        Backend::DeepepNormal => &normal::ENTRY,
        Backend::Nccl => &nccl::ALL_TO_ALL,
        Backend::OneSidedNvlink => &one_sided::ENTRY,
        Backend::CustomAllReduce | Backend::Hccl | Backend::HostCopy | Backend::Mc2 => {
            &ports::ENTRY
        }
    }
}

/// Finds an exchange model by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("exchange model", ALL, name)
}

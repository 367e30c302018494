//! Every link of a machine, each direction by itself, and which links a message crosses.
//!
//! A message climbs from its source to the lowest switch that it has in common with its target,
//! and descends: inside a node by the tree of its domain, between nodes by that of the network.
//! A rank knows the few steps up and down of either tree, so no table grows with pairs of ranks.
//! Links between switches that lie side by side are one link as wide as all of them: packets are
//! taken to be spread over them evenly.

mod build;
mod crowd;
#[cfg(test)]
mod tests;

use std::fmt;

use petgraph::graph::{DiGraph, EdgeIndex};
use serde::Serialize;

pub use crowd::Crowd;

use super::LinkClass;
use crate::ids::Rank;
use crate::units::{Bandwidth, Nanos};

/// A vertex of the graph; everything but ranks is numbered node by node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vertex {
    /// A GPU.
    Gpu(Rank),
    /// The NVLink switches of a node, as one.
    DomainSwitch(u16),
    /// A PCIe switch.
    PcieSwitch(u16),
    /// A processor.
    Socket(u16),
    /// What joins the processors of a node.
    Sockets(u16),
    /// The memory of a processor.
    Memory(u16),
    /// A network card, or several that act as one.
    Card(u16),
    /// A leaf switch of the network.
    Leaf(u16),
    /// The spine switches, as one.
    Spine,
    /// A network that is never crowded.
    NetworkSwitch,
}

impl Vertex {
    /// What it is, without its number.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu(_) => "gpu",
            Self::DomainSwitch(_) => "nvlink switch",
            Self::PcieSwitch(_) => "pcie switch",
            Self::Socket(_) => "socket",
            Self::Sockets(_) => "sockets of node",
            Self::Memory(_) => "memory",
            Self::Card(_) => "card",
            Self::Leaf(_) => "leaf",
            Self::Spine => "spine",
            Self::NetworkSwitch => "network",
        }
    }
}

impl fmt::Display for Vertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spine | Self::NetworkSwitch => f.write_str(self.name()),
            Self::Gpu(Rank(number))
            | Self::DomainSwitch(number)
            | Self::PcieSwitch(number)
            | Self::Socket(number)
            | Self::Sockets(number)
            | Self::Memory(number)
            | Self::Card(number)
            | Self::Leaf(number) => write!(f, "{} {number}", self.name()),
        }
    }
}

/// What a link is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// NVLink.
    Nvlink,
    /// PCI Express.
    Pcie,
    /// NVLink-C2C between a GPU and its processor.
    C2c,
    /// Between processors.
    Socket,
    /// Between a processor and its memory.
    Memory,
    /// A network card's port.
    Card,
    /// From a leaf to the spines.
    Uplink,
}

/// An edge of the graph: one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is made of.
    pub kind: LinkKind,
    /// The class of messages whose time it can bound; local where it carries none between ranks.
    pub class: LinkClass,
    /// Bandwidth of this direction.
    pub bandwidth: Bandwidth,
    /// Its part of the latency of a message.
    pub latency: Nanos,
}

/// One step up from a rank: the vertex above, and the links to it and back.
#[derive(Clone, Copy, Debug)]
struct Step {
    above: u32,
    up: u32,
    down: u32,
}

/// Steps of every rank, `[rank x height]`.
#[derive(Clone, Debug, Default)]
struct Tree {
    height: usize,
    /// The lowest level at which two ranks may meet.
    lowest: usize,
    steps: Vec<Step>,
}

impl Tree {
    fn steps(&self, rank: usize) -> &[Step] {
        &self.steps[rank * self.height..(rank + 1) * self.height]
    }

    /// The level of the lowest switch that two ranks have in common.
    fn meeting(&self, source: usize, target: usize) -> usize {
        let (source, target) = (self.steps(source), self.steps(target));
        let mut level = self.lowest;
        while source[level].above != target[level].above {
            level += 1;
        }
        level
    }
}

/// The links of a machine.
#[derive(Clone, Debug)]
pub struct Fabric {
    graph: DiGraph<Vertex, Link>,
    ranks: usize,
    gpus_per_node: usize,
    domain: Tree,
    network: Tree,
    host: Tree,
    /// Width of a rank's port into its domain and into the network.
    ports: [Bandwidth; 2],
    plain: bool,
}

impl Fabric {
    /// The graph; the number of an edge is that of its link.
    #[must_use]
    pub fn graph(&self) -> &DiGraph<Vertex, Link> {
        &self.graph
    }

    /// Every link, by number.
    pub fn links(&self) -> impl ExactSizeIterator<Item = &Link> {
        self.graph.raw_edges().iter().map(|edge| &edge.weight)
    }

    /// The link of that number.
    #[must_use]
    pub fn link(&self, link: u32) -> &Link {
        &self.graph[EdgeIndex::new(link as usize)]
    }

    /// What a link is called, for example `leaf 0 > spine`.
    #[must_use]
    pub fn name(&self, link: u32) -> String {
        let (from, to) = self.ends(link);
        format!("{from} > {to}")
    }

    /// Capacities of all links in bytes per nanosecond.
    #[must_use]
    pub fn capacities(&self) -> Vec<f64> {
        self.links().map(|link| link.bandwidth.0 as f64 * 1e-9).collect()
    }

    /// Puts the links that a message from `source` to `target` crosses, in its order; none where
    /// they are the same.
    pub fn route(&self, source: Rank, target: Rank, into: &mut Vec<u32>) {
        into.clear();
        if source == target {
            return;
        }
        let (source, target) = (source.index(), target.index());
        let tree = self.tree(source, target);
        let level = tree.meeting(source, target);
        into.extend(tree.steps(source)[..=level].iter().map(|step| step.up));
        into.extend(tree.steps(target)[..=level].iter().rev().map(|step| step.down));
    }

    /// Latency of a message over `route`.
    #[must_use]
    pub fn latency(&self, route: &[u32]) -> Nanos {
        route.iter().map(|link| self.link(*link).latency).sum()
    }

    /// Links from a GPU into its host's memory.
    pub fn to_host(&self, rank: Rank) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.host.steps(rank.index()).iter().map(|step| step.up)
    }

    /// Links from the memory of its host into a GPU.
    pub fn from_host(&self, rank: Rank) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.host.steps(rank.index()).iter().rev().map(|step| step.down)
    }

    /// Whether no link but a rank's own port can be crowded, so that counting ports is enough.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// GPUs.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// GPUs of a node.
    #[must_use]
    pub fn gpus_per_node(&self) -> usize {
        self.gpus_per_node
    }

    /// The vertices that a link joins.
    #[must_use]
    pub fn ends(&self, link: u32) -> (Vertex, Vertex) {
        let edge = &self.graph.raw_edges()[link as usize];
        (self.graph[edge.source()], self.graph[edge.target()])
    }

    /// By link: GPUs that share it on their ways to each other and to their hosts.
    #[must_use]
    pub fn sharers(&self) -> Vec<u16> {
        let mut sharers = vec![0; self.graph.edge_count()];
        for rank in 0..self.ranks {
            let trees = [&self.domain, &self.network, &self.host];
            let steps = trees.into_iter().flat_map(|tree| tree.steps(rank));
            let mut links: Vec<u32> = steps.flat_map(|step| [step.up, step.down]).collect();
            links.sort_unstable();
            links.dedup();
            links.into_iter().for_each(|link| sharers[link as usize] += 1);
        }
        sharers
    }

    /// Bandwidth from one half of the machine to the other, where every GPU sends to its like
    /// there as fast as the busiest link lets all of them; `None` for one GPU.
    ///
    /// Halves are whole nodes where there are several, and else GPUs in a row.
    #[must_use]
    pub fn bisection(&self) -> Option<Bandwidth> {
        let nodes = self.ranks / self.gpus_per_node;
        let unit = if nodes > 1 { self.gpus_per_node } else { 1 };
        let half = self.ranks / unit / 2 * unit;
        let mut crowd = Crowd::new(self);
        for source in 0..half {
            crowd.add(self, source, source + self.ranks - half, 1);
        }
        let busiest = crowd
            .loads(self)
            .iter()
            .zip(self.links())
            .map(|(load, link)| *load as f64 / link.bandwidth.0 as f64)
            .fold(0.0, f64::max);
        (half > 0).then(|| Bandwidth((half as f64 / busiest).round() as u64))
    }

    /// The tree in which two different ranks meet.
    fn tree(&self, source: usize, target: usize) -> &Tree {
        let near = source / self.gpus_per_node == target / self.gpus_per_node;
        if near { &self.domain } else { &self.network }
    }
}

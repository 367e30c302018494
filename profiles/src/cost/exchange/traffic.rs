//! What the ranks of one layer send each other, and how crowded the busiest ports are.
//!
//! Kernels differ in what they send twice: one copy per pick (low-latency DeepEP, all-to-all),
//! one per token and destination rank, or one per token and destination node that the node then
//! passes on (normal DeepEP). [`Copies`] counts all three in one pass over the tokens.
//!
//! Where links behind the ports can be more crowded than any port (cards that GPUs share,
//! oversubscribed uplinks, PCIe trees), the busiest link counts as the copies that would take as
//! long through a port, so that models need to know of ports alone.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Way;
use crate::hardware::fabric::{Crowd, Fabric};
use crate::hardware::{Hardware, LinkClass};
use crate::ids::Rank;

/// Copies through the ports of one link class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Through the busiest port in its busier direction; as many as take a port as long as the
    /// busiest link where that is busier.
    pub busiest: u64,
    /// Through all ports, one direction.
    pub total: u64,
}

/// Copies by what they cross.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Copies that stay on their rank.
    pub local: u64,
    /// Copies between ranks of one node.
    pub domain: Port,
    /// Copies between nodes.
    pub network: Port,
}

impl Ports {
    /// Whether there is nothing to send, not even to itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.local == 0 && self.domain.total == 0 && self.network.total == 0
    }
}

/// The copies of one layer, by the three rules of counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Tokens of the rank that has most.
    pub tokens_most: u64,
    /// One copy per pick, straight to the rank of the chosen expert.
    pub per_pick: Ports,
    /// One copy per token and destination rank.
    pub per_rank: Ports,
    /// Network: one copy per token and destination node. Domain: the rank of that node with the
    /// source's place in its own passes one copy on to each destination rank.
    pub per_node: Ports,
}

/// Counts copies; kept from layer to layer, so that counting does not allocate.
#[derive(Clone, Debug)]
pub struct Copies {
    ranks: usize,
    gpus_per_node: usize,
    /// `[R]` tokens of every rank.
    tokens: Vec<u64>,
    /// `[R x R]` copies, one per pick.
    per_pick: Vec<u32>,
    /// `[R x R]` copies, one per token and destination rank.
    per_rank: Vec<u32>,
    /// `[R x N]` copies, one per token and destination node.
    per_node: Vec<u32>,
    /// Number of the last token that went to a rank, and to a node.
    last_rank: Vec<u64>,
    last_node: Vec<u64>,
    number: u64,
    /// `[R]` copies out of and into every port.
    domain: Flow,
    network: Flow,
    /// Links where ports alone do not say what is busiest.
    fabric: Option<Arc<Fabric>>,
    crowd: Option<Crowd>,
}

/// Which copies are sent.
#[derive(Clone, Copy)]
enum Counting {
    Pick,
    Rank,
    Node,
}

/// Copies out of and into every rank's port of one class.
#[derive(Clone, Debug)]
struct Flow {
    sent: Vec<u64>,
    received: Vec<u64>,
}

impl Flow {
    fn new(ranks: usize) -> Self {
        Self { sent: vec![0; ranks], received: vec![0; ranks] }
    }

    fn clear(&mut self) {
        self.sent.fill(0);
        self.received.fill(0);
    }

    fn add(&mut self, source: usize, target: usize, copies: u64) {
        self.sent[source] += copies;
        self.received[target] += copies;
    }

    fn port(&self) -> Port {
        let busiest = self.sent.iter().chain(&self.received).copied().max().unwrap_or(0);
        Port { busiest, total: self.sent.iter().sum() }
    }
}

impl Traffic {
    /// As if there were `factor` times as many tokens that choose alike.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let count = |copies: u64| (copies as f64 * factor).round() as u64;
        let port = |port: Port| Port { busiest: count(port.busiest), total: count(port.total) };
        let ports = |ports: Ports| Ports {
            local: count(ports.local),
            domain: port(ports.domain),
            network: port(ports.network),
        };
        Self {
            tokens_most: count(self.tokens_most),
            per_pick: ports(self.per_pick),
            per_rank: ports(self.per_rank),
            per_node: ports(self.per_node),
        }
    }
}

impl Copies {
    /// For `ranks` ranks, `gpus_per_node` of which share a node, numbered node by node.
    #[must_use]
    pub fn new(ranks: u16, gpus_per_node: u16) -> Self {
        let (ranks, gpus_per_node) = (usize::from(ranks), usize::from(gpus_per_node));
        let whole = gpus_per_node > 0 && ranks.is_multiple_of(gpus_per_node);
        assert!(whole, "{ranks} ranks are no whole nodes of {gpus_per_node}");
        let nodes = ranks / gpus_per_node;
        Self {
            ranks,
            gpus_per_node,
            tokens: vec![0; ranks],
            per_pick: vec![0; ranks * ranks],
            per_rank: vec![0; ranks * ranks],
            per_node: vec![0; ranks * nodes],
            last_rank: vec![0; ranks],
            last_node: vec![0; nodes],
            number: 0,
            domain: Flow::new(ranks),
            network: Flow::new(ranks),
            fabric: None,
            crowd: None,
        }
    }

    /// For the ranks of `hardware` and its links: as [`Self::new`] where nothing but ports can be
    /// crowded.
    #[must_use]
    pub fn on(hardware: &Hardware) -> Self {
        let fabric = hardware.fabric();
        let fabric = (!fabric.is_plain()).then(|| Arc::clone(fabric));
        let crowd = fabric.as_deref().map(Crowd::new);
        Self { fabric, crowd, ..Self::new(hardware.ranks(), hardware.gpus_per_node()) }
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.tokens.fill(0);
        for counts in [&mut self.per_pick, &mut self.per_rank, &mut self.per_node] {
            counts.fill(0);
        }
    }

    /// Adds one token of `source`; `targets` are the ranks of its picks, one each.
    pub fn add(&mut self, source: Rank, targets: impl IntoIterator<Item = Rank>) {
        self.number += 1;
        let (source, nodes) = (source.index(), self.last_node.len());
        self.tokens[source] += 1;
        for target in targets {
            let (target, node) = (target.index(), target.index() / self.gpus_per_node);
            self.per_pick[source * self.ranks + target] += 1;
            if self.last_rank[target] != self.number {
                self.last_rank[target] = self.number;
                self.per_rank[source * self.ranks + target] += 1;
            }
            if self.last_node[node] != self.number {
                self.last_node[node] = self.number;
                self.per_node[source * nodes + node] += 1;
            }
        }
    }

    /// `[R x R]` copies from rank to rank, one per token and destination rank.
    #[must_use]
    pub fn per_rank(&self) -> &[u32] {
        &self.per_rank
    }

    /// The busiest ports.
    #[must_use]
    pub fn traffic(&mut self) -> Traffic {
        Traffic {
            tokens_most: self.tokens.iter().copied().max().unwrap_or(0),
            per_pick: self.ports(Counting::Pick),
            per_rank: self.ports(Counting::Rank),
            per_node: self.ports(Counting::Node),
        }
    }

    /// Loads of the links of `fabric` in time, relative to the busiest: `(link, share)`, where one
    /// copy is sent per pick. Returns nanoseconds of the busiest link per byte of a copy.
    pub fn loads_per_pick(&mut self, fabric: &Fabric, way: Way, into: &mut Vec<(u32, f64)>) -> f64 {
        self.loads(fabric, way, Counting::Pick, into)
    }

    /// As [`Self::loads_per_pick`], with one copy per token and destination rank.
    pub fn loads_per_rank(&mut self, fabric: &Fabric, way: Way, into: &mut Vec<(u32, f64)>) -> f64 {
        self.loads(fabric, way, Counting::Rank, into)
    }

    /// As [`Self::loads_per_pick`], with one copy per token and destination node, which the rank of
    /// the source's place there passes on.
    pub fn loads_per_node(&mut self, fabric: &Fabric, way: Way, into: &mut Vec<(u32, f64)>) -> f64 {
        self.loads(fabric, way, Counting::Node, into)
    }

    fn loads(
        &mut self,
        fabric: &Fabric,
        way: Way,
        counting: Counting,
        into: &mut Vec<(u32, f64)>,
    ) -> f64 {
        let shape = (fabric.ranks(), fabric.gpus_per_node());
        assert_eq!(shape, (self.ranks, self.gpus_per_node), "another machine");
        let fitting = self.crowd.take().filter(|crowd| crowd.fits(fabric));
        let mut crowd = fitting.unwrap_or_else(|| Crowd::new(fabric));
        crowd.clear();
        self.legs(counting, |source, target, copies| match way {
            Way::Dispatch => crowd.add(fabric, source, target, copies),
            Way::Combine => crowd.add(fabric, target, source, copies),
        });
        let nanos = crowd.shares(fabric, into);
        self.crowd = Some(crowd);
        nanos
    }

    /// Every leg that copies go: source, target and how many; from a rank to itself they stay.
    fn legs(&self, counting: Counting, mut each: impl FnMut(usize, usize, u64)) {
        let matrix = match counting {
            Counting::Pick => &self.per_pick,
            Counting::Rank => &self.per_rank,
            Counting::Node => return self.forwarded(each),
        };
        for (source, row) in matrix.chunks_exact(self.ranks).enumerate() {
            for (target, &copies) in row.iter().enumerate() {
                each(source, target, u64::from(copies));
            }
        }
    }

    /// Legs of copies that cross to a node once and are passed on there.
    fn forwarded(&self, mut each: impl FnMut(usize, usize, u64)) {
        let nodes = self.last_node.len();
        for source in 0..self.ranks {
            let place = source % self.gpus_per_node;
            for node in (0..nodes).filter(|node| *node != source / self.gpus_per_node) {
                let copies = u64::from(self.per_node[source * nodes + node]);
                each(source, node * self.gpus_per_node + place, copies);
            }
            for target in 0..self.ranks {
                let copies = u64::from(self.per_rank[source * self.ranks + target]);
                let forwarder = target / self.gpus_per_node * self.gpus_per_node + place;
                // What the forwarder wants for itself has arrived.
                if forwarder != target || target == source {
                    each(forwarder, target, copies);
                }
            }
        }
    }

    /// The busiest ports and links.
    fn ports(&mut self, counting: Counting) -> Ports {
        let empty = || Flow { sent: Vec::new(), received: Vec::new() };
        let mut domain = std::mem::replace(&mut self.domain, empty());
        let mut network = std::mem::replace(&mut self.network, empty());
        domain.clear();
        network.clear();
        let mut local = 0;
        let gpus = self.gpus_per_node;
        self.legs(counting, |source, target, copies| {
            if target == source {
                local += copies;
            } else if target / gpus == source / gpus {
                domain.add(source, target, copies);
            } else {
                network.add(source, target, copies);
            }
        });
        let mut ports = Ports { local, domain: domain.port(), network: network.port() };
        (self.domain, self.network) = (domain, network);
        if let Some(fabric) = self.fabric.clone() {
            self.count_links(&fabric, counting, &mut ports);
        }
        ports
    }

    /// Replaces the busiest ports by the busiest links.
    fn count_links(&mut self, fabric: &Fabric, counting: Counting, ports: &mut Ports) {
        let fitting = self.crowd.take().filter(|crowd| crowd.fits(fabric));
        let mut crowd = fitting.unwrap_or_else(|| Crowd::new(fabric));
        crowd.clear();
        self.legs(counting, |source, target, copies| crowd.add(fabric, source, target, copies));
        ports.domain.busiest = crowd.busiest(fabric, LinkClass::Domain);
        ports.network.busiest = crowd.busiest(fabric, LinkClass::Network);
        self.crowd = Some(crowd);
    }
}

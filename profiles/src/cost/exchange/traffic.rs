//! What the ranks of one layer send each other, and how crowded the busiest ports are.
//!
//! Kernels differ in what they send twice: one copy per pick (low-latency DeepEP, all-to-all),
//! one per token and destination rank, or one per token and destination node that the node then
//! passes on (normal DeepEP). [`Copies`] counts all three in one pass over the tokens.

use crate::ids::Rank;

/// Copies through the ports of one link class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Through the busiest port in its busier direction.
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
        }
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
            per_pick: self.direct(|copies| &copies.per_pick),
            per_rank: self.direct(|copies| &copies.per_rank),
            per_node: self.forwarded(),
        }
    }

    /// Ports of copies that go straight to their rank.
    fn direct(&mut self, matrix: impl Fn(&Self) -> &[u32]) -> Ports {
        let (mut domain, mut network) = self.take_flows();
        let mut local = 0;
        for (source, row) in matrix(self).chunks_exact(self.ranks).enumerate() {
            let node = source / self.gpus_per_node;
            for (target, &copies) in row.iter().enumerate() {
                let copies = u64::from(copies);
                if target == source {
                    local += copies;
                } else if target / self.gpus_per_node == node {
                    domain.add(source, target, copies);
                } else {
                    network.add(source, target, copies);
                }
            }
        }
        self.keep_flows(local, domain, network)
    }

    /// Ports of copies that cross to a node once and are passed on there.
    fn forwarded(&mut self) -> Ports {
        let (mut domain, mut network) = self.take_flows();
        let mut local = 0;
        let nodes = self.last_node.len();
        for source in 0..self.ranks {
            let place = source % self.gpus_per_node;
            for node in (0..nodes).filter(|node| *node != source / self.gpus_per_node) {
                let copies = u64::from(self.per_node[source * nodes + node]);
                network.add(source, node * self.gpus_per_node + place, copies);
            }
            for target in 0..self.ranks {
                let copies = u64::from(self.per_rank[source * self.ranks + target]);
                let forwarder = target / self.gpus_per_node * self.gpus_per_node + place;
                if forwarder != target {
                    domain.add(forwarder, target, copies);
                } else if target == source {
                    local += copies;
                }
            }
        }
        self.keep_flows(local, domain, network)
    }

    fn take_flows(&mut self) -> (Flow, Flow) {
        self.domain.clear();
        self.network.clear();
        let empty = || Flow { sent: Vec::new(), received: Vec::new() };
        (
            std::mem::replace(&mut self.domain, empty()),
            std::mem::replace(&mut self.network, empty()),
        )
    }

    fn keep_flows(&mut self, local: u64, domain: Flow, network: Flow) -> Ports {
        let ports = Ports { local, domain: domain.port(), network: network.port() };
        (self.domain, self.network) = (domain, network);
        ports
    }
}

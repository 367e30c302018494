//! The links of a machine from its description.

use std::collections::BTreeMap;

use petgraph::graph::{DiGraph, NodeIndex};

use super::{Fabric, Link, LinkKind, Step, Tree, Vertex};
use crate::hardware::LinkClass;
use crate::hardware::cluster::{Cluster, Domain, HostLink, NetworkKind};
use crate::ids::Rank;
use crate::units::{Bandwidth, Nanos};

/// The graph as far as it is built.
struct Builder<'a> {
    cluster: &'a Cluster,
    nodes: u16,
    graph: DiGraph<Vertex, Link>,
    vertices: BTreeMap<Vertex, NodeIndex>,
    /// The links between two vertices, by the lower one's number.
    steps: BTreeMap<(NodeIndex, NodeIndex), Step>,
}

/// A way up from one GPU: vertices and the links to them.
type Way = Vec<(Vertex, Link)>;

impl Fabric {
    /// The links of `nodes` nodes like those of `cluster`, whose first `gpus` GPUs are used.
    pub(in crate::hardware) fn new(cluster: &Cluster, nodes: u16, gpus: u16) -> Self {
        let mut builder = Builder {
            cluster,
            nodes,
            graph: DiGraph::new(),
            vertices: BTreeMap::new(),
            steps: BTreeMap::new(),
        };
        // GPUs first: a rank is the number of its vertex.
        for rank in 0..nodes * gpus {
            builder.vertex(Vertex::Gpu(Rank(rank)));
        }
        let (mut domain, mut network, mut host) = <(Tree, Tree, Tree)>::default();
        if cluster.domain == Domain::Pcie && cluster.host.as_ref().is_some_and(|h| !h.peer_to_peer)
        {
            // Through memory: behind the processor, and the switch where there is one.
            domain.lowest = builder.host_way(0, 0).len() - 1;
        }
        for rank in 0..nodes * gpus {
            let (node, place) = (rank / gpus, rank % gpus);
            let gpu = Vertex::Gpu(Rank(rank));
            let way = builder.domain_way(node, place);
            builder.climb(gpu, &way, &mut domain);
            if nodes > 1 {
                let way = builder.network_way(node, place);
                builder.climb(gpu, &way, &mut network);
            }
            let way = match &cluster.host {
                Some(_) => builder.host_way(node, place),
                None => vec![builder.own_memory(rank)],
            };
            builder.climb(gpu, &way, &mut host);
        }
        let device = &cluster.device;
        Self {
            graph: builder.graph,
            ranks: usize::from(nodes * gpus),
            gpus_per_node: usize::from(gpus),
            domain,
            network,
            host,
            ports: [device.domain_bandwidth.value, device.network_bandwidth.value],
            plain: cluster.is_plain(),
        }
    }
}

impl Builder<'_> {
    fn vertex(&mut self, vertex: Vertex) -> NodeIndex {
        *self.vertices.entry(vertex).or_insert_with(|| self.graph.add_node(vertex))
    }

    /// Appends the steps of one GPU to those of the GPUs before it.
    fn climb(&mut self, gpu: Vertex, way: &Way, tree: &mut Tree) {
        tree.height = way.len();
        let mut below = self.vertex(gpu);
        for (vertex, link) in way {
            let above = self.vertex(*vertex);
            let step = *self.steps.entry((below, above)).or_insert_with(|| Step {
                above: above.index() as u32,
                up: self.graph.add_edge(below, above, *link).index() as u32,
                down: self.graph.add_edge(above, below, *link).index() as u32,
            });
            tree.steps.push(step);
            below = above;
        }
    }

    fn domain_way(&self, node: u16, place: u16) -> Way {
        let (device, domain) = (&self.cluster.device, self.cluster.domain);
        if domain == Domain::Nvlink {
            let bandwidth = device.domain_bandwidth.value;
            let latency = half(device.domain_latency.value);
            let link =
                Link { kind: LinkKind::Nvlink, class: LinkClass::Domain, bandwidth, latency };
            return vec![(Vertex::DomainSwitch(node), link)];
        }
        let mut way = self.host_way(node, place);
        let Some(host) = &self.cluster.host else { return way };
        if host.peer_to_peer {
            way.pop();
        }
        if let Some(between) = host.socket_bandwidth.as_ref().filter(|_| host.sockets > 1) {
            let bandwidth = between.value;
            let (kind, class) = (LinkKind::Socket, LinkClass::Domain);
            let link = Link { kind, class, bandwidth, latency: Nanos(0) };
            way.push((Vertex::Sockets(node), link));
        }
        way
    }

    /// To the memory of the processor: over a PCIe switch where there are some.
    fn host_way(&self, node: u16, place: u16) -> Way {
        let Some(host) = &self.cluster.host else { return Vec::new() };
        let device = &self.cluster.device;
        let gpus = self.cluster.gpus_per_node;
        let pcie = self.cluster.domain == Domain::Pcie;
        // What a node's own messages do not cross is there for its host alone.
        let class = |own: bool| if pcie && own { LinkClass::Domain } else { LinkClass::Local };
        let socket = Vertex::Socket(node * host.sockets + place / (gpus / host.sockets));
        let port = self.port();
        let mut way = Vec::new();
        if let Some(switches) = gpus.checked_div(host.gpus_per_switch) {
            let switch = Vertex::PcieSwitch(node * switches + place / host.gpus_per_switch);
            way.push((switch, port));
            let bandwidth = host.switch_bandwidth.value;
            let (kind, class) = (LinkKind::Pcie, class(true));
            way.push((socket, Link { kind, class, bandwidth, latency: Nanos(0) }));
        } else {
            let kind = if host.link == HostLink::C2c { LinkKind::C2c } else { LinkKind::Pcie };
            way.push((socket, Link { kind, bandwidth: device.host_bandwidth.value, ..port }));
        }
        let Vertex::Socket(number) = socket else { return way };
        let bandwidth = host.memory_bandwidth.value;
        let (kind, class) = (LinkKind::Memory, class(!host.peer_to_peer));
        way.push((Vertex::Memory(number), Link { kind, class, bandwidth, latency: Nanos(0) }));
        way
    }

    /// Of a GPU into its PCIe switch or processor: also the way to its network card.
    fn port(&self) -> Link {
        let device = &self.cluster.device;
        let (class, latency) = match self.cluster.domain {
            Domain::Pcie => (LinkClass::Domain, half(device.domain_latency.value)),
            Domain::Nvlink => (LinkClass::Network, Nanos(0)),
        };
        Link { kind: LinkKind::Pcie, class, bandwidth: device.host_bandwidth.value, latency }
    }

    /// Memory that a GPU has for itself, where nobody said how hosts are built.
    fn own_memory(&self, rank: u16) -> (Vertex, Link) {
        let bandwidth = self.cluster.device.host_bandwidth.value;
        let (kind, class) = (LinkKind::Pcie, LinkClass::Local);
        (Vertex::Memory(rank), Link { kind, class, bandwidth, latency: Nanos(0) })
    }

    fn network_way(&self, node: u16, place: u16) -> Way {
        let (cluster, device) = (self.cluster, &self.cluster.device);
        let class = LinkClass::Network;
        // The latency of a message is that of its two cards; the GPUs' own links have their part.
        let port = self.port();
        let latency = device.network_latency.value.0 / 2;
        let near = if cluster.host.is_some() { port.latency.0 } else { 0 };
        let latency = Nanos(latency.saturating_sub(near));
        let bandwidth = device.network_bandwidth.value;
        let link = Link { kind: LinkKind::Card, class, bandwidth, latency };
        if cluster.is_plain() {
            return vec![(Vertex::NetworkSwitch, link)];
        }
        let (cards, card) = (cluster.cards(), cluster.card(place));
        let mut way = Vec::new();
        let slot = Link { kind: LinkKind::Pcie, class, bandwidth, latency: Nanos(0) };
        if cluster.host.is_some() {
            way.extend(self.host_way(node, place).first());
        }
        way.push((Vertex::Card(node * cards + card), slot));
        let group = node / cluster.nodes_per_leaf();
        let leaves = match cluster.network.kind {
            NetworkKind::Ideal => {
                way.push((Vertex::NetworkSwitch, link));
                return way;
            }
            NetworkKind::Rails => cards,
            NetworkKind::LeafSpine => 1,
        };
        way.push((Vertex::Leaf(group * leaves + card % leaves), link));
        let groups = self.nodes.div_ceil(cluster.nodes_per_leaf());
        if groups * leaves > 1 {
            way.push((Vertex::Spine, self.uplinks(group, leaves)));
        }
        way
    }

    /// All uplinks of one leaf.
    fn uplinks(&self, group: u16, leaves: u16) -> Link {
        let (cluster, network) = (self.cluster, &self.cluster.network);
        let first = group * cluster.nodes_per_leaf();
        let nodes = (self.nodes - first).min(cluster.nodes_per_leaf());
        let cards = f64::from(nodes) * f64::from(cluster.cards() / leaves);
        let below = cards * cluster.device.network_bandwidth.value.0 as f64;
        let bandwidth = Bandwidth((below / network.oversubscription.value).max(1.0) as u64);
        let latency = half(network.spine_latency.value);
        Link { kind: LinkKind::Uplink, class: LinkClass::Network, bandwidth, latency }
    }
}

/// A route crosses two links of a kind.
fn half(latency: Nanos) -> Nanos {
    Nanos(latency.0 / 2)
}

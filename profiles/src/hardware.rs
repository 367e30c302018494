//! Devices, links and clusters. A cluster is a graph; routes between ranks are computed once.

#[cfg(test)]
mod tests;

use petgraph::graph::{NodeIndex, UnGraph};
use serde::{Deserialize, Serialize};

use crate::ids::Rank;
use crate::model::DataType;
use crate::units::{Bandwidth, Bytes, Flops, Nanos, Watts};
use crate::{Error, Result, builtin};

/// A figure and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The figure.
    pub value: T,
    /// How it is known.
    pub kind: SourceKind,
    /// The document, table or reason.
    pub source: String,
}

/// How a figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// By a benchmark that ran.
    Measured,
    /// From a datasheet, paper or table.
    Published,
    /// By nobody: a stated guess.
    Assumed,
}

/// One kind of GPU and the links that machines with it have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name of the preset.
    pub name: String,
    /// Memory of one GPU.
    pub memory: Sourced<Bytes>,
    /// Peak bandwidth of that memory.
    pub memory_bandwidth: Sourced<Bandwidth>,
    /// Peak dense 16-bit rate.
    pub flops_bf16: Sourced<Flops>,
    /// Peak dense 8-bit float rate; the 16-bit rate where the device has no 8-bit float units.
    pub flops_fp8: Sourced<Flops>,
    /// Streaming multiprocessors.
    pub multiprocessors: Sourced<u16>,
    /// GPUs in one NVLink (or PCIe) domain as the machine is sold.
    pub domain_size: Sourced<u16>,
    /// Bandwidth of one GPU into its domain, one direction.
    pub domain_bandwidth: Sourced<Bandwidth>,
    /// Latency of one message inside a domain.
    pub domain_latency: Sourced<Nanos>,
    /// Bandwidth of one GPU's network card, one direction.
    pub network_bandwidth: Sourced<Bandwidth>,
    /// Latency of one message between domains.
    pub network_latency: Sourced<Nanos>,
    /// Bandwidth between one GPU and its host's memory, one direction.
    pub host_bandwidth: Sourced<Bandwidth>,
    /// Power of one GPU that an engine holds ready and that computes nothing.
    pub power_idle: Sourced<Watts>,
    /// Power that one GPU is limited to as it is sold.
    pub power_max: Sourced<Watts>,
}

impl Device {
    /// Peak rate for weights stored as `data_type`.
    ///
    /// 4-bit weights are expanded on the way in and computed at the 16-bit rate.
    #[must_use]
    pub fn flops(&self, data_type: DataType) -> Flops {
        match data_type {
            DataType::Fp8 => self.flops_fp8.value,
            DataType::Bf16 | DataType::Mxfp4 | DataType::Int4 => self.flops_bf16.value,
        }
    }

    /// Whether every figure that something is divided by is positive and has a source.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first figure that cannot be right.
    pub fn validate(&self) -> Result<()> {
        let domain_size = u64::from(self.domain_size.value);
        let multiprocessors = u64::from(self.multiprocessors.value);
        let sourced = [
            ("memory", self.memory.value.0, &self.memory.source),
            ("memory_bandwidth", self.memory_bandwidth.value.0, &self.memory_bandwidth.source),
            ("flops_bf16", self.flops_bf16.value.0, &self.flops_bf16.source),
            ("flops_fp8", self.flops_fp8.value.0, &self.flops_fp8.source),
            ("multiprocessors", multiprocessors, &self.multiprocessors.source),
            ("domain_size", domain_size, &self.domain_size.source),
            ("domain_bandwidth", self.domain_bandwidth.value.0, &self.domain_bandwidth.source),
            ("network_bandwidth", self.network_bandwidth.value.0, &self.network_bandwidth.source),
            ("host_bandwidth", self.host_bandwidth.value.0, &self.host_bandwidth.source),
            ("power_idle", self.power_idle.value.0, &self.power_idle.source),
            ("power_max", self.power_max.value.0, &self.power_max.source),
        ];
        for (key, value, source) in sourced {
            if value == 0 {
                return Err(self.invalid(key, "0", "a figure above 0"));
            }
            self.check_source(key, source)?;
        }
        if self.power_idle.value > self.power_max.value {
            let limit = format!("at most power_max, {}", self.power_max.value);
            return Err(self.invalid("power_idle", &self.power_idle.value.to_string(), &limit));
        }
        // A latency of zero is the constant-time network of the baselines.
        self.check_source("domain_latency", &self.domain_latency.source)?;
        self.check_source("network_latency", &self.network_latency.source)
    }

    fn check_source(&self, key: &str, source: &str) -> Result<()> {
        if source.trim().is_empty() {
            return Err(self.invalid(key, "no source", "the document, table or reason"));
        }
        Ok(())
    }

    fn invalid(&self, key: &str, found: &str, expected: &str) -> Error {
        Error::Invalid {
            path: format!("device {}", self.name),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// What a message between two ranks crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkClass {
    /// Nothing: source and destination are one rank.
    Local,
    /// The NVLink or PCIe domain of one node.
    Domain,
    /// The network between nodes.
    Network,
}

impl LinkClass {
    /// All classes, nearest first; also the order of their columns in outputs.
    pub const ALL: [Self; 3] = [Self::Local, Self::Domain, Self::Network];
}

/// A vertex of the cluster graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vertex {
    /// A GPU.
    Gpu(Rank),
    /// The switch that joins the GPUs of node number `.0`.
    DomainSwitch(u16),
    /// The network between nodes.
    NetworkSwitch,
}

/// An edge of the cluster graph: full duplex, bandwidth per direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What kind of link it is.
    pub class: LinkClass,
    /// Bandwidth in each direction.
    pub bandwidth: Bandwidth,
    /// Half of the latency of a message: a route crosses two links.
    pub latency: Nanos,
}

/// A set of equal nodes of one kind of GPU, fully connected.
#[derive(Clone, Debug)]
pub struct Hardware {
    device: Device,
    nodes: u16,
    gpus_per_node: u16,
    graph: UnGraph<Vertex, Link>,
    /// `routes[source * ranks + target]`.
    routes: Vec<LinkClass>,
}

impl Hardware {
    /// Builds `nodes` nodes of `gpus_per_node` GPUs each.
    ///
    /// # Errors
    /// When a figure of the device cannot be right, a count is zero or exceeds the device's domain,
    /// or there are more than 4096 GPUs.
    pub fn new(device: Device, nodes: u16, gpus_per_node: u16) -> Result<Self> {
        device.validate()?;
        let spec = format!("{}:{nodes}x{gpus_per_node}", device.name);
        let invalid = |found: String, expected: String| Error::Invalid {
            path: "cluster".to_owned(),
            key: spec.clone(),
            found,
            expected,
        };
        let ranks = u32::from(nodes) * u32::from(gpus_per_node);
        if ranks == 0 || ranks > 4096 {
            return Err(invalid(format!("{ranks} GPUs"), "between 1 and 4096".to_owned()));
        }
        let domain = device.domain_size.value;
        if gpus_per_node > domain {
            return Err(invalid(
                format!("{gpus_per_node} GPUs in one node"),
                format!("at most {domain}, the domain of {}", device.name),
            ));
        }
        let graph = build_graph(&device, nodes, gpus_per_node);
        let routes = all_routes(&graph, ranks as usize);
        Ok(Self { device, nodes, gpus_per_node, graph, routes })
    }

    /// Reads `PRESET:NODESxGPUS` (or `PRESET:GPUS` for one node), for example `h200-sxm:2x8`.
    ///
    /// # Errors
    /// When the text has another form, the preset is unknown or the counts are out of range.
    pub fn from_spec(spec: &str) -> Result<Self> {
        let form = || Error::Invalid {
            path: "cluster".to_owned(),
            key: spec.to_owned(),
            found: "text of another form".to_owned(),
            expected: "PRESET:NODESxGPUS, for example h200-sxm:1x8".to_owned(),
        };
        let (preset, counts) = spec.split_once(':').ok_or_else(form)?;
        let (nodes, gpus) = counts.split_once('x').unwrap_or(("1", counts));
        let nodes = nodes.parse().map_err(|_| form())?;
        let gpus = gpus.parse().map_err(|_| form())?;
        Self::new(builtin::device(preset)?, nodes, gpus)
    }

    /// The text that [`Self::from_spec`] reads back.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}:{}x{}", self.device.name, self.nodes, self.gpus_per_node)
    }

    /// The kind of GPU.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Nodes.
    #[must_use]
    pub fn nodes(&self) -> u16 {
        self.nodes
    }

    /// All GPUs.
    #[must_use]
    pub fn ranks(&self) -> u16 {
        self.nodes * self.gpus_per_node
    }

    /// GPUs of every node.
    #[must_use]
    pub fn gpus_per_node(&self) -> u16 {
        self.gpus_per_node
    }

    /// The node of `rank`: ranks are numbered node by node.
    #[must_use]
    pub fn node_of(&self, rank: Rank) -> u16 {
        rank.0 / self.gpus_per_node
    }

    /// What a message from `source` to `target` crosses.
    #[must_use]
    pub fn route(&self, source: Rank, target: Rank) -> LinkClass {
        self.routes[source.index() * usize::from(self.ranks()) + target.index()]
    }

    /// The graph of GPUs, switches and links.
    #[must_use]
    pub fn graph(&self) -> &UnGraph<Vertex, Link> {
        &self.graph
    }

    /// Bandwidth of one rank into links of `class`, one direction; `None` for local copies.
    #[must_use]
    pub fn bandwidth(&self, class: LinkClass) -> Option<Bandwidth> {
        match class {
            LinkClass::Local => None,
            LinkClass::Domain => Some(self.device.domain_bandwidth.value),
            LinkClass::Network => Some(self.device.network_bandwidth.value),
        }
    }

    /// Latency of one message over links of `class`.
    #[must_use]
    pub fn latency(&self, class: LinkClass) -> Nanos {
        match class {
            LinkClass::Local => Nanos(0),
            LinkClass::Domain => self.device.domain_latency.value,
            LinkClass::Network => self.device.network_latency.value,
        }
    }
}

fn build_graph(device: &Device, nodes: u16, gpus_per_node: u16) -> UnGraph<Vertex, Link> {
    let mut graph = UnGraph::new_undirected();
    let domain = Link {
        class: LinkClass::Domain,
        bandwidth: device.domain_bandwidth.value,
        latency: Nanos(device.domain_latency.value.0 / 2),
    };
    let network = Link {
        class: LinkClass::Network,
        bandwidth: device.network_bandwidth.value,
        latency: Nanos(device.network_latency.value.0 / 2),
    };
    let ranks = nodes * gpus_per_node;
    let gpus: Vec<NodeIndex> =
        (0..ranks).map(|rank| graph.add_node(Vertex::Gpu(Rank(rank)))).collect();
    let fabric = (nodes > 1).then(|| graph.add_node(Vertex::NetworkSwitch));
    for node in 0..nodes {
        let switch = graph.add_node(Vertex::DomainSwitch(node));
        for local in 0..gpus_per_node {
            let gpu = gpus[usize::from(node * gpus_per_node + local)];
            graph.add_edge(gpu, switch, domain);
            if let Some(fabric) = fabric {
                graph.add_edge(gpu, fabric, network);
            }
        }
    }
    graph
}

/// The class of the best route between each pair of ranks: a common domain switch before the
/// network, so a route never crosses more than two links.
fn all_routes(graph: &UnGraph<Vertex, Link>, ranks: usize) -> Vec<LinkClass> {
    let mut routes = vec![LinkClass::Network; ranks * ranks];
    for rank in 0..ranks {
        let gpu = NodeIndex::new(rank);
        for switch in graph.neighbors(gpu) {
            if let Vertex::DomainSwitch(_) = graph[switch] {
                for peer in graph.neighbors(switch) {
                    routes[rank * ranks + peer.index()] = LinkClass::Domain;
                }
            }
        }
        routes[rank * ranks + rank] = LinkClass::Local;
    }
    routes
}

//! Devices, links and clusters: what machines are made of, and what a message crosses.

pub mod cluster;
pub mod fabric;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::Rank;
use crate::model::DataType;
use crate::registry::{Named as _, unknown};
use crate::units::{Bandwidth, Bytes, Flops, Nanos, Watts};
use crate::{Error, Result, builtin};

use cluster::Cluster;
use fabric::Fabric;

/// More GPUs than this are no one machine.
const GPUS_MAX: u16 = 4096;
/// A longer file is no cluster.
const FILE_BYTES_MAX: u64 = 1 << 20;

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

/// A set of equal nodes of one kind of GPU.
#[derive(Clone, Debug)]
pub struct Hardware {
    cluster: Arc<Cluster>,
    fabric: Arc<Fabric>,
    nodes: u16,
    gpus_per_node: u16,
}

impl Hardware {
    /// Builds `nodes` nodes of `gpus_per_node` GPUs each, with the links of the device's preset.
    ///
    /// # Errors
    /// When a figure of the device cannot be right, a count is zero or exceeds the device's domain,
    /// or there are more than 4096 GPUs.
    pub fn new(device: Device, nodes: u16, gpus_per_node: u16) -> Result<Self> {
        device.validate()?;
        let spec = format!("{}:{nodes}x{gpus_per_node}", device.name);
        let domain = device.domain_size.value;
        check_counts(&spec, nodes, gpus_per_node)?;
        if gpus_per_node > domain {
            let expected = format!("at most {domain}, the domain of {}", device.name);
            return Err(wrong_spec(&spec, format!("{gpus_per_node} GPUs in one node"), expected));
        }
        let cluster = Cluster::plain(device, nodes, gpus_per_node);
        Self::of_cluster(cluster, nodes, gpus_per_node)
    }

    /// Builds `nodes` nodes like those of `cluster`, of which the first `gpus_per_node` GPUs work.
    ///
    /// # Errors
    /// When a count is zero or exceeds the GPUs of a node, or there are more than 4096 GPUs.
    pub fn of_cluster(cluster: Cluster, nodes: u16, gpus_per_node: u16) -> Result<Self> {
        let spec = format!("{}:{nodes}x{gpus_per_node}", cluster.name);
        check_counts(&spec, nodes, gpus_per_node)?;
        let most = cluster.gpus_per_node;
        if gpus_per_node > most {
            let expected = format!("at most {most}, the GPUs of a node of {}", cluster.name);
            return Err(wrong_spec(&spec, format!("{gpus_per_node} GPUs in one node"), expected));
        }
        let fabric = Arc::new(Fabric::new(&cluster, nodes, gpus_per_node));
        Ok(Self { cluster: Arc::new(cluster), fabric, nodes, gpus_per_node })
    }

    /// Reads a kind of GPU with counts, `DEVICE:NODESxGPUS` (or `DEVICE:GPUS` for one node), for
    /// example `h200-sxm:2x8`; or a cluster by name or by the path of its file (`*.toml`), as it
    /// is described there (`hgx-h100`), with other nodes (`hgx-h100:12`), or with nodes of which
    /// only some GPUs work (`hgx-h100:12x4`).
    ///
    /// # Errors
    /// When the text has another form, the name is unknown, the file cannot be read or is wrong, or
    /// the counts are out of range.
    pub fn from_spec(spec: &str) -> Result<Self> {
        let (name, counts) = name_and_counts(spec);
        let cluster = match Self::file_of(spec) {
            Some(path) => Some(read_cluster(path)?),
            None => builtin::cluster(name)?,
        };
        if let Some(cluster) = cluster {
            let (nodes, gpus) = match counts {
                None => (Some(cluster.nodes), Some(cluster.gpus_per_node)),
                Some(counts) => match counts.split_once('x') {
                    None => (counts.parse().ok(), Some(cluster.gpus_per_node)),
                    Some((nodes, gpus)) => (nodes.parse().ok(), gpus.parse().ok()),
                },
            };
            let (Some(nodes), Some(gpus)) = (nodes, gpus) else {
                let expected = "CLUSTER, CLUSTER:NODES or CLUSTER:NODESxGPUS, such as hgx-h100:12";
                let found = "text of another form".to_owned();
                return Err(wrong_spec(spec, found, expected.to_owned()));
            };
            return Self::of_cluster(cluster, nodes, gpus);
        }
        let form = || {
            let expected = "PRESET:NODESxGPUS, for example h200-sxm:1x8";
            wrong_spec(spec, "text of another form".to_owned(), expected.to_owned())
        };
        known(name)?;
        let (nodes, gpus) = counts
            .map(|counts| counts.split_once('x').unwrap_or(("1", counts)))
            .ok_or_else(form)?;
        let nodes = nodes.parse().map_err(|_| form())?;
        let gpus = gpus.parse().map_err(|_| form())?;
        Self::new(builtin::device(name)?, nodes, gpus)
    }

    /// The file of a cluster that `spec` names, if it names one; counts may follow it.
    #[must_use]
    pub fn file_of(spec: &str) -> Option<&str> {
        Some(name_and_counts(spec).0).filter(|name| is_path(name))
    }

    /// The text that [`Self::from_spec`] reads back.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}:{}x{}", self.cluster.name, self.nodes, self.gpus_per_node)
    }

    /// [`Self::spec`] for people: of a file the name alone, wherever it is seen from.
    #[must_use]
    pub fn label(&self) -> String {
        let spec = self.spec();
        spec.rsplit('/').next().unwrap_or(&spec).to_owned()
    }

    /// How the machine is described.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Every link, and what a message crosses.
    #[must_use]
    pub fn fabric(&self) -> &Arc<Fabric> {
        &self.fabric
    }

    /// The kind of GPU.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.cluster.device
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
        if source == target {
            LinkClass::Local
        } else if self.node_of(source) == self.node_of(target) {
            LinkClass::Domain
        } else {
            LinkClass::Network
        }
    }

    /// Bandwidth of one rank into links of `class`, one direction; `None` for local copies.
    #[must_use]
    pub fn bandwidth(&self, class: LinkClass) -> Option<Bandwidth> {
        match class {
            LinkClass::Local => None,
            LinkClass::Domain => Some(self.device().domain_bandwidth.value),
            LinkClass::Network => Some(self.device().network_bandwidth.value),
        }
    }

    /// Latency of one message over links of `class`.
    #[must_use]
    pub fn latency(&self, class: LinkClass) -> Nanos {
        match class {
            LinkClass::Local => Nanos(0),
            LinkClass::Domain => self.device().domain_latency.value,
            LinkClass::Network => self.device().network_latency.value,
        }
    }
}

fn check_counts(spec: &str, nodes: u16, gpus_per_node: u16) -> Result<()> {
    let ranks = u32::from(nodes) * u32::from(gpus_per_node);
    if ranks == 0 || ranks > u32::from(GPUS_MAX) {
        let expected = format!("between 1 and {GPUS_MAX}");
        return Err(wrong_spec(spec, format!("{ranks} GPUs"), expected));
    }
    Ok(())
}

fn wrong_spec(spec: &str, found: String, expected: String) -> Error {
    Error::Invalid { path: "cluster".to_owned(), key: spec.to_owned(), found, expected }
}

/// Whether `name` is a kind of GPU; else the nearest name, of a cluster too.
fn known(name: &str) -> Result<()> {
    if builtin::HARDWARE.iter().any(|preset| preset.name == name) {
        return Ok(());
    }
    let presets = builtin::HARDWARE.iter().chain(builtin::CLUSTERS);
    Err(unknown("hardware", name, &presets.map(|preset| preset.name()).collect::<Vec<_>>()).into())
}

fn name_and_counts(spec: &str) -> (&str, Option<&str>) {
    match spec.rsplit_once(':') {
        Some((name, counts)) if !is_path(counts) => (name, Some(counts)),
        _ => (spec, None),
    }
}

/// Whether a machine's name is that of a file.
fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

fn read_cluster(path: &str) -> Result<Cluster> {
    let error = |source| Error::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(Path::new(path)).map_err(error)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Error::Invalid {
            path: path.to_owned(),
            key: "file".to_owned(),
            found: format!("{length} bytes"),
            expected: format!("at most {FILE_BYTES_MAX}, for a cluster is a small file"),
        });
    }
    let text = std::fs::read_to_string(path).map_err(error)?;
    Cluster::read(&text, path, path)
}

//! Machines in files: a kind of GPU, how GPUs of a node reach each other, their network, their
//! hosts.
//!
//! A node is what one NVLink or PCIe domain holds, also where that is a rack of many hosts. Every
//! figure is a quantity alone, which is then assumed, or a table with `value`, `kind` and `source`.

mod file;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Device, SourceKind, Sourced};
use crate::units::{Bandwidth, Nanos};

/// A machine as its file describes it, with every figure that it leaves out filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Name of the preset or file, as [`super::Hardware::from_spec`] reads it.
    pub name: String,
    /// One line.
    pub about: String,
    /// The kind of GPU, with the bandwidths and latencies of this machine.
    pub device: Device,
    /// Nodes.
    pub nodes: u16,
    /// GPUs of a node.
    pub gpus_per_node: u16,
    /// What joins the GPUs of a node.
    pub domain: Domain,
    /// What joins nodes.
    pub network: Network,
    /// Processors and memory that GPUs are attached to; the device's host link alone where absent.
    pub host: Option<Host>,
}

/// What joins the GPUs of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    #[default]
    /// NVLink switches: a port of each GPU, and nothing behind it that can be crowded.
    Nvlink,
    /// The PCIe tree of the host.
    Pcie,
}

/// How the switches between nodes are arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    #[default]
    /// One switch that is never crowded.
    Ideal,
    /// A leaf joins network cards of one place in their nodes; spines join all leaves.
    Rails,
    /// A leaf joins all network cards of some nodes; spines join all leaves.
    LeafSpine,
}

/// The network between nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Its arrangement.
    pub kind: NetworkKind,
    /// Network cards of a node; GPUs share them, or have several that work as one.
    pub cards_per_node: u16,
    /// Bandwidth of one card, one direction.
    pub card_bandwidth: Sourced<Bandwidth>,
    /// Network cards under one leaf.
    pub leaf_ports: u16,
    /// Bandwidth of a leaf's cards over that of its uplinks: 1 where nothing is crowded.
    pub oversubscription: Sourced<f64>,
    /// What a message over a spine takes longer than one under a leaf.
    pub spine_latency: Sourced<Nanos>,
}

/// How a GPU is attached to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostLink {
    /// PCI Express.
    Pcie,
    /// NVLink-C2C to the processor beside it.
    C2c,
}

/// The hosts of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Host {
    /// How GPUs are attached.
    pub link: HostLink,
    /// Processors of a node; each serves equally many GPUs in a row.
    pub sockets: u16,
    /// GPUs under one PCIe switch; 0 where they are attached to the processor itself.
    pub gpus_per_switch: u16,
    /// Between a PCIe switch and its processor, one direction.
    pub switch_bandwidth: Sourced<Bandwidth>,
    /// Between one processor and the others of its node, one direction; GPUs of a PCIe domain on
    /// several processors meet there.
    pub socket_bandwidth: Option<Sourced<Bandwidth>>,
    /// Of the memory of one processor.
    pub memory_bandwidth: Sourced<Bandwidth>,
    /// Whether GPUs of a PCIe domain reach each other; through their hosts' memory where not.
    pub peer_to_peer: bool,
}

impl Cluster {
    /// Nodes of `device` with the links of its preset: a port into the domain and a network card
    /// for each GPU, and between nodes a network that is never crowded.
    #[must_use]
    pub fn plain(device: Device, nodes: u16, gpus_per_node: u16) -> Self {
        let source = "a network that is never crowded".to_owned();
        let kind = SourceKind::Assumed;
        let network = Network {
            kind: NetworkKind::Ideal,
            cards_per_node: gpus_per_node,
            card_bandwidth: device.network_bandwidth.clone(),
            leaf_ports: u16::MAX,
            oversubscription: Sourced { value: 1.0, kind, source: source.clone() },
            spine_latency: Sourced { value: Nanos(0), kind, source },
        };
        let (name, about) = (device.name.clone(), String::new());
        let domain = Domain::Nvlink;
        Self { name, about, device, nodes, gpus_per_node, domain, network, host: None }
    }

    /// Whether its links are those of [`Self::plain`].
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.network.kind == NetworkKind::Ideal
            && self.host.is_none()
            && self.network.cards_per_node == self.gpus_per_node
    }

    /// The network card, or several that act as one, of the GPU at `place` in its node.
    #[must_use]
    pub fn card(&self, place: u16) -> u16 {
        let (cards, gpus) = (u32::from(self.cards()), u32::from(self.gpus_per_node));
        (u32::from(place) * cards / gpus) as u16
    }

    /// Network cards of a node; those that act as one count once.
    #[must_use]
    pub fn cards(&self) -> u16 {
        self.network.cards_per_node.min(self.gpus_per_node)
    }

    /// Nodes whose cards of one place, or all cards, share a leaf.
    #[must_use]
    pub fn nodes_per_leaf(&self) -> u16 {
        match self.network.kind {
            NetworkKind::Ideal => u16::MAX,
            NetworkKind::Rails => self.network.leaf_ports,
            NetworkKind::LeafSpine => self.network.leaf_ports / self.network.cards_per_node,
        }
    }
}

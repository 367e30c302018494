//! The file: as typed, then checked.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::{Cluster, Domain, Host, HostLink, Network, NetworkKind};
use crate::hardware::{Device, GPUS_MAX, SourceKind, Sourced};
use crate::registry::nearest;
use crate::units::{Bandwidth, Nanos};
use crate::{Error, Result, builtin};

/// A quantity alone, or one with its source.
#[derive(Clone)]
struct Figure<T>(T, Option<(SourceKind, String)>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Figure<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let wrong = |error: toml::de::Error| D::Error::custom(error.message());
        if value.is_table() {
            let Sourced { value, kind, source } = value.try_into().map_err(wrong)?;
            return Ok(Self(value, Some((kind, source))));
        }
        Ok(Self(value.try_into().map_err(wrong)?, None))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    #[serde(default)]
    about: String,
    device: String,
    #[serde(default = "one")]
    nodes: u16,
    gpus_per_node: u16,
    #[serde(default)]
    domain: DomainFile,
    #[serde(default)]
    network: NetworkFile,
    host: Option<HostFile>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainFile {
    #[serde(default)]
    kind: Domain,
    bandwidth: Option<Figure<Bandwidth>>,
    latency: Option<Figure<Nanos>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    #[serde(default)]
    kind: NetworkKind,
    cards_per_node: Option<u16>,
    card_bandwidth: Option<Figure<Bandwidth>>,
    latency: Option<Figure<Nanos>>,
    leaf_ports: Option<u16>,
    oversubscription: Option<Figure<f64>>,
    spine_latency: Option<Figure<Nanos>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    link: HostLink,
    #[serde(default = "one")]
    sockets: u16,
    #[serde(default)]
    gpus_per_switch: u16,
    gpu_bandwidth: Option<Figure<Bandwidth>>,
    switch_bandwidth: Option<Figure<Bandwidth>>,
    socket_bandwidth: Option<Figure<Bandwidth>>,
    memory_bandwidth: Figure<Bandwidth>,
    #[serde(default = "yes")]
    peer_to_peer: bool,
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// Where errors are, and what a quantity without a source rests on.
struct File<'a> {
    path: &'a str,
}

impl Cluster {
    /// Reads the `text` of a file that errors call `path` and specs `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which key is wrong and what would be right.
    pub fn read(text: &str, path: &str, name: &str) -> Result<Self> {
        let place = File { path };
        let file: ClusterFile = toml::from_str(text).map_err(|error| place.unread(text, &error))?;
        let mut device = builtin::device(&file.device)
            .map_err(|error| place.error("device", error, "a kind of GPU"))?;
        place.count("nodes", file.nodes, GPUS_MAX)?;
        place.count("gpus_per_node", file.gpus_per_node, GPUS_MAX)?;
        device.domain_size.value = file.gpus_per_node;
        device.domain_size.source = format!("{path}: gpus_per_node");
        place.replace("domain.bandwidth", &mut device.domain_bandwidth, &file.domain.bandwidth)?;
        place.replace("domain.latency", &mut device.domain_latency, &file.domain.latency)?;
        let card = &file.network.card_bandwidth;
        place.replace("network.card_bandwidth", &mut device.network_bandwidth, card)?;
        place.replace("network.latency", &mut device.network_latency, &file.network.latency)?;
        let gpus = file.gpus_per_node;
        let host = match &file.host {
            Some(host) => Some(place.host(host, &mut device, gpus)?),
            None => None,
        };
        place.domain(&file.domain, host.as_ref(), &mut device)?;
        let network = place.network(&file.network, &device, gpus)?;
        // A GPU with several cards has a port as wide as all of them.
        let several = u64::from((network.cards_per_node / gpus).max(1));
        device.network_bandwidth.value.0 = network.card_bandwidth.value.0.saturating_mul(several);
        device.validate()?;
        Ok(Self {
            name: name.to_owned(),
            about: file.about,
            device,
            nodes: file.nodes,
            gpus_per_node: gpus,
            domain: file.domain.kind,
            network,
            host,
        })
    }
}

impl File<'_> {
    fn error(&self, key: &str, found: impl ToString, expected: &str) -> Error {
        Error::Invalid {
            path: self.path.to_owned(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    /// What the parser did not like; a wrong key or value is answered with the nearest right one.
    fn unread(&self, text: &str, error: &toml::de::Error) -> Error {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let key = format!("line {line}");
        for (beginning, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
            let Some(rest) = message.strip_prefix(beginning) else { continue };
            let words: Vec<&str> = rest.split('`').step_by(2).collect();
            let [found, valid @ ..] = words.as_slice() else { continue };
            let hint = nearest(found, valid).map_or(String::new(), |near| format!("`{near}`: "));
            let expected = format!("{hint}{what}s are {}", valid.join(", "));
            return self.error(&key, format!("{what} `{found}`"), &expected);
        }
        self.error(&key, message.replace("u16", "a number up to 65535"), "a valid cluster file")
    }

    fn count(&self, key: &str, found: u16, most: u16) -> Result<()> {
        if found == 0 || found > most {
            return Err(self.error(key, found, &format!("between 1 and {most}")));
        }
        Ok(())
    }

    fn sourced<T: Clone>(&self, key: &str, figure: &Figure<T>) -> Result<Sourced<T>> {
        let assumed = || (SourceKind::Assumed, format!("{}, which names no source", self.path));
        let (kind, source) = figure.1.clone().unwrap_or_else(assumed);
        if source.trim().is_empty() {
            return Err(self.error(key, "no source", "the document, table or reason"));
        }
        Ok(Sourced { value: figure.0.clone(), kind, source })
    }

    fn replace<T: Clone>(
        &self,
        key: &str,
        own: &mut Sourced<T>,
        figure: &Option<Figure<T>>,
    ) -> Result<()> {
        if let Some(figure) = figure {
            *own = self.sourced(key, figure)?;
        }
        Ok(())
    }

    fn bandwidth(&self, key: &str, figure: &Figure<Bandwidth>) -> Result<Sourced<Bandwidth>> {
        if figure.0 == Bandwidth(0) {
            return Err(self.error(key, "0", "a bandwidth above 0"));
        }
        self.sourced(key, figure)
    }

    fn domain(&self, file: &DomainFile, host: Option<&Host>, device: &mut Device) -> Result<()> {
        if file.kind == Domain::Nvlink {
            return Ok(());
        }
        let Some(host) = host.filter(|host| host.link == HostLink::Pcie) else {
            return Err(self.error("host", "no PCIe", "a [host] whose link is pcie"));
        };
        if host.sockets > 1 && host.socket_bandwidth.is_none() {
            let expected = "the bandwidth between one processor and the others of its node";
            return Err(self.error("host.socket_bandwidth", "nothing", expected));
        }
        if file.bandwidth.is_some() {
            let expected = "host.gpu_bandwidth, for that is the port of a PCIe domain";
            return Err(self.error("domain.bandwidth", "a bandwidth", expected));
        }
        device.domain_bandwidth = device.host_bandwidth.clone();
        Ok(())
    }

    fn host(&self, file: &HostFile, device: &mut Device, gpus: u16) -> Result<Host> {
        self.count("host.sockets", file.sockets, gpus)?;
        let each = gpus / file.sockets;
        if !gpus.is_multiple_of(file.sockets) {
            let expected = format!("a divisor of the {gpus} GPUs of a node");
            return Err(self.error("host.sockets", file.sockets, &expected));
        }
        let switch = file.gpus_per_switch;
        if switch > 0 && !each.is_multiple_of(switch) {
            let expected = format!("0, or a divisor of the {each} GPUs of a socket");
            return Err(self.error("host.gpus_per_switch", switch, &expected));
        }
        self.replace("host.gpu_bandwidth", &mut device.host_bandwidth, &file.gpu_bandwidth)?;
        let or_gpu = |key, figure: &Option<Figure<Bandwidth>>| match figure {
            Some(figure) => self.bandwidth(key, figure),
            None => Ok(device.host_bandwidth.clone()),
        };
        let key = "host.socket_bandwidth";
        let socket_bandwidth = file.socket_bandwidth.as_ref();
        Ok(Host {
            link: file.link,
            sockets: file.sockets,
            gpus_per_switch: switch,
            switch_bandwidth: or_gpu("host.switch_bandwidth", &file.switch_bandwidth)?,
            socket_bandwidth: socket_bandwidth.map(|own| self.bandwidth(key, own)).transpose()?,
            memory_bandwidth: self.bandwidth("host.memory_bandwidth", &file.memory_bandwidth)?,
            peer_to_peer: file.peer_to_peer,
        })
    }

    fn network(&self, file: &NetworkFile, device: &Device, gpus: u16) -> Result<Network> {
        let cards_per_node = file.cards_per_node.unwrap_or(gpus);
        self.count("network.cards_per_node", cards_per_node, GPUS_MAX)?;
        if !gpus.is_multiple_of(cards_per_node) && !cards_per_node.is_multiple_of(gpus) {
            let expected = format!("a divisor or a multiple of the {gpus} GPUs of a node");
            return Err(self.error("network.cards_per_node", cards_per_node, &expected));
        }
        let mut plain = Cluster::plain(device.clone(), 1, gpus).network;
        let key = "network.oversubscription";
        self.replace(key, &mut plain.oversubscription, &file.oversubscription)?;
        let ratio = plain.oversubscription.value;
        if !(0.01..=1000.0).contains(&ratio) {
            return Err(self.error(key, ratio, "between 0.01 and 1000, for example 2.0"));
        }
        self.replace("network.spine_latency", &mut plain.spine_latency, &file.spine_latency)?;
        let leaf_ports = file.leaf_ports.unwrap_or(u16::MAX);
        let needed = if file.kind == NetworkKind::LeafSpine { cards_per_node } else { 1 };
        if leaf_ports < needed {
            let expected = format!("at least {needed}, for a leaf has the cards of whole nodes");
            return Err(self.error("network.leaf_ports", leaf_ports, &expected));
        }
        Ok(Network { kind: file.kind, cards_per_node, leaf_ports, ..plain })
    }
}

//! `moecast profile show CLUSTER`: a machine and its links.

use anyhow::Result;
use moecast_profiles::builtin;
use moecast_profiles::hardware::cluster::{Cluster, Domain, HostLink, NetworkKind};
use moecast_profiles::hardware::fabric::Fabric;
use moecast_profiles::hardware::{Hardware, SourceKind, Sourced};
use serde_json::{Value, json};

use crate::facts;
use crate::output::{Output, Table};

/// Whether `name` means a machine rather than a profile.
pub(super) fn is_meant(name: &str) -> bool {
    let first = name.split(':').next().unwrap_or(name);
    let file = Hardware::file_of(name).is_some_and(|path| path.ends_with(".toml"));
    let presets = builtin::CLUSTERS.iter().chain(builtin::HARDWARE);
    file || presets.map(|preset| preset.name).any(|preset| preset == first)
}

pub(super) fn show(spec: &str, output: &Output) -> Result<()> {
    let hardware = Hardware::from_spec(spec)?;
    let rows = rows(hardware.fabric());
    if output.wants_json() {
        output.json(&facts(&hardware, &rows))?;
        return Ok(());
    }
    for line in tree(&hardware) {
        output.line(&line)?;
    }
    output.line("")?;
    let mut table = Table::new(&["link", "links", "bandwidth", "latency", "GPUs that share one"]);
    for row in &rows {
        table.row([
            format!("{} - {}", row.ends.0, row.ends.1),
            row.links.to_string(),
            row.bandwidth.to_string(),
            row.latency.to_string(),
            row.sharers.to_string(),
        ]);
    }
    output.table(&table)?;
    output.note("\nbandwidths are those of one direction; every link has both")?;
    output.details(details(hardware.cluster()))?;
    output.details(facts::hardware_details(&hardware))
}

/// Equal links.
struct Row {
    ends: (&'static str, &'static str),
    kind: Value,
    class: Value,
    links: u32,
    bandwidth: moecast_profiles::units::Bandwidth,
    latency: moecast_profiles::units::Nanos,
    sharers: u16,
}

/// Links in the order in which they were built, equal ones once; the way back is like the way
/// there and has the next number.
fn rows(fabric: &Fabric) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let there = (0_u32..).zip(fabric.links()).zip(fabric.sharers()).step_by(2);
    for ((number, link), sharers) in there {
        let (from, to) = fabric.ends(number);
        let ends = (from.name(), to.name());
        let key = (ends, link.bandwidth, link.latency, sharers);
        let known = |row: &&mut Row| (row.ends, row.bandwidth, row.latency, row.sharers) == key;
        if let Some(row) = rows.iter_mut().find(known) {
            row.links += 1;
            continue;
        }
        let (kind, class) = (json!(link.kind), json!(link.class));
        let (bandwidth, latency) = (link.bandwidth, link.latency);
        rows.push(Row { ends, kind, class, links: 1, bandwidth, latency, sharers });
    }
    rows
}

fn facts(hardware: &Hardware, rows: &[Row]) -> Value {
    let links: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "between": [row.ends.0, row.ends.1],
                "kind": row.kind,
                "class": row.class,
                "links": row.links,
                "bandwidth": row.bandwidth,
                "latency": row.latency,
                "gpus_per_link": row.sharers,
            })
        })
        .collect();
    json!({
        "spec": hardware.spec(),
        "nodes": hardware.nodes(),
        "gpus_per_node": hardware.gpus_per_node(),
        "cluster": hardware.cluster(),
        "links": links,
        "bisection": hardware.fabric().bisection(),
    })
}

/// The machine from the outside in; equal parts once, with their number.
fn tree(hardware: &Hardware) -> Vec<String> {
    let cluster = hardware.cluster();
    let gpus = hardware.gpus_per_node();
    let mut lines = vec![format!(
        "{}: {} x {}, {} each",
        hardware.spec(),
        hardware.ranks(),
        cluster.device.name,
        cluster.device.memory.value
    )];
    if !cluster.about.is_empty() {
        lines.push(cluster.about.clone());
    }
    if let Some(bisection) = hardware.fabric().bisection() {
        let each =
            moecast_profiles::units::Bandwidth(bisection.0 * 2 / u64::from(hardware.ranks()));
        lines.push(format!("bisection {bisection}, {each} for every GPU of a half"));
    }
    lines.push(String::new());
    let nodes = hardware.nodes();
    let above = if nodes > 1 { network(cluster, nodes) } else { Vec::new() };
    for (depth, text) in above.iter().chain([&format!("{nodes} x node")]).enumerate() {
        let branch = if depth > 0 { "└─ " } else { "" };
        lines.push(format!("{}{branch}{text}", "   ".repeat(depth.saturating_sub(1))));
    }
    let indent = "   ".repeat(above.len());
    let mut parts = vec![domain(cluster, gpus)];
    parts.extend(cluster.host.as_ref().map(|_| host(cluster)));
    if cluster.host.is_none() {
        let device = &cluster.device;
        let memory = format!("host memory, {} for each GPU alone", device.host_bandwidth.value);
        parts.push(vec![memory]);
    }
    parts.push(vec![cards(cluster, nodes)]);
    let last = parts.len() - 1;
    for (index, part) in parts.into_iter().enumerate() {
        for (line, text) in part.into_iter().enumerate() {
            let mark = match (line, index == last) {
                (0, true) => "└─ ",
                (0, false) => "├─ ",
                (_, true) => "   ",
                (_, false) => "│  ",
            };
            lines.push(format!("{indent}{mark}{text}"));
        }
    }
    lines
}

/// What is above a node, from the top.
fn network(cluster: &Cluster, nodes: u16) -> Vec<String> {
    let network = &cluster.network;
    let per_leaf = cluster.nodes_per_leaf();
    let groups = nodes.div_ceil(per_leaf);
    let (leaves, below) = match network.kind {
        NetworkKind::Ideal => return vec!["network that is never crowded".to_owned()],
        NetworkKind::Rails => (groups * cluster.cards(), "cards of one place"),
        NetworkKind::LeafSpine => (groups, "all cards"),
    };
    let leaf = format!("{leaves} x leaf: {below} of {} nodes", per_leaf.min(nodes));
    if leaves == 1 {
        return vec![leaf];
    }
    let ratio = network.oversubscription.value;
    let latency = network.spine_latency.value;
    vec![format!("spines, {ratio}:1 oversubscribed, {latency} more than under one leaf"), leaf]
}

fn domain(cluster: &Cluster, gpus: u16) -> Vec<String> {
    let device = &cluster.device;
    let (bandwidth, latency) = (device.domain_bandwidth.value, device.domain_latency.value);
    let through = match (cluster.domain, &cluster.host) {
        (Domain::Nvlink, _) => "through NVLink switches",
        (Domain::Pcie, Some(host)) if !host.peer_to_peer => "through their hosts' memory",
        (Domain::Pcie, _) => "through their PCIe tree",
    };
    vec![format!("{gpus} x GPU, {bandwidth} each {through}, {latency}")]
}

fn host(cluster: &Cluster) -> Vec<String> {
    let Some(host) = &cluster.host else { return Vec::new() };
    let each = cluster.gpus_per_node / host.sockets;
    let between = match &host.socket_bandwidth {
        Some(between) if host.sockets > 1 => format!(", {} to the others", between.value),
        _ => String::new(),
    };
    let memory = host.memory_bandwidth.value;
    let mut lines = vec![format!("{} x socket, memory {memory}{between}", host.sockets)];
    let link = match host.link {
        HostLink::C2c => "NVLink-C2C",
        HostLink::Pcie => "PCIe",
    };
    let gpu = format!("GPU, {} over {link}", cluster.device.host_bandwidth.value);
    if host.gpus_per_switch == 0 {
        lines.push(format!("└─ {each} x {gpu}"));
        return lines;
    }
    let (switches, up) = (each / host.gpus_per_switch, host.switch_bandwidth.value);
    lines.push(format!("└─ {switches} x PCIe switch, {up} to its socket"));
    lines.push(format!("   └─ {} x {gpu}", host.gpus_per_switch));
    lines
}

fn cards(cluster: &Cluster, nodes: u16) -> String {
    let (network, gpus) = (&cluster.network, cluster.gpus_per_node);
    let latency = cluster.device.network_latency.value;
    let cards = network.cards_per_node;
    let whose = match (gpus / cards.min(gpus), cards / gpus) {
        (1, 0 | 1) => "one for each GPU".to_owned(),
        (1, several) => format!("{several} for each GPU, which act as one"),
        (shared, _) => format!("one for {shared} GPUs"),
    };
    let idle = if nodes > 1 { "" } else { "; idle in one node" };
    format!("{cards} x network card, {}, {whose}, {latency}{idle}", network.card_bandwidth.value)
}

/// Figures of the machine that are not its device's, with their sources.
fn details(cluster: &Cluster) -> Vec<String> {
    fn line<T: std::fmt::Display>(what: &str, figure: &Sourced<T>) -> String {
        let kind = match figure.kind {
            SourceKind::Measured => "measured",
            SourceKind::Published => "published",
            SourceKind::Assumed => "assumed",
        };
        format!("  {what}: {} ({kind}: {})", figure.value, figure.source)
    }
    let network = &cluster.network;
    let mut lines = vec![format!("{}:", cluster.name)];
    lines.push(line("network card, one direction", &network.card_bandwidth));
    lines.push(line("oversubscription", &network.oversubscription));
    lines.push(line("latency of a spine", &network.spine_latency));
    if let Some(host) = &cluster.host {
        lines.push(line("memory of a socket", &host.memory_bandwidth));
        if host.gpus_per_switch > 0 {
            lines.push(line("PCIe switch to its socket", &host.switch_bandwidth));
        }
        lines.extend(host.socket_bandwidth.as_ref().map(|own| line("between sockets", own)));
    }
    lines
}

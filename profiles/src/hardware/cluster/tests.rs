use super::*;
use crate::builtin::CLUSTERS;
use crate::hardware::{Hardware, SourceKind};
use crate::registry::Named as _;

const SMALL: &str = "device = \"h100-sxm\"\ngpus_per_node = 8\n";

fn read(text: &str) -> crate::Result<Cluster> {
    Cluster::read(text, "my.toml", "my.toml")
}

fn answer(text: &str) -> String {
    let answer = read(text).unwrap_err().to_string();
    assert!(!answer.contains('\n'), "{answer}");
    answer
}

#[test]
fn every_shipped_cluster_is_read_by_its_name_and_counts() {
    for preset in CLUSTERS {
        let name = preset.name();
        let one = Hardware::from_spec(name).unwrap();
        assert_eq!(one.nodes(), 1, "{name}");
        assert!(!one.cluster().about.is_empty());
        let many = Hardware::from_spec(&format!("{name}:12")).unwrap();
        assert_eq!((many.nodes(), many.gpus_per_node()), (12, one.gpus_per_node()));
        let few = Hardware::from_spec(&format!("{name}:3x2")).unwrap();
        assert_eq!((few.ranks(), few.spec()), (6, format!("{name}:3x2")));
        assert_eq!(Hardware::from_spec(&few.spec()).unwrap().spec(), few.spec());
    }
}

#[test]
fn what_a_file_leaves_out_is_as_the_device_has_it() {
    let cluster = read(SMALL).unwrap();
    let device = crate::builtin::device("h100-sxm").unwrap();
    assert_eq!(cluster.device.domain_bandwidth, device.domain_bandwidth);
    assert_eq!(cluster.network.card_bandwidth, device.network_bandwidth);
    assert!(cluster.is_plain());
}

#[test]
fn a_figure_is_a_quantity_or_has_a_source() {
    let text = format!("{SMALL}[network]\ncard_bandwidth = \"200 Gbit/s\"\ncards_per_node = 16\n");
    let cluster = read(&text).unwrap();
    let card = &cluster.network.card_bandwidth;
    assert_eq!((card.value, card.kind), (Bandwidth(25_000_000_000), SourceKind::Assumed));
    assert_eq!(card.source, "my.toml, which names no source");
    // Two cards of a GPU are a port as wide as both.
    assert_eq!(cluster.device.network_bandwidth.value, Bandwidth(50_000_000_000));
    let text = format!(
        "{SMALL}[network.latency]\nvalue = \"4 us\"\n\
         kind = \"measured\"\nsource = \"ib_write_lat\"\n"
    );
    let latency = read(&text).unwrap().device.network_latency;
    assert_eq!((latency.value, latency.kind), (Nanos(4000), SourceKind::Measured));
}

#[test]
fn wrong_files_are_answered_in_one_line() {
    let host = "[host]\nlink = \"pcie\"\nmemory_bandwidth = \"300 GB/s\"\n";
    let cases = [
        ("gpus_per_node = 8\n".to_owned(), "missing field `device`"),
        (format!("{SMALL}node = 2\n"), "line 3: key `node`; expected `nodes`: keys are about,"),
        (format!("{SMALL}[network]\nkind = \"rail\"\n"), "value `rail`; expected `rails`: values"),
        (format!("{SMALL}[network]\nleafports = 2\n"), "expected `leaf_ports`"),
        (format!("{SMALL}nodes = 70000\n"), "a number up to 65535"),
        (format!("{SMALL}nodes = 0\n"), "my.toml: nodes: 0; expected between 1 and 4096"),
        (SMALL.replace('8', "0"), "gpus_per_node: 0; expected between 1 and 4096"),
        (SMALL.replace("h100-sxm", "h10-sxm"), "did you mean `h100-sxm`?"),
        (format!("{SMALL}[domain]\nbandwidth = \"450\"\n"), "it has no unit"),
        (format!("{SMALL}[domain]\nbandwidth = \"0 GB/s\"\n"), "domain_bandwidth: 0"),
        (format!("{SMALL}[domain]\nkind = \"pcie\"\n"), "host: no PCIe; expected a [host]"),
        (format!("{SMALL}[domain]\nkind = \"pcie\"\n{host}sockets = 2\n"), "host.socket_bandwidth"),
        (format!("{SMALL}{host}sockets = 3\n"), "host.sockets: 3; expected a divisor of the 8"),
        (format!("{SMALL}{host}gpus_per_switch = 3\n"), "expected 0, or a divisor of the 8 GPUs"),
        (format!("{SMALL}[network]\ncards_per_node = 3\n"), "expected a divisor or a multiple of"),
        (format!("{SMALL}[network]\noversubscription = 0\n"), "between 0.01 and 1000"),
        (format!("{SMALL}[network]\noversubscription = nan\n"), "between 0.01 and 1000"),
        (
            format!("{SMALL}[network]\nkind = \"leaf-spine\"\nleaf_ports = 4\n"),
            "network.leaf_ports: 4; expected at least 8",
        ),
        (format!("{SMALL}[domain.latency]\nvalue = \"1 us\"\n"), "missing field `kind`"),
        ("device = \"h100-sxm\"\ngpus_per_node".to_owned(), "line 2"),
    ];
    for (text, expected) in cases {
        let answer = answer(&text);
        assert!(answer.starts_with("my.toml: ") || answer.starts_with("device "), "{answer}");
        assert!(answer.contains(expected), "{answer} lacks {expected}");
    }
}

#[test]
fn huge_machines_are_refused_before_they_are_built() {
    let cluster = read(&format!("{SMALL}nodes = 4096\n")).unwrap();
    let answer = Hardware::of_cluster(cluster, 4096, 8).unwrap_err().to_string();
    assert_eq!(answer, "cluster: my.toml:4096x8: 32768 GPUs; expected between 1 and 4096");
    for spec in ["hgx-h100:65535", "hgx-h100:600", "hgx-h100:0", "hgx-h100:1x9", "hgx-h100:x"] {
        let answer = Hardware::from_spec(spec).unwrap_err().to_string();
        assert!(answer.contains("; expected "), "{answer}");
    }
    let answer = Hardware::from_spec("hgx-h10").unwrap_err().to_string();
    assert!(answer.contains("did you mean `hgx-h100`?"), "{answer}");
    let answer = Hardware::from_spec("none/such.toml").unwrap_err().to_string();
    assert!(answer.starts_with("read none/such.toml: "), "{answer}");
}

#[test]
fn the_example_is_read_as_it_says() {
    let text = include_str!("../../../../examples/clusters/shared-cards.toml");
    let cluster = read(text).unwrap();
    let hardware = Hardware::of_cluster(cluster, 8, 8).unwrap();
    let shared: Vec<u16> = (0..8).map(|place| hardware.cluster().card(place)).collect();
    assert_eq!(shared, [0, 0, 1, 1, 2, 2, 3, 3]);
    // Two nodes a leaf: 8 cards of 50 GB/s, and 200 GB/s up.
    let uplink =
        hardware.fabric().links().find(|link| link.class == crate::hardware::LinkClass::Network);
    assert!(uplink.is_some());
}

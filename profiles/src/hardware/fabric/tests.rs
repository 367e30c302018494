use super::*;
use crate::builtin::{self, CLUSTERS, HARDWARE};
use crate::hardware::Hardware;
use crate::registry::Named as _;

fn machine(spec: &str) -> Hardware {
    Hardware::from_spec(spec).unwrap()
}

fn names(hardware: &Hardware, links: &[u32]) -> Vec<String> {
    links.iter().map(|link| hardware.fabric().name(*link)).collect()
}

fn route(hardware: &Hardware, source: u16, target: u16) -> Vec<String> {
    let mut links = Vec::new();
    hardware.fabric().route(Rank(source), Rank(target), &mut links);
    names(hardware, &links)
}

#[test]
fn a_kind_of_gpu_alone_has_its_ports() {
    // One node needs no network: 8 GPUs, their switch and their hosts' memories, 16 links a tree.
    let one = machine("h200-sxm:8");
    let graph = one.fabric().graph();
    assert_eq!((graph.node_count(), graph.edge_count()), (17, 32));
    assert_eq!(route(&one, 0, 3), ["gpu 0 > nvlink switch 0", "nvlink switch 0 > gpu 3"]);
    assert!(route(&one, 3, 3).is_empty());
    // Two nodes: 16 GPUs and memories, two switches and the network.
    let two = machine("h200-sxm:2x8");
    let graph = two.fabric().graph();
    assert_eq!((graph.node_count(), graph.edge_count()), (35, 96));
    assert_eq!(route(&two, 1, 8), ["gpu 1 > network", "network > gpu 8"]);
}

#[test]
fn two_halves_of_a_link_make_one_latency_and_ports_are_as_wide_as_ever() {
    for preset in HARDWARE {
        let hardware = Hardware::new(builtin::device(preset.name()).unwrap(), 2, 2).unwrap();
        let fabric = hardware.fabric();
        for link in fabric.links().filter(|link| link.class != LinkClass::Local) {
            assert_eq!(link.latency + link.latency, hardware.latency(link.class));
            assert_eq!(Some(link.bandwidth), hardware.bandwidth(link.class));
        }
        assert!(fabric.is_plain());
    }
}

#[test]
fn rails_meet_at_their_leaf_and_else_over_a_spine() {
    let hardware = machine("hgx-h100:2");
    let near = ["gpu 1 > pcie switch 0", "pcie switch 0 > card 1", "card 1 > leaf 1"];
    let far = ["leaf 1 > card 9", "card 9 > pcie switch 4", "pcie switch 4 > gpu 9"];
    assert_eq!(route(&hardware, 1, 9), [near, far].concat());
    // Another place is on another rail: over the spine. Rails are as wide up as down.
    let other = route(&hardware, 1, 8);
    assert_eq!(
        other[2..6],
        ["card 1 > leaf 1", "leaf 1 > spine", "spine > leaf 0", "leaf 0 > card 8"]
    );
    // 33 nodes are more than the 32 of a leaf.
    let large = machine("hgx-h100:33");
    assert_eq!(route(&large, 1, 32 * 8 + 1)[2..4], ["card 1 > leaf 1", "leaf 1 > spine"]);
    let fabric = large.fabric();
    let mut links = Vec::new();
    fabric.route(Rank(1), Rank(9), &mut links);
    assert_eq!(fabric.latency(&links), large.latency(LinkClass::Network));
    fabric.route(Rank(1), Rank(8), &mut links);
    assert_eq!(fabric.latency(&links), large.latency(LinkClass::Network) + Nanos(600));
}

#[test]
fn uplinks_are_as_narrow_as_their_oversubscription() {
    // Leaves of four nodes with 32 cards of 50 GB/s; 2:1 leaves 800 GB/s up. The second leaf has
    // two nodes.
    let hardware = machine("leaf-spine-h100:6");
    let fabric = hardware.fabric();
    let uplinks: Vec<(String, u64)> = (0_u32..)
        .zip(fabric.links())
        .filter(|(_, link)| link.kind == LinkKind::Uplink)
        .map(|(number, link)| (fabric.name(number), link.bandwidth.0 / 1_000_000_000))
        .collect();
    let expected = [
        ("leaf 0 > spine", 800),
        ("spine > leaf 0", 800),
        ("leaf 1 > spine", 400),
        ("spine > leaf 1", 400),
    ];
    assert_eq!(uplinks, expected.map(|(name, bandwidth)| (name.to_owned(), bandwidth)));
    // Of three nodes' 24 cards, 8 have their like under the first leaf: 16 cross 400 GB/s.
    assert_eq!(fabric.bisection(), Some(Bandwidth(600_000_000_000)));
    assert_eq!(machine("leaf-spine-h100:4").fabric().bisection(), Some(Bandwidth(800_000_000_000)));
}

#[test]
fn a_pcie_box_meets_at_the_switch_the_socket_or_between_sockets() {
    let hardware = machine("pcie-l40s");
    assert_eq!(route(&hardware, 0, 3), ["gpu 0 > pcie switch 0", "pcie switch 0 > gpu 3"]);
    let across = route(&hardware, 3, 4);
    assert_eq!(across.len(), 6);
    assert_eq!(across[2..4], ["socket 0 > sockets of node 0", "sockets of node 0 > socket 1"]);
    // Four GPUs of 32 GB/s behind a switch of 64 GB/s.
    assert_eq!(hardware.fabric().bisection(), Some(Bandwidth(64_000_000_000)));
    let to_host: Vec<u32> = hardware.fabric().to_host(Rank(5)).collect();
    let expected = ["gpu 5 > pcie switch 1", "pcie switch 1 > socket 1", "socket 1 > memory 1"];
    assert_eq!(names(&hardware, &to_host), expected);
    let from_host: Vec<u32> = hardware.fabric().from_host(Rank(5)).collect();
    assert_eq!(names(&hardware, &from_host)[0], "memory 1 > socket 1");
}

#[test]
fn without_peer_to_peer_a_copy_goes_through_memory() {
    let hardware = machine("pcie-4090");
    let expected =
        ["gpu 0 > socket 0", "socket 0 > memory 0", "memory 0 > socket 0", "socket 0 > gpu 1"];
    assert_eq!(route(&hardware, 0, 1), expected);
    assert_eq!(route(&hardware, 0, 7).len(), 6);
}

#[test]
fn a_route_is_a_path_there_and_its_way_back_is_as_long() {
    let presets = CLUSTERS.iter().map(|preset| format!("{}:3", preset.name()));
    for spec in presets.chain(["h200-sxm:3x8".to_owned(), "hgx-h100:3x3".to_owned()]) {
        let hardware = machine(&spec);
        let (fabric, mut links, mut back) = (hardware.fabric(), Vec::new(), Vec::new());
        for source in 0..hardware.ranks() {
            for target in (0..hardware.ranks()).filter(|target| *target != source) {
                fabric.route(Rank(source), Rank(target), &mut links);
                fabric.route(Rank(target), Rank(source), &mut back);
                assert_eq!(links.len(), back.len(), "{spec}");
                let mut at = usize::from(source);
                for link in &links {
                    let (from, to) =
                        fabric.graph.edge_endpoints(EdgeIndex::new(*link as usize)).unwrap();
                    assert_eq!(from.index(), at, "{spec}");
                    at = to.index();
                }
                assert_eq!(at, usize::from(target), "{spec}: {source} to {target}");
                let class = hardware.route(Rank(source), Rank(target));
                assert!(links.iter().any(|link| fabric.link(*link).class == class), "{spec}");
            }
        }
    }
}

#[test]
fn crowds_are_the_sum_of_their_routes() {
    for spec in ["hgx-h100:3", "leaf-spine-h100:5", "pcie-l40s:2", "pcie-4090:2", "dgx-gb200:2x5"] {
        let hardware = machine(spec);
        let fabric = hardware.fabric();
        let (mut crowd, mut expected) = (Crowd::new(fabric), vec![0; fabric.links().len()]);
        let (mut links, ranks) = (Vec::new(), fabric.ranks());
        for source in 0..ranks {
            for target in 0..ranks {
                let copies = (source * 7 + target * 3) as u64 % 5;
                crowd.add(fabric, source, target, copies);
                fabric.route(Rank(source as u16), Rank(target as u16), &mut links);
                links.iter().for_each(|link| expected[*link as usize] += copies);
            }
        }
        assert_eq!(crowd.loads(fabric), expected, "{spec}");
        crowd.clear();
        assert!(crowd.loads(fabric).iter().all(|load| *load == 0));
    }
}

use super::*;
use crate::seed::Seed;
use crate::units::Bandwidth;
use rand::RngExt as _;

fn machine(spec: &str) -> Hardware {
    Hardware::from_spec(spec).unwrap()
}

/// Tokens of every rank with picks anywhere.
fn fill(copies: &mut Copies, ranks: u16, seed: u64) {
    let mut generator = Seed(seed).stream("traffic");
    for source in 0..ranks {
        for _ in 0..generator.random_range(0..12_u32) {
            let picks = [0; 4].map(|_: u32| Rank(generator.random_range(0..ranks)));
            copies.add(Rank(source), picks);
        }
    }
}

/// As [`Copies::on`], and links are counted even where ports are enough.
fn by_links(hardware: &Hardware) -> Copies {
    let fabric = Some(Arc::clone(hardware.fabric()));
    Copies { fabric, ..Copies::new(hardware.ranks(), hardware.gpus_per_node()) }
}

#[test]
fn links_of_plain_machines_are_as_busy_as_their_ports() {
    for (seed, spec) in (0..).zip(["h200-sxm:8", "h200-sxm:4x8", "gb200-nvl72:2x6", "l40s:3x4"]) {
        let hardware = machine(spec);
        let ranks = hardware.ranks();
        let (mut ports, mut links) =
            (Copies::new(ranks, ranks / hardware.nodes()), by_links(&hardware));
        let mut on = Copies::on(&hardware);
        for copies in [&mut ports, &mut links, &mut on] {
            fill(copies, ranks, seed);
        }
        let traffic = ports.traffic();
        assert_eq!((links.traffic(), on.traffic()), (traffic, traffic), "{spec}");
    }
}

#[test]
fn rails_that_are_not_crowded_change_nothing_for_one_place() {
    // Two nodes; each GPU sends one token to its like: a rail each, nothing shared.
    let hardware = machine("hgx-h100:2");
    let mut copies = Copies::on(&hardware);
    (0..8).for_each(|rank| copies.add(Rank(rank), [Rank(rank + 8)]));
    assert_eq!(copies.traffic().per_rank.network, Port { busiest: 1, total: 8 });
}

#[test]
fn an_oversubscribed_uplink_counts_double() {
    // Five nodes, four on the first leaf: their 32 cards of 50 GB/s have 800 GB/s up. All 32 send
    // two tokens to the second leaf, four to each of its eight GPUs in turn.
    let hardware = machine("leaf-spine-h100:5");
    let mut copies = Copies::on(&hardware);
    for source in 0..32 {
        copies.add(Rank(source), [Rank(32 + source % 8)]);
        copies.add(Rank(source), [Rank(32 + source % 8)]);
    }
    // A GPU there receives 8; its leaf has 64 over 200 GB/s down, as long as 16 over 50 GB/s.
    assert_eq!(copies.traffic().per_rank.network, Port { busiest: 16, total: 64 });
    let mut loads = Vec::new();
    let nanos = copies.loads_per_rank(hardware.fabric(), Way::Dispatch, &mut loads);
    assert_eq!(nanos, 64.0 / 200.0);
    let named = |loads: &[(u32, f64)], name: &str| {
        loads.iter().find(|(link, _)| hardware.fabric().name(*link) == name).map(|load| load.1)
    };
    assert_eq!(named(&loads, "spine > leaf 1"), Some(1.0));
    assert_eq!(named(&loads, "leaf 0 > spine"), Some(0.25));
    // 8 of 50 GB/s against 64 of 200 GB/s.
    assert_eq!(named(&loads, "leaf 1 > card 32"), Some(0.5));
    // Results go back the same way.
    copies.loads_per_rank(hardware.fabric(), Way::Combine, &mut loads);
    assert_eq!(named(&loads, "leaf 1 > spine"), Some(1.0));
    assert_eq!(named(&loads, "card 32 > leaf 1"), Some(0.5));
    assert_eq!(named(&loads, "spine > leaf 1"), None);
}

#[test]
fn gpus_that_share_a_card_crowd_it_together() {
    // Two GPUs a card of 50 GB/s: one token of each is two through the card.
    let hardware = machine("pcie-l40s:2");
    let mut copies = Copies::on(&hardware);
    (0..8).for_each(|rank| copies.add(Rank(rank), [Rank(rank + 8)]));
    let ports = copies.traffic().per_rank;
    assert_eq!(ports.network, Port { busiest: 2, total: 8 });
    // They cross their PCIe ports as well: one each.
    assert_eq!(ports.domain, Port { busiest: 1, total: 0 });
}

#[test]
fn a_pcie_tree_is_as_busy_as_its_narrowest_part() {
    // Four GPUs of 32 GB/s send over one switch of 64 GB/s: as 2 through a port each.
    let hardware = machine("pcie-l40s");
    let mut copies = Copies::on(&hardware);
    (0..4).for_each(|rank| copies.add(Rank(rank), [Rank(rank + 4)]));
    assert_eq!(copies.traffic().per_rank.domain, Port { busiest: 2, total: 4 });
    assert_eq!(hardware.bandwidth(LinkClass::Domain), Some(Bandwidth(32_000_000_000)));
}

#[test]
fn a_copy_per_node_crosses_one_rail_and_is_passed_on() {
    // Rank 0 wants ranks 9 and 10: one copy to rank 8 over rail 0, two on over NVLink.
    let hardware = machine("hgx-h100:2");
    let mut copies = Copies::on(&hardware);
    copies.add(Rank(0), [Rank(9), Rank(10)]);
    let mut loads = Vec::new();
    copies.loads_per_node(hardware.fabric(), Way::Dispatch, &mut loads);
    let mut names: Vec<String> =
        loads.iter().map(|(link, _)| hardware.fabric().name(*link)).collect();
    names.sort_unstable();
    let expected = [
        "card 0 > leaf 0",
        "card 8 > pcie switch 4",
        "gpu 0 > pcie switch 0",
        "gpu 8 > nvlink switch 1",
        "leaf 0 > card 8",
        "nvlink switch 1 > gpu 10",
        "nvlink switch 1 > gpu 9",
        "pcie switch 0 > card 0",
        "pcie switch 4 > gpu 8",
    ];
    assert_eq!(names, expected);
    // A copy per pick goes over the spine instead, for ranks 9 and 10 are on other rails.
    copies.loads_per_pick(hardware.fabric(), Way::Dispatch, &mut loads);
    assert!(loads.iter().any(|(link, _)| hardware.fabric().name(*link) == "leaf 0 > spine"));
    let busiest = loads.iter().map(|(_, load)| *load).fold(0.0, f64::max);
    assert_eq!(busiest, 1.0);
    copies.clear();
    assert_eq!(copies.loads_per_pick(hardware.fabric(), Way::Dispatch, &mut loads), 0.0);
    assert!(loads.is_empty());
}

//! Max-min fair rates of 10,000 flows on a fabric of 1,000 GPUs.
//!
//! The fabric: 125 nodes of 8 GPUs with a port into their NVLink domain and a network card each;
//! 8 rails, each of leaves with 25 cards and 25 uplinks, and 25 spines. A flow crosses 2 links in
//! its node, 2 under its leaf, 4 over a spine, and 6 when it goes to another rail through the
//! domain first. The bar: solved from scratch in less than 5 ms.

use divan::Bencher;
use moecast_sim::flow::{FlowId, Sharing};

fn main() {
    divan::main();
}

const NODES: u32 = 125;
const GPUS: u32 = 8;
/// Nodes of one leaf.
const LEAF: u32 = 25;
const RANKS: u32 = NODES * GPUS;

/// First links of each kind; links into a switch and out of it lie side by side.
const DOMAIN: u32 = 0;
const CARD: u32 = 2 * RANKS;
const UPLINK: u32 = 4 * RANKS;

/// Numbers below a bound, the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) % u64::from(below)) as u32
    }
}

fn capacities() -> Vec<f64> {
    let uplinks = GPUS * NODES / LEAF * LEAF;
    let kinds = [(2 * RANKS, 450.0), (2 * RANKS, 50.0), (2 * uplinks, 50.0)];
    kinds.into_iter().flat_map(|(links, capacity)| (0..links).map(move |_| capacity)).collect()
}

fn route(source: u32, target: u32, spine: u32, into: &mut Vec<(u32, f64)>) {
    into.clear();
    let mut cross = |links: [u32; 2]| into.extend(links.map(|link| (link, 1.0)));
    let domain = |from: u32, to: u32| [DOMAIN + 2 * from, DOMAIN + 2 * to + 1];
    let (from, to) = (source / GPUS, target / GPUS);
    if from == to {
        cross(domain(source, target));
        return;
    }
    // Over the domain to the card of the target's rail, then along that rail.
    let card = from * GPUS + target % GPUS;
    if card != source {
        cross(domain(source, card));
    }
    cross([CARD + 2 * card, CARD + 2 * target + 1]);
    let leaf = |node: u32| (target % GPUS) * (NODES / LEAF) + node / LEAF;
    if leaf(from) != leaf(to) {
        let uplink = |leaf: u32| UPLINK + 2 * (leaf * LEAF + spine);
        cross([uplink(leaf(from)), uplink(leaf(to)) + 1]);
    }
}

/// Flows between ranks drawn at random; `near` of ten stay under one leaf and on one rail.
fn started(flows: usize, near: u32) -> (Sharing, Vec<FlowId>) {
    let (mut sharing, mut draws) = (Sharing::new(capacities()), Draws(0x2545_F491_4F6C_DD1D));
    let mut links = Vec::new();
    let start = |_| {
        let source = draws.next(RANKS);
        let group = LEAF * GPUS;
        let target = if draws.next(10) < near {
            source / group * group + (source + GPUS * (1 + draws.next(LEAF - 1))) % group
        } else {
            (source + 1 + draws.next(RANKS - 1)) % RANKS
        };
        route(source, target, draws.next(LEAF), &mut links);
        sharing.start(&links, f64::INFINITY)
    };
    let ids = (0..flows).map(start).collect();
    (sharing, ids)
}

#[divan::bench(args = [1_000, 10_000])]
fn solve_from_scratch(bencher: Bencher<'_, '_>, flows: usize) {
    let (sharing, _) = started(flows, 0);
    bencher.with_inputs(|| sharing.clone()).bench_local_refs(|sharing| sharing.solve());
}

/// One flow stops, another starts on its route: all are connected, so all are solved.
#[divan::bench(args = [1_000, 10_000])]
fn one_comes_and_goes_among_all(bencher: Bencher<'_, '_>, flows: usize) {
    come_and_go(bencher, started(flows, 0));
}

/// The same where all stay on their rail under their leaf: 40 components.
#[divan::bench(args = [1_000, 10_000])]
fn one_comes_and_goes_under_a_leaf(bencher: Bencher<'_, '_>, flows: usize) {
    come_and_go(bencher, started(flows, 10));
}

fn come_and_go(bencher: Bencher<'_, '_>, (mut sharing, mut flows): (Sharing, Vec<FlowId>)) {
    sharing.solve();
    let (mut route, mut draws) = (Vec::new(), Draws(7));
    bencher.bench_local(|| {
        let index = draws.next(flows.len() as u32) as usize;
        route.clear();
        route.extend(sharing.route(flows[index]));
        sharing.stop(flows[index]);
        flows[index] = sharing.start(&route, f64::INFINITY);
        sharing.solve();
    });
}

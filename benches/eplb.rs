//! Placement algorithms at the sizes people plan for, on one thread.
//!
//! Peer: the Python of deepseek-ai/EPLB takes 1,458 ms for the first case on a machine of this
//! kind; the bar is 15 ms on one thread.

use divan::{Bencher, black_box};
use moecast_planner::problem::Shape;
use moecast_planner::{Problem, algorithms};
use moecast_profiles::seed::Seed;

fn main() {
    divan::main();
}

/// 58 layers x 256 experts with a long tail: the load of rank `r` is proportional to 1/(r + 3),
/// shuffled by a fixed stride that differs by layer.
fn weights(layers: u16, experts: u16) -> Vec<Vec<f32>> {
    let stride = |layer: u16| 2 * layer + 1;
    (0..layers)
        .map(|layer| {
            (0..experts)
                .map(|expert| 1e6 / f32::from((expert * stride(layer)) % experts + 3))
                .collect()
        })
        .collect()
}

#[divan::bench(args = ["eplb-global", "linear", "round-robin", "trtllm"])]
fn deepseek_58x256_288_slots_72_ranks(bencher: Bencher<'_, '_>, name: &str) {
    let shape = Shape { ranks: 72, nodes: 9, groups: 8, slots: 288 };
    let problem = Problem::from_weights(&weights(58, 256), shape).unwrap();
    let algorithm = algorithms::find(name).unwrap();
    bencher.bench_local(|| (algorithm.propose)(black_box(&problem), Seed(0)).unwrap());
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn moecast_qwen3_48x128_144_slots_8_ranks(bencher: Bencher<'_, '_>) {
    let shape = Shape { ranks: 8, nodes: 1, groups: 1, slots: 144 };
    let problem = Problem::from_weights(&weights(48, 128), shape).unwrap();
    let algorithm = algorithms::find("moecast").unwrap();
    bencher.bench_local(|| (algorithm.propose)(black_box(&problem), Seed(0)).unwrap());
}

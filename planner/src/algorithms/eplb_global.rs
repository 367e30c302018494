//! DeepSeek's balancer as if the machine were one node and the model had one expert group: it
//! balances better than the hierarchical mode and knows nothing of links.
//!
//! DeepSeek, Expert Parallelism Load Balancer, <https://github.com/deepseek-ai/EPLB>: the mode that
//! the original falls back to where groups do not divide by nodes.
//!
//! Cost: as [`super::eplb`]. Deviation: chosen by name here, by divisibility there.

use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::eplb::Machine;
use super::{Entry, per_layer};
use crate::error::Result;
use crate::problem::Problem;

pub(super) const ENTRY: Entry =
    Entry { name: "eplb-global", about: "DeepSeek's balancer, ignoring nodes and groups", propose };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    let machine = Machine::of(problem).global();
    per_layer(problem, |layer| Ok(machine.rebalance(&problem.layers[layer].total)))
}

//! Replicate the experts with the heaviest copies, then put the copies, heaviest first, on the
//! lightest rank with room. Where the model's expert groups divide by nodes, groups are packed onto
//! nodes first and everything else stays inside the node.
//!
//! DeepSeek, Expert Parallelism Load Balancer, <https://github.com/deepseek-ai/EPLB>, reproduced
//! bit by bit: loads are 32-bit floats, the sort is stable and descending, the lightest pack and
//! the heaviest expert are the first of equals.
//!
//! Cost: `O(P log P)` per layer. Deviation: sums of group loads are added in order of experts (the
//! original's library may add in another order, which can differ beyond 2^24 tokens).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::{Entry, expert_id, per_layer};
use crate::error::Result;
use crate::problem::Problem;

pub(super) const ENTRY: Entry =
    Entry { name: "eplb", about: "DeepSeek's balancer, hierarchical where groups allow", propose };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    let machine = Machine::of(problem);
    per_layer(problem, |layer| Ok(machine.rebalance(&problem.layers[layer].total)))
}

/// What one layer is packed onto.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub(super) slots: usize,
    pub(super) groups: usize,
    pub(super) nodes: usize,
    pub(super) ranks: usize,
}

impl Machine {
    /// The machine of a problem, which has checked that experts divide by groups, ranks by nodes
    /// and slots by ranks.
    pub(super) fn of(problem: &Problem) -> Self {
        let machine = Self {
            slots: usize::from(problem.slots),
            groups: usize::from(problem.groups),
            nodes: usize::from(problem.nodes),
            ranks: usize::from(problem.ranks),
        };
        machine.or_global()
    }

    /// One group and one node where groups cannot be dealt evenly to nodes.
    fn or_global(self) -> Self {
        if self.groups.is_multiple_of(self.nodes) { self } else { self.global() }
    }

    pub(super) fn global(self) -> Self {
        Self { groups: 1, nodes: 1, ..self }
    }

    /// The expert of every slot, for experts with the loads `weight`.
    pub(super) fn rebalance(self, weight: &[f32]) -> Vec<ExpertId> {
        let order = self.experts_by_node(weight);
        let per_node = weight.len() / self.nodes;
        let node_slots = self.slots / self.nodes;
        let node_ranks = self.ranks / self.nodes;
        let mut placed = Vec::with_capacity(self.slots);
        let mut node_weight = Vec::with_capacity(per_node);
        for experts in order.chunks_exact(per_node) {
            node_weight.clear();
            node_weight.extend(experts.iter().map(|&expert| weight[expert]));
            let (copy_of, copies) = replicate(&node_weight, node_slots);
            #[expect(clippy::cast_precision_loss, reason = "the original divides by a float")]
            let copy_weight: Vec<f32> =
                copy_of.iter().map(|&local| node_weight[local] / copies[local] as f32).collect();
            let packed = pack(&copy_weight, node_ranks);
            placed.extend(packed.into_iter().map(|copy| expert_id(experts[copy_of[copy]])));
        }
        placed
    }

    /// All experts, node by node: groups packed onto nodes by their load.
    fn experts_by_node(self, weight: &[f32]) -> Vec<usize> {
        let group_size = weight.len() / self.groups;
        let group_weight: Vec<f32> =
            weight.chunks_exact(group_size).map(|group| group.iter().sum()).collect();
        let groups = pack(&group_weight, self.nodes);
        groups.into_iter().flat_map(|group| group * group_size..(group + 1) * group_size).collect()
    }
}

/// A float as an integer of the same order; -0 as 0.
fn ordered(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// Packs items into `packs` of equally many, heaviest first, each into the lightest pack with room.
/// Answers the items pack by pack.
fn pack(weight: &[f32], packs: usize) -> Vec<usize> {
    let size = weight.len() / packs;
    if size == 1 {
        return (0..packs).collect();
    }
    let mut sorted: Vec<(Reverse<u32>, usize)> =
        weight.iter().enumerate().map(|(item, &w)| (Reverse(ordered(w)), item)).collect();
    sorted.sort_unstable();
    let mut packed = vec![0; weight.len()];
    let mut pack_weight = vec![0.0_f32; packs];
    let mut pack_items = vec![0; packs];
    let mut open: BinaryHeap<Reverse<(u32, usize)>> =
        (0..packs).map(|pack| Reverse((ordered(0.0), pack))).collect();
    for (_, item) in sorted {
        let mut lightest = open.peek_mut().expect("there is room for every item");
        let pack = lightest.0.1;
        packed[pack * size + pack_items[pack]] = item;
        pack_items[pack] += 1;
        pack_weight[pack] += weight[item];
        if pack_items[pack] == size {
            std::collections::binary_heap::PeekMut::pop(lightest);
        } else {
            lightest.0.0 = ordered(pack_weight[pack]);
        }
    }
    packed
}

/// Gives each copy beyond the first of every expert to the expert whose copies are the heaviest.
/// Answers the expert of every copy, and the copies of every expert.
fn replicate(weight: &[f32], slots: usize) -> (Vec<usize>, Vec<usize>) {
    let experts = weight.len();
    let mut copy_of: Vec<usize> = (0..experts).collect();
    let mut copies = vec![1; experts];
    let mut heaviest: BinaryHeap<(u32, Reverse<usize>)> =
        weight.iter().enumerate().map(|(expert, &w)| (ordered(w), Reverse(expert))).collect();
    for _ in experts..slots {
        let mut top = heaviest.peek_mut().expect("there is at least one expert");
        let expert = top.1.0;
        copy_of.push(expert);
        copies[expert] += 1;
        #[expect(clippy::cast_precision_loss, reason = "the original divides by a float")]
        let share = weight[expert] / copies[expert] as f32;
        top.0 = ordered(share);
    }
    (copy_of, copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the README of the original.
    const WEIGHT: [[f32; 12]; 2] = [
        [90., 132., 40., 61., 104., 165., 39., 4., 73., 56., 183., 86.],
        [20., 107., 104., 64., 19., 197., 187., 157., 172., 86., 16., 27.],
    ];

    fn check(groups: usize, expected: [[u16; 16]; 2]) {
        let machine = Machine { slots: 16, groups, nodes: 2, ranks: 8 }.or_global();
        for (weight, expected) in WEIGHT.iter().zip(expected) {
            assert_eq!(machine.rebalance(weight), expected.map(ExpertId), "{groups} groups");
        }
    }

    #[test]
    fn golden_hierarchical() {
        check(
            4,
            [
                [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
                [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
            ],
        );
    }

    #[test]
    fn golden_global_because_three_groups_do_not_divide_by_two_nodes() {
        check(
            3,
            [
                [10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 3, 1, 1],
                [1, 10, 2, 4, 5, 11, 5, 0, 6, 7, 6, 3, 8, 8, 9, 7],
            ],
        );
    }

    #[test]
    fn ties_go_to_the_first() {
        // Equal loads: copies of experts 0 and 1, then dealt to the first lightest rank.
        let machine = Machine { slots: 6, groups: 1, nodes: 1, ranks: 2 };
        // Copies 2 and 3 (whole) go first: one each; the halves of 0 and 1 follow in turn.
        let found = machine.rebalance(&[2.0; 4]);
        assert_eq!(found, [2, 0, 0, 3, 1, 1].map(ExpertId));
    }

    #[test]
    fn floats_keep_their_order_as_integers() {
        let ascending = [f32::NEG_INFINITY, -2.0, -1.0, 0.0, f32::MIN_POSITIVE, 1.0, f32::INFINITY];
        assert!(ascending.is_sorted_by(|&a, &b| ordered(a) < ordered(b)));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }
}

//! Give every further copy to the expert with the heaviest copies, then put all copies, heaviest
//! first, on the lightest rank that has room. EPLB's idea with other ties, and in 64-bit floats.
//!
//! TensorRT-LLM, `doReplication` and `doPlacement` in
//! `cpp/tensorrt_llm/runtime/moeLoadBalancer/moeLoadBalancer.cpp`, which its offline generator of
//! load-balancer files calls. Of equally heavy experts the larger number gets the copy; equal
//! copies are placed by ascending expert, equal ranks are filled by ascending rank. Without any
//! load copies are dealt evenly, the first experts getting the remainder.
//!
//! Cost: `O(P log P)` per layer. No deviation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::{Entry, expert_id, per_layer};
use crate::error::Result;
use crate::problem::Problem;

pub(super) const ENTRY: Entry =
    Entry { name: "trtllm", about: "TensorRT-LLM's offline generator", propose };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    let (slots, ranks) = (usize::from(problem.slots), usize::from(problem.ranks));
    per_layer(problem, |layer| {
        let weight = &problem.layers[layer].total;
        Ok(place(weight, &replicate(weight, slots), slots, ranks))
    })
}

/// A load with a total order, for heaps.
#[derive(Clone, Copy, PartialEq)]
struct Load(f64);

impl Eq for Load {}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Copies of every expert.
fn replicate(weight: &[f32], slots: usize) -> Vec<u32> {
    let experts = weight.len();
    if weight.iter().map(|&w| f64::from(w)).sum::<f64>() == 0.0 {
        let (base, rest) = (slots / experts, slots % experts);
        return (0..experts).map(|expert| count(base + usize::from(expert < rest))).collect();
    }
    let mut copies = vec![1; experts];
    let mut heaviest: BinaryHeap<(Load, usize)> =
        weight.iter().enumerate().map(|(expert, &w)| (Load(f64::from(w)), expert)).collect();
    for _ in experts..slots {
        let mut top = heaviest.peek_mut().expect("there is at least one expert");
        let expert = top.1;
        copies[expert] += 1;
        top.0 = Load(f64::from(weight[expert]) / f64::from(copies[expert]));
    }
    copies
}

fn count(copies: usize) -> u32 {
    u32::try_from(copies).expect("slots are u16")
}

/// The expert of every slot.
fn place(weight: &[f32], copies: &[u32], slots: usize, ranks: usize) -> Vec<ExpertId> {
    let mut sorted: Vec<(Reverse<Load>, usize)> = Vec::with_capacity(slots);
    for (expert, (&w, &copies)) in weight.iter().zip(copies).enumerate() {
        let share = Load(f64::from(w) / f64::from(copies));
        sorted.extend((0..copies).map(|_| (Reverse(share), expert)));
    }
    sorted.sort_unstable();
    let per_rank = slots / ranks;
    let mut held: Vec<Vec<ExpertId>> = vec![Vec::with_capacity(per_rank); ranks];
    let mut open: BinaryHeap<Reverse<(Load, usize)>> =
        (0..ranks).map(|rank| Reverse((Load(0.0), rank))).collect();
    for (Reverse(share), expert) in sorted {
        let mut lightest = open.peek_mut().expect("there is room for every copy");
        let (load, rank) = lightest.0;
        held[rank].push(expert_id(expert));
        if held[rank].len() == per_rank {
            std::collections::binary_heap::PeekMut::pop(lightest);
        } else {
            lightest.0.0 = Load(load.0 + share.0);
        }
    }
    held.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weight: &[f32], slots: usize, ranks: usize, expected: &[u16]) {
        let found = place(weight, &replicate(weight, slots), slots, ranks);
        let found: Vec<u16> = found.into_iter().map(|expert| expert.0).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn heaviest_copies_first_on_the_lightest_rank() {
        // Expert 0 gets both further copies (8, 4 each, 2.67 each); then 3, 2.67 x 3, 2, 1:
        // rank 0: 3; rank 1: 0, then 0 (5.33); rank 0: 0 (5.67); rank 1: 2 (full); rank 0: 3.
        check(&[8.0, 3.0, 2.0, 1.0], 6, 2, &[1, 0, 3, 0, 0, 2]);
    }

    #[test]
    fn equal_experts_give_the_copy_to_the_larger_number() {
        // Copies of 3 and 2; whole experts 0 and 1 go first, then the halves 2, 2, 3, 3 in turn.
        check(&[2.0; 4], 6, 2, &[0, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn without_load_copies_are_dealt_evenly() {
        // Four equal copies of nothing: the lightest rank is always rank 0 until it is full.
        check(&[0.0; 3], 4, 2, &[0, 0, 1, 2]);
    }
}

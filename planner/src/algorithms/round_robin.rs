//! Experts are dealt to ranks like cards: expert `e` to rank `e % R`. The redundant slots are dealt
//! on in turn: the next rank with room takes, of the experts that it lacks, the one with the fewest
//! copies that comes next in number.
//!
//! vLLM's `--expert-placement-strategy round_robin`, which knows no redundant slots: dealing those
//! is our extension.
//!
//! Cost: `O(E + (P - E) E)`.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::{Entry, per_layer};
use crate::error::Result;
use crate::problem::Problem;

pub(super) const ENTRY: Entry =
    Entry { name: "round-robin", about: "expert e on rank e % R (baseline)", propose };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    let dealt = deal(problem);
    per_layer(problem, |_| Ok(dealt.clone()))
}

fn deal(problem: &Problem) -> Vec<ExpertId> {
    let experts = usize::from(problem.experts);
    let ranks = usize::from(problem.ranks);
    let per_rank = usize::from(problem.slots_per_rank());
    let mut held: Vec<Vec<usize>> = vec![Vec::with_capacity(per_rank); ranks];
    for expert in 0..experts {
        held[expert % ranks].push(expert);
    }
    let mut copies = vec![1_u32; experts];
    let mut cursor = 0;
    for turn in experts..usize::from(problem.slots) {
        // The next rank in turn; equal shares leave it room.
        let rank = turn % ranks;
        let next = (0..experts)
            .map(|offset| (cursor + offset) % experts)
            .filter(|expert| !held[rank].contains(expert))
            .min_by_key(|&expert| copies[expert])
            .expect("a rank has at most as many slots as there are experts");
        held[rank].push(next);
        copies[next] += 1;
        cursor = next + 1;
    }
    held.into_iter().flatten().map(super::expert_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Shape;

    fn check(experts: usize, ranks: u16, slots: u16, expected: &[u16]) {
        let shape = Shape { ranks, nodes: 1, groups: 1, slots };
        let problem = Problem::from_weights(&[vec![1.0; experts]], shape).unwrap();
        let placement = propose(&problem, Seed(0)).unwrap();
        let found: Vec<u16> = placement.layers()[0].iter().map(|expert| expert.0).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn experts_are_dealt_and_extra_slots_dealt_on() {
        // Rank 0 has 0 and 2, rank 1 has 1 and 3; then rank 0 takes 1 and rank 1 takes 2.
        check(4, 2, 6, &[0, 2, 1, 1, 3, 2]);
        // Five experts on three ranks: the sixth card goes to rank 2, which lacks 0.
        check(5, 3, 6, &[0, 3, 1, 4, 2, 0]);
        // Room for everything everywhere.
        check(2, 2, 4, &[0, 1, 1, 0]);
    }
}

//! Copies that are made for one step: fully sharded, sparse data parallelism.
//!
//! Hecate (arXiv 2502.02581) keeps every expert at one home and, in every iteration, materialises
//! the hot ones on other ranks by a sparse all-gather; the next iteration begins from the homes
//! again. Here a home is an expert's first slot in the scenario's placement, and all other slots
//! are free for copies. Copies are chosen one by one: of the expert with most load per copy, on
//! the rank with the least load that has a free slot and lacks it. Departs from the paper, which
//! solves the choice for training and also sums gradients.
//!
//! Cost per step and layer: (P - E) (E + R), and a stepper of its own.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::units::{Bytes, Nanos};
use rayon::prelude::*;

use super::loads::windows;
use super::moving::move_layer;
use super::tape::{Tape, delay};
use super::{Moved, Policy, Rebalanced};
use crate::error::Result;
use crate::placement::Placement;
use crate::scenario::Scenario;
use crate::step::{StepOutcome, Stepper};

/// Steps that are simulated together.
const STRETCH: usize = 64;

pub(super) fn serve(
    scenario: &Scenario,
    policy: &Policy,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Rebalanced> {
    let steps = scenario.trace.steps().len();
    let homes: Vec<Vec<bool>> =
        scenario.placement.layers().iter().map(|slots| homes(slots)).collect();
    let mut tape = Tape::new();
    for from in (0..steps).step_by(STRETCH) {
        let to = (from + STRETCH).min(steps);
        let loads = windows(&scenario.trace, from..to, policy.window);
        let one = |index: usize| step(scenario, &homes, index, &loads[index - from]);
        let made = (from..to).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
        for (outcome, moved) in made {
            // Before the first step nothing is known, and nothing chosen.
            let chose = tape.steps() > 0;
            tape.calls += u64::from(chose);
            let computing =
                if chose && !policy.algorithm_beside { policy.algorithm_time } else { Nanos(0) };
            let stall = computing + delay(&outcome, moved.time);
            tape.moved.add(&moved);
            tape.push(outcome, stall);
        }
        progress(to - from);
    }
    tape.considered = tape.calls;
    Ok(tape.finish(scenario))
}

/// Step `index` with the copies that `loads` `[M][E]` before it ask for, and what they take.
fn step(
    scenario: &Scenario,
    homes: &[Vec<bool>],
    index: usize,
    loads: &[Vec<f64>],
) -> Result<(StepOutcome, Moved)> {
    let served = &scenario.placement;
    let mut moved = Moved::default();
    if index == 0 {
        return Ok((Stepper::new(scenario).step(0), moved));
    }
    let expert = scenario.model.expert_bytes();
    let mut layers = Vec::with_capacity(homes.len());
    for ((slots, homes), loads) in served.layers().iter().zip(homes).zip(loads) {
        let filled = fill(slots, homes, served.ranks(), loads);
        moved.add(&gathered(scenario, slots, homes, &filled, expert));
        layers.push(filled);
    }
    let mut own = scenario.clone();
    own.placement = Placement::new(served.experts(), served.ranks(), layers)?;
    Ok((Stepper::new(&own).step(index), moved))
}

/// `[P]` whether the slot is the home of its expert.
fn homes(slots: &[ExpertId]) -> Vec<bool> {
    (0..slots.len()).map(|slot| !slots[..slot].contains(&slots[slot])).collect()
}

/// `slots` with every free one holding a copy of what `loads` say is hot.
fn fill(slots: &[ExpertId], homes: &[bool], ranks: u16, loads: &[f64]) -> Vec<ExpertId> {
    let ranks = usize::from(ranks);
    let per_rank = slots.len() / ranks;
    let mut held: Vec<Vec<ExpertId>> = (0..ranks)
        .map(|rank| {
            let own = rank * per_rank..(rank + 1) * per_rank;
            own.filter(|slot| homes[*slot]).map(|slot| slots[slot]).collect()
        })
        .collect();
    let mut copies = vec![1.0_f64; loads.len()];
    for _ in 0..homes.iter().filter(|home| !**home).count() {
        let load = |rank: usize, held: &[Vec<ExpertId>]| -> f64 {
            held[rank].iter().map(|expert| loads[expert.index()] / copies[expert.index()]).sum()
        };
        let room = |rank: usize, held: &[Vec<ExpertId>]| held[rank].len() < per_rank;
        // The hottest expert that some rank has room for and lacks.
        let mut hot: Vec<usize> = (0..loads.len()).collect();
        let share = |expert: usize| loads[expert] / copies[expert];
        hot.sort_by(|&a, &b| share(b).total_cmp(&share(a)).then(a.cmp(&b)));
        let pick = hot.into_iter().find_map(|expert| {
            let id = ExpertId(u16::try_from(expert).expect("experts are u16"));
            let lacks = |rank: &usize| room(*rank, &held) && !held[*rank].contains(&id);
            let by_load = |a: &usize, b: &usize| load(*a, &held).total_cmp(&load(*b, &held));
            Some((id, (0..ranks).filter(lacks).min_by(by_load)?))
        });
        let Some((expert, rank)) = pick else { break };
        held[rank].push(expert);
        copies[expert.index()] += 1.0;
    }
    // Homes keep their slots; copies take the free ones of their rank in order.
    let mut filled = slots.to_vec();
    for (rank, held) in held.iter().enumerate() {
        let own = rank * per_rank..(rank + 1) * per_rank;
        let homes_here = own.clone().filter(|slot| homes[*slot]).count();
        let free = own.filter(|slot| !homes[*slot]);
        for (slot, expert) in free.zip(&held[homes_here..]) {
            filled[slot] = *expert;
        }
    }
    filled
}

/// The all-gather of every copy in `filled` from the homes: free slots hold nothing before it.
fn gathered(
    scenario: &Scenario,
    slots: &[ExpertId],
    homes: &[bool],
    filled: &[ExpertId],
    expert: Bytes,
) -> Moved {
    // An id that no expert has stands for an empty slot.
    let empty = ExpertId(u16::MAX);
    let before: Vec<ExpertId> =
        slots.iter().zip(homes).map(|(slot, home)| if *home { *slot } else { empty }).collect();
    move_layer(&scenario.hardware, &before, filled, expert)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(experts: &[u16]) -> Vec<ExpertId> {
        experts.iter().copied().map(ExpertId).collect()
    }

    #[test]
    fn hot_experts_fill_free_slots() {
        // Homes 0 1 | 2 3 with a free slot each. Expert 2 is hot: rank 0 gets a copy of it; then
        // 0 has most load per copy that some rank lacks, with 30 against 25 of either copy of 2.
        let slots = ids(&[0, 1, 0, 2, 3, 1]);
        let homes = homes(&slots);
        assert_eq!(homes, [true, true, false, true, true, false]);
        let filled = fill(&slots, &homes, 2, &[30.0, 0.0, 50.0, 0.0]);
        assert_eq!(filled, ids(&[0, 1, 2, 2, 3, 0]));
    }
}

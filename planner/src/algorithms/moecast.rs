//! Spread the experts that fire together: local search on the expected sum of squared rank loads,
//! whose pair terms are shrunk against chance, then on the tail or on the recorded per-step
//! maximum, whichever scored better on steps left out of the search. No rank ever holds an expert
//! twice.
//!
//! Own work. Start: DeepSeek's EPLB. The shrinkage of co-activation is in the spirit of Ledoit and
//! Wolf (2004); that placements must be judged on other steps than they were made from follows
//! from published ones that reversed order on a second split.
//!
//! Cost per layer: `O(S E^2)` for the moments, a few nanoseconds per pair of slots and sweep, and
//! `O(S)` per swap for the recorded maximum. All budgets are counts, so the answer depends on the
//! problem and the seed alone. Nodes and links are not considered.

mod blend;
mod moments;
mod pairs;
mod recipe;
mod start;
mod tail;

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::{Generator, Seed};
use moecast_sim::Placement;
use rayon::prelude::*;

use self::recipe::{STEP_BUDGET, Shape, choose};
use self::start::start;
use super::eplb::Machine;
use super::{Entry, linear};
use crate::error::Result;
use crate::objective::{Evaluator, StepShares};
use crate::problem::Problem;
use crate::search::{Layout, descend};

pub(super) const ENTRY: Entry = Entry {
    name: "moecast",
    about: "lowest expected maximum, searched and cross-checked",
    propose,
};

fn propose(problem: &Problem, seed: Seed) -> Result<Placement> {
    let shape = Shape { slots: usize::from(problem.slots), ranks: usize::from(problem.ranks) };
    let shares: Vec<StepShares> =
        problem.layers.par_iter().map(|loads| StepShares::new(loads, problem.ranks)).collect();
    let recipe = choose(&shares, shape, seed);
    let layers = shares
        .par_iter()
        .enumerate()
        .map(|(layer, shares)| {
            let mut generator = seed.stream(&format!("moecast/layer/{layer}"));
            let found = recipe.search(shares, shape, &mut generator);
            not_worse(problem, layer, shares, found, &mut generator)
        })
        .collect();
    Ok(Placement::new(problem.experts, problem.ranks, layers)?)
}

/// `found`, or what is at least as good as the baselines on the recorded steps.
fn not_worse(
    problem: &Problem,
    layer: usize,
    shares: &StepShares,
    found: Layout,
    generator: &mut Generator,
) -> Vec<ExpertId> {
    let ranks = problem.ranks;
    let value = |slots: &[ExpertId]| shares.expected_maximum(slots, ranks);
    let linear: Vec<ExpertId> = linear::slots(problem).collect();
    let eplb = Machine::of(problem).rebalance(&problem.layers[layer].total);
    let bar = value(&linear).min(value(&eplb));
    let mut best = found.clone().into_ids();
    let totals: Vec<f64> = (0..shares.experts())
        .map(|expert| shares.of(expert).iter().map(|&share| f64::from(share)).sum())
        .collect();
    let (slots, ranks) = (usize::from(problem.slots), usize::from(ranks));
    let again: [&dyn Fn() -> Layout; 2] = [&|| found.clone(), &|| start(&totals, slots, ranks)];
    for from in again {
        if value(&best) <= bar {
            break;
        }
        let mut steps = Evaluator::new(shares, from());
        descend(&mut steps, STEP_BUDGET, generator);
        let searched = steps.into_layout().into_ids();
        if value(&searched) < value(&best) {
            best = searched;
        }
    }
    if value(&linear) < value(&best) {
        best = linear;
    }
    let per_rank = usize::from(problem.slots_per_rank());
    best.chunks_exact_mut(per_rank).for_each(<[ExpertId]>::sort_unstable);
    best
}

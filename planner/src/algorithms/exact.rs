//! The placement that no other beats on the recorded steps, by integer programming: an oracle for
//! tests and for tiny models. Larger problems are refused.
//!
//! The even split is not linear in the number of copies, so there is a binary for "expert `e` has
//! `c` copies, one of them on rank `r`" with coefficient `load / c`: `sum_r place[e][r][c] = c *
//! count[e][c]`, one count per expert, and `place` only where the count is chosen. The maximum of
//! every step is a variable above all its rank loads; their mean is minimised. One copy of expert 0
//! is fixed on rank 0, because ranks are alike.
//!
//! Cost: exponential. Solver: microlp (pure Rust); HiGHS with feature `highs`.

use good_lp::{
    Expression, ProblemVariables, Solution, SolverModel, Variable, constraint, variable,
};
use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::{Entry, expert_id, per_layer};
use crate::error::{Error, Result};
use crate::objective::StepShares;
use crate::problem::Problem;

#[cfg(feature = "highs")]
use good_lp::highs as solver;
#[cfg(not(feature = "highs"))]
use good_lp::microlp as solver;

pub(super) const ENTRY: Entry =
    Entry { name: "exact", about: "integer program, for tiny problems only (oracle)", propose };

/// Most binaries of one layer: experts times ranks times possible counts of copies.
const BINARIES_MAX: usize = if cfg!(feature = "highs") { 512 } else { 36 };
/// Most steps with load.
const STEPS_MAX: usize = if cfg!(feature = "highs") { 256 } else { 16 };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    let copies_max = copies_max(problem);
    let binaries = usize::from(problem.experts) * usize::from(problem.ranks) * copies_max;
    if binaries > BINARIES_MAX {
        let found = format!(
            "{} experts on {} ranks with up to {copies_max} copies: {binaries} binaries",
            problem.experts, problem.ranks
        );
        return Err(refusal("size", found, format!("at most {BINARIES_MAX}")));
    }
    per_layer(problem, |layer| {
        let shares = StepShares::new(&problem.layers[layer], problem.ranks);
        if shares.steps() > STEPS_MAX {
            let place = format!("MoE layer {layer}");
            let found = format!("{} steps", shares.steps());
            return Err(refusal(&place, found, format!("at most {STEPS_MAX}")));
        }
        Program::new(problem, copies_max).solve(problem, &shares)
    })
}

fn refusal(place: &str, found: String, limit: String) -> Error {
    let expected = format!("{limit} for an exact solution; `moecast` takes any size");
    Error::problem(format!("exact: {place}"), found, expected)
}

/// Most copies that one expert can have.
fn copies_max(problem: &Problem) -> usize {
    usize::from(problem.ranks.min(problem.slots - problem.experts + 1))
}

/// The binaries of one layer.
struct Program {
    variables: ProblemVariables,
    /// `[E][C]` expert `e` has `c + 1` copies.
    count: Vec<Vec<Variable>>,
    /// `[E][R][C]` and one of them is on rank `r`.
    place: Vec<Vec<Vec<Variable>>>,
}

impl Program {
    fn new(problem: &Problem, copies_max: usize) -> Self {
        let mut variables = ProblemVariables::new();
        let mut binaries = |count: usize| -> Vec<Variable> {
            (0..count).map(|_| variables.add(variable().binary())).collect()
        };
        let count = (0..problem.experts).map(|_| binaries(copies_max)).collect();
        let place = (0..problem.experts)
            .map(|_| (0..problem.ranks).map(|_| binaries(copies_max)).collect())
            .collect();
        Self { variables, count, place }
    }

    fn solve(mut self, problem: &Problem, shares: &StepShares) -> Result<Vec<ExpertId>> {
        let tops: Vec<Variable> =
            (0..shares.steps()).map(|_| self.variables.add(variable().min(1.0))).collect();
        let mean: Expression = tops.iter().copied().sum();
        let mut model = self.variables.minimise(mean).using(solver);
        for (count, place) in self.count.iter().zip(&self.place) {
            model.add_constraint(constraint!(count.iter().copied().sum::<Expression>() == 1.0));
            for (copies, &counted) in count.iter().enumerate() {
                let placed: Expression = place.iter().map(|rank| rank[copies]).sum();
                model.add_constraint(constraint!(placed == to_float(copies + 1) * counted));
                for rank in place {
                    model.add_constraint(constraint!(rank[copies] <= counted));
                }
            }
        }
        let first: Expression = self.place[0][0].iter().copied().sum();
        model.add_constraint(constraint!(first == 1.0));
        for rank in 0..usize::from(problem.ranks) {
            let held: Expression =
                self.place.iter().flat_map(|place| place[rank].iter().copied()).sum();
            model.add_constraint(constraint!(held == f64::from(problem.slots_per_rank())));
            for (step, &top) in tops.iter().enumerate() {
                let load = rank_load(&self.place, rank, |expert| shares.of(expert)[step]);
                model.add_constraint(constraint!(load <= top));
            }
        }
        let solved = model.solve().map_err(|error| {
            Error::problem("exact", error.to_string(), "a problem that the solver can finish")
        })?;
        let chosen = |binary: &Variable| solved.value(*binary) > 0.5;
        let holds = |rank: usize, expert: usize| self.place[expert][rank].iter().any(chosen);
        let experts = 0..usize::from(problem.experts);
        Ok((0..usize::from(problem.ranks))
            .flat_map(|rank| experts.clone().filter(move |&expert| holds(rank, expert)))
            .map(expert_id)
            .collect())
    }
}

/// The load of `rank`: every expert's load over the copies that it has.
fn rank_load(place: &[Vec<Vec<Variable>>], rank: usize, load: impl Fn(usize) -> f32) -> Expression {
    let mut sum = Expression::default();
    for (expert, ranks) in place.iter().enumerate() {
        for (copies, &binary) in ranks[rank].iter().enumerate() {
            sum.add_mul(f64::from(load(expert)) / to_float(copies + 1), binary);
        }
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "copies are at most 65535")]
fn to_float(copies: usize) -> f64 {
    copies as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{LayerLoads, Shape};

    fn problem(experts: usize, ranks: u16, slots: u16, steps: &[u32]) -> Problem {
        let shape = Shape { ranks, nodes: 1, groups: 1, slots };
        let mut problem = Problem::from_weights(&[vec![1.0; experts]], shape).unwrap();
        problem.layers = vec![LayerLoads { total: vec![1.0; experts], steps: steps.to_vec() }];
        problem
    }

    #[test]
    fn pairs_that_fire_together_are_parted() {
        // 0 fires with 1, 2 with 3: any balanced answer parts both pairs.
        let problem = problem(4, 2, 4, &[3, 3, 0, 0, 0, 0, 5, 5]);
        let placement = propose(&problem, Seed(0)).unwrap();
        let shares = StepShares::new(&problem.layers[0], 2);
        let value = shares.expected_maximum(&placement.layers()[0], 2);
        assert!((value - 1.0).abs() < 1e-6, "{placement:?}");
    }

    #[test]
    fn the_copy_goes_to_the_expert_that_needs_it() {
        // 8, 2 and 2 on two ranks of two slots: halves of expert 0 and one light expert each.
        let problem = problem(3, 2, 4, &[8, 2, 2]);
        let placement = propose(&problem, Seed(0)).unwrap();
        let slots = &placement.layers()[0];
        assert_eq!((slots[0], slots[2]), (ExpertId(0), ExpertId(0)));
        assert_eq!(placement.wasted_slots(), 0);
    }

    #[test]
    #[cfg(not(feature = "highs"))]
    fn larger_problems_are_refused() {
        let error = propose(&problem(32, 8, 32, &[1; 32]), Seed(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "plan: exact: size: 32 experts on 8 ranks with up to 1 copies: 256 binaries; expected \
             at most 36 for an exact solution; `moecast` takes any size"
        );
    }
}

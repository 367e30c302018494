//! PMQ: the bits of each block's experts by an integer program over what they matter and what a
//! width costs (MC, Huang et al., ICLR 2025, arXiv 2410.06270; MC#, arXiv 2510.10962).
//!
//! For each block: minimise the sum over experts of `share^alpha * weight^beta * error^alpha` at
//! widths of 1, 2 and 3 bits, one for each expert; the sum of bits does not exceed the block's
//! budget; at least one expert has 3 bits and at least one has 2. Alpha is 1 and beta 1.5, as in
//! the released code. Cost: see [`super::knapsack`]; the same program goes to `good_lp` where
//! [`Solver::Program`] asks for it (a block of 64 experts takes microlp 1.4 ms and dynamic
//! programming 0.5 ms; both are exact, but only the second has a bound on its time).
//! Departure: none in the program; errors are whatever table is given, where the paper measures
//! the output of each block with one expert quantised.

use good_lp::{
    Expression, ProblemVariables, Solution, SolverModel, Variable, constraint, variable,
};

#[cfg(feature = "highs")]
use good_lp::highs as lp_solver;
#[cfg(not(feature = "highs"))]
use good_lp::microlp as lp_solver;

use super::knapsack::{self, Units};
use super::{Assigned, Entry, Solver, Task, too_little};
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "pmq",
    about: "PMQ of MC: 1, 2 or 3 bits per expert, an integer program per block",
    assign,
};

const WIDTHS: [u8; 3] = [1, 2, 3];
/// Indices of the widths that must occur: 2 and 3 bits.
const REQUIRED: [usize; 2] = [1, 2];

fn assign(task: &Task<'_>) -> Result<Assigned> {
    task.check()?;
    let widths = task.widths(ENTRY.name, &WIDTHS)?;
    let (layers, experts) = task.importance.shape();
    let total = task.total(experts);
    let needed = experts + 3;
    if experts < 2 || total < needed {
        let why = "one expert of each block at 3, one at 2, the others at 1";
        return Err(too_little(ENTRY.name, total, needed.max(5), why));
    }
    let mut bits = Vec::with_capacity(layers);
    for layer in 0..layers {
        let costs = task.layer_costs(layer, &widths);
        let chosen = match task.solver {
            Solver::Dynamic => dynamic(&costs, total),
            Solver::Program => program(&costs, total)?,
        };
        bits.push(chosen.into_iter().map(|width| WIDTHS[width]).collect());
    }
    let how = match task.solver {
        Solver::Dynamic => "exact, by dynamic programming over the bits of each block",
        Solver::Program => "exact, by an integer program of each block",
    };
    let mut answer = task.answer(bits, None, how.to_owned());
    answer.bound = Some(answer.cost);
    Ok(answer)
}

fn dynamic(costs: &[Vec<f64>], total: usize) -> Vec<usize> {
    let units = Units::new(&WIDTHS);
    let spare = units.spare(total, costs.len()).expect("the budget was checked");
    knapsack::solve(costs, &units.steps, spare, &REQUIRED).expect("the budget was checked")
}

fn program(costs: &[Vec<f64>], total: usize) -> Result<Vec<usize>> {
    let mut variables = ProblemVariables::new();
    let chosen: Vec<[Variable; 3]> =
        costs.iter().map(|_| WIDTHS.map(|_| variables.add(variable().binary()))).collect();
    // The solver's tolerances are absolute; shares of many experts are small numbers.
    let most = costs.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut cost = Expression::default();
    let mut bits = Expression::default();
    for (row, binaries) in costs.iter().zip(&chosen) {
        for ((&width, &price), &binary) in WIDTHS.iter().zip(row).zip(binaries) {
            cost.add_mul(price / most, binary);
            bits.add_mul(f64::from(width), binary);
        }
    }
    let mut model = variables.minimise(cost).using(lp_solver);
    for binaries in &chosen {
        let one: Expression = binaries.iter().copied().sum();
        model.add_constraint(constraint!(one == 1.0));
    }
    #[expect(clippy::cast_precision_loss, reason = "bits of a block are far below 2^53")]
    let total = total as f64;
    model.add_constraint(constraint!(bits <= total));
    for width in REQUIRED {
        let some: Expression = chosen.iter().map(|binaries| binaries[width]).sum();
        model.add_constraint(constraint!(some >= 1.0));
    }
    let solved = model.solve().map_err(|error| {
        Error::problem(ENTRY.name, error.to_string(), "a program that the solver can finish")
    })?;
    let pick = |binaries: &[Variable; 3]| {
        binaries.iter().position(|binary| solved.value(*binary) > 0.5).unwrap_or(0)
    };
    Ok(chosen.iter().map(pick).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost_of(costs: &[Vec<f64>], chosen: &[usize]) -> f64 {
        costs.iter().zip(chosen).map(|(row, &width)| row[width]).sum()
    }

    #[test]
    fn solvable_by_hand() {
        // Expert 1 matters most, expert 2 next.
        let costs = [[8.0, 4.0, 2.0], [80.0, 40.0, 20.0], [40.0, 20.0, 10.0], [4.0, 2.0, 1.0]];
        let costs = costs.map(|row| row.to_vec()).to_vec();
        // Seven bits are what the rules need: 3 and 2 go to those that matter.
        assert_eq!(dynamic(&costs, 7), [0, 2, 1, 0]);
        // One more would save 10 at expert 2, but then none would be left at 2 bits.
        assert_eq!(dynamic(&costs, 8), [1, 2, 1, 0]);
        assert_eq!(dynamic(&costs, 9), [1, 2, 2, 0]);
        assert_eq!(dynamic(&costs, 99), [2, 2, 2, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_program_and_the_dynamic_program_cost_the_same(
            costs in prop::collection::vec(prop::collection::vec(0.0..1.0_f64, 3), 2..9),
            more in 0..20_usize,
        ) {
            let total = costs.len() + 3 + more;
            let (one, other) = (dynamic(&costs, total), program(&costs, total).unwrap());
            let (one, other) = (cost_of(&costs, &one), cost_of(&costs, &other));
            prop_assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }
}

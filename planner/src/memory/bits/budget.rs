//! One budget of bits over all layers: a layer that matters more takes bits from one that matters
//! less. The least cost, or one with a proven gap.
//!
//! The linear relaxation is solved exactly by the lower hull of every expert's costs (Sinha and
//! Zoltners, Operations Research 1979): steps of the hull in the order of cost saved per bit, until
//! the budget is spent. Its cost is a bound, and its whole steps are an answer whose gap to the
//! bound is less than one step. Where the gap is not 0, dynamic programming closes it if layers,
//! bits and experts allow: curves of each layer, then one allotment over the layers. Cost: a sort;
//! then O(M B E W) for `B` bits together, up to [`WORK_MAX`].

use super::knapsack::{self, Units};
use super::{Assigned, Entry, Task, too_little};
use crate::error::Result;
use crate::memory::slots;

pub(super) const ENTRY: Entry = Entry {
    name: "budget",
    about: "one budget over all layers, any widths: exact, or with a proven gap",
    assign,
};

/// Most additions of the dynamic program.
const WORK_MAX: u128 = 1 << 30;

/// A gap below this share of the cost is rounding.
const GAP_MIN: f64 = 1e-9;

fn assign(task: &Task<'_>) -> Result<Assigned> {
    task.check()?;
    let (layers, experts) = task.importance.shape();
    let total = task.total(layers * experts);
    let widths: Vec<usize> = (0..task.errors.widths().len()).collect();
    let units = Units::new(task.errors.widths());
    let Some(spare) = units.spare(total, layers * experts) else {
        let narrowest = usize::from(task.errors.widths()[0]);
        let why = "every expert at the narrowest width";
        return Err(too_little(ENTRY.name, total, narrowest * layers * experts, why));
    };
    let costs: Vec<Vec<Vec<f64>>> =
        (0..layers).map(|layer| task.layer_costs(layer, &widths)).collect();
    let (chosen, bound) = relaxed(&costs, &units.steps, spare);
    let answer = |chosen: &[Vec<usize>], bound: f64, how: String| {
        let of = |row: &Vec<usize>| row.iter().map(|&width| task.errors.widths()[width]).collect();
        task.answer(chosen.iter().map(of).collect(), Some(bound), how)
    };
    let near = answer(&chosen, bound, String::new());
    let gap = near.cost - bound;
    if gap <= GAP_MIN * near.cost.max(f64::MIN_POSITIVE) {
        let bound = near.cost;
        return Ok(Assigned { bound: Some(bound), how: "exact, by relaxation".to_owned(), ..near });
    }
    let steps = units.steps.last().copied().unwrap_or(0);
    let work: u128 = [layers, spare + 1, experts * steps].map(|size| size as u128).iter().product();
    if work > WORK_MAX {
        let how = format!("by relaxation, at most {gap:.3e} above the least cost");
        return Ok(Assigned { how, ..near });
    }
    let exact = divided(&costs, &units.steps, spare);
    let mut answer = answer(&exact, bound, "exact, by dynamic programming".to_owned());
    answer.bound = Some(answer.cost);
    Ok(answer)
}

/// One step up the hull of one expert.
struct Step {
    saved_per_unit: f64,
    saved: f64,
    units: usize,
    item: usize,
    /// Index of the width that it leads to.
    width: usize,
}

/// Widths `[M][E]` by whole steps of the hulls, and the cost of the relaxation.
fn relaxed(costs: &[Vec<Vec<f64>>], steps: &[usize], spare: usize) -> (Vec<Vec<usize>>, f64) {
    let items: Vec<&Vec<f64>> = costs.iter().flatten().collect();
    let mut climb: Vec<Step> = Vec::new();
    for (item, row) in items.iter().enumerate() {
        climb.extend(hull(row, steps, item));
    }
    // Stable: the steps of one expert, which flatten, stay in their order.
    climb.sort_by(|a, b| b.saved_per_unit.total_cmp(&a.saved_per_unit).then(a.item.cmp(&b.item)));
    let mut bound: f64 = items.iter().map(|row| row[0]).sum();
    let mut chosen = vec![0; items.len()];
    let mut stopped = vec![false; items.len()];
    let (mut left, mut whole) = (spare, true);
    for step in climb {
        if whole && step.units > left {
            whole = false;
            #[expect(clippy::cast_precision_loss, reason = "bits are far below 2^53")]
            let part = left as f64;
            bound -= step.saved_per_unit * part;
        } else if whole {
            bound -= step.saved;
        }
        if step.units <= left && !stopped[step.item] {
            left -= step.units;
            chosen[step.item] = step.width;
        } else {
            stopped[step.item] = true;
        }
    }
    let experts = costs.first().map_or(1, Vec::len).max(1);
    (chosen.chunks(experts).map(<[usize]>::to_vec).collect(), bound)
}

/// The lower hull of `row` over `steps`, from the narrowest width, as far as it falls.
fn hull(row: &[f64], steps: &[usize], item: usize) -> Vec<Step> {
    let mut path = Vec::new();
    let mut at = 0;
    loop {
        let mut best: Option<Step> = None;
        for width in at + 1..row.len() {
            let units = steps[width] - steps[at];
            let saved = row[at] - row[width];
            #[expect(clippy::cast_precision_loss, reason = "a width is a few bits")]
            let saved_per_unit = saved / units as f64;
            let is_better = best.as_ref().is_none_or(|best| saved_per_unit > best.saved_per_unit);
            if saved > 0.0 && is_better {
                best = Some(Step { saved_per_unit, saved, units, item, width });
            }
        }
        let Some(step) = best else { return path };
        at = step.width;
        path.push(step);
    }
}

/// The least cost, by curves of each layer and one allotment over them.
fn divided(costs: &[Vec<Vec<f64>>], steps: &[usize], spare: usize) -> Vec<Vec<usize>> {
    let most = steps.last().copied().unwrap_or(0);
    let gains: Vec<Vec<f64>> = costs
        .iter()
        .map(|layer| {
            let curve = knapsack::curve(layer, steps, (layer.len() * most).min(spare));
            curve.iter().map(|cost| curve[0] - cost).collect()
        })
        .collect();
    let shares = slots::allocate(&gains, spare);
    let solve = |(layer, share): (&Vec<Vec<f64>>, u32)| {
        knapsack::solve(layer, steps, share as usize, &[]).expect("the narrowest width always fits")
    };
    costs.iter().zip(shares).map(solve).collect()
}

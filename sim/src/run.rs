//! The run: every recorded step through the simulated machine, in order.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::record::{Run, StepRecord, Totals};
use crate::scenario::Scenario;
use crate::step::{StepOutcome, Stepper};

/// Steps that one task sums up by itself. Fixed, so that float sums have one order on any number
/// of threads.
pub(crate) const STEPS_PER_TASK: usize = 16;

/// Simulates every step of the scenario's recording. `progress` is told how many are done, from
/// any thread.
///
/// The same scenario gives the same bytes on any number of threads.
///
/// # Errors
/// When the recording has no steps.
pub fn run(scenario: &Scenario, progress: &(dyn Fn(usize) + Sync)) -> Result<Run> {
    let steps = scenario.trace.steps().len();
    if steps == 0 {
        return Err(Error::scenario("trace", "no steps", "at least one recorded forward pass"));
    }
    let stepper = Stepper::new(scenario);
    let indices: Vec<usize> = (0..steps).collect();
    let partial: Vec<(Vec<StepRecord>, Totals)> = indices
        .par_chunks(STEPS_PER_TASK)
        .map(|chunk| {
            let summed = sum_up(chunk.iter().map(|&index| stepper.step(index)));
            progress(chunk.len());
            summed
        })
        .collect();
    let mut run = Run { steps: Vec::with_capacity(steps), totals: Totals::default() };
    for (records, totals) in partial {
        run.steps.extend(records);
        add_totals(&mut run.totals, totals);
    }
    check_conservation(scenario, &run);
    Ok(run)
}

fn sum_up(outcomes: impl Iterator<Item = StepOutcome>) -> (Vec<StepRecord>, Totals) {
    let (mut records, mut totals) = (Vec::new(), Totals::default());
    for outcome in outcomes {
        records.push(outcome.record);
        add_totals(&mut totals, outcome.totals);
    }
    (records, totals)
}

pub(crate) fn add_totals(into: &mut Totals, more: Totals) {
    if into.rank_load.is_empty() {
        *into = more;
        return;
    }
    for (sums, loads) in into.rank_load.iter_mut().zip(more.rank_load) {
        for (sum, load) in sums.iter_mut().zip(loads) {
            *sum += load;
        }
    }
    for (sum, layer) in into.layer_imbalance.iter_mut().zip(more.layer_imbalance) {
        sum.0 += layer.0;
        sum.1 += layer.1;
    }
    for (sum, busy) in into.rank_busy.iter_mut().zip(more.rank_busy) {
        *sum += busy;
    }
}

/// Every routed (token, expert) was computed exactly once, in every layer.
pub(crate) fn check_conservation(scenario: &Scenario, run: &Run) {
    for (layer, loads) in (0..).zip(&run.totals.rank_load) {
        let recorded: u64 =
            scenario.trace.layer_loads(moecast_profiles::ids::MoeLayer(layer)).iter().sum();
        let computed: u64 = loads.iter().sum();
        assert_eq!(recorded, computed, "pairs of MoE layer {layer}: recorded against computed");
    }
}

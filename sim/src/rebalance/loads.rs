//! What a window of recorded steps asked of every expert, and how even a placement makes it.

use std::ops::Range;

use moecast_profiles::ids::{ExpertId, MoeLayer};
use moecast_traces::RoutingTrace;
use rayon::prelude::*;

/// `[M][E]` (token, expert) pairs that `trace` recorded in `steps`.
pub(super) fn window(trace: &RoutingTrace, steps: Range<usize>) -> Vec<Vec<f64>> {
    let layers = u16::try_from(trace.header().moe_layers()).expect("layer numbers are u16");
    let experts = usize::from(trace.header().experts);
    let of_layer = |layer: u16| {
        let mut loads = vec![0.0; experts];
        let mut step_loads = vec![0_u32; experts];
        for step in steps.clone() {
            step_loads.fill(0);
            trace.add_step_loads(step, MoeLayer(layer), &mut step_loads);
            for (sum, &load) in loads.iter_mut().zip(&step_loads) {
                *sum += f64::from(load);
            }
        }
        loads
    };
    (0..layers).into_par_iter().map(of_layer).collect()
}

/// `[M][E]` loads of the last `length` steps before each step of `steps`, one after the other.
pub(super) fn windows(
    trace: &RoutingTrace,
    steps: Range<usize>,
    length: usize,
) -> Vec<Vec<Vec<f64>>> {
    let mut windows = vec![window(trace, steps.start.saturating_sub(length)..steps.start)];
    for step in steps.start + 1..steps.end {
        let mut next = windows.last().expect("there is a first").clone();
        // Counts are whole numbers far below 2^53: sums that slide are exact.
        add(&mut next, &window(trace, step - 1..step), 1.0);
        if let Some(left) = (step - 1).checked_sub(length) {
            add(&mut next, &window(trace, left..left + 1), -1.0);
        }
        windows.push(next);
    }
    windows
}

fn add(into: &mut [Vec<f64>], more: &[Vec<f64>], times: f64) {
    for (sums, loads) in into.iter_mut().zip(more) {
        for (sum, load) in sums.iter_mut().zip(loads) {
            *sum += load * times;
        }
    }
}

/// Max over mean rank load of `layers` `[M][P]` on `ranks` ranks under `loads` `[M][E]`, mean over
/// the layers that have load; 1 where none has. The load of an expert is split evenly over its
/// copies.
///
/// # Panics
/// When the slots hold other experts than there are loads of.
#[must_use]
pub fn imbalance_of(layers: &[Vec<ExpertId>], ranks: u16, loads: &[Vec<f64>]) -> f64 {
    let (mut sum, mut loaded) = (0.0, 0_u32);
    for (slots, loads) in layers.iter().zip(loads) {
        let total: f64 = loads.iter().sum();
        if total > 0.0 {
            let most = rank_loads(slots, ranks, loads).into_iter().fold(0.0, f64::max);
            sum += most * f64::from(ranks) / total;
            loaded += 1;
        }
    }
    if loaded > 0 { sum / f64::from(loaded) } else { 1.0 }
}

/// `[R]` load of every rank.
fn rank_loads(slots: &[ExpertId], ranks: u16, loads: &[f64]) -> Vec<f64> {
    let mut copies = vec![0.0_f64; loads.len()];
    for expert in slots {
        copies[expert.index()] += 1.0;
    }
    let share = |expert: &ExpertId| loads[expert.index()] / copies[expert.index()];
    slots
        .chunks(slots.len() / usize::from(ranks))
        .map(|held| held.iter().map(share).sum())
        .collect()
}

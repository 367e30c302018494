//! Steps as they are served: their records, their sums, and what they waited.

use moecast_profiles::units::Nanos;

use crate::record::{Run, Totals};
use crate::run::{STEPS_PER_TASK, add_totals, check_conservation};
use crate::scenario::Scenario;
use crate::step::StepOutcome;

use super::{Moved, Rebalanced, Rebalancing};

/// What has been served so far. Sums are added in the order of [`crate::run()`], so that a
/// placement that never changes gives the same bytes.
pub(super) struct Tape {
    run: Run,
    task: Totals,
    stalls: Vec<Nanos>,
    pub(super) rebalancings: Vec<Rebalancing>,
    pub(super) considered: u64,
    pub(super) calls: u64,
    pub(super) moved: Moved,
}

impl Tape {
    pub(super) fn new() -> Self {
        Self {
            run: Run { steps: Vec::new(), totals: Totals::default() },
            task: Totals::default(),
            stalls: Vec::new(),
            rebalancings: Vec::new(),
            considered: 0,
            calls: 0,
            moved: Moved::default(),
        }
    }

    /// Steps that were served.
    pub(super) fn steps(&self) -> usize {
        self.run.steps.len()
    }

    pub(super) fn push(&mut self, outcome: StepOutcome, stall: Nanos) {
        self.run.steps.push(outcome.record);
        self.stalls.push(stall);
        add_totals(&mut self.task, outcome.totals);
        if self.steps().is_multiple_of(STEPS_PER_TASK) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        add_totals(&mut self.run.totals, std::mem::take(&mut self.task));
    }

    pub(super) fn finish(mut self, scenario: &Scenario) -> Rebalanced {
        if !self.steps().is_multiple_of(STEPS_PER_TASK) {
            self.flush();
        }
        check_conservation(scenario, &self.run);
        let Self { run, stalls, rebalancings, considered, calls, moved, .. } = self;
        Rebalanced { run, stalls, rebalancings, considered, calls, moved }
    }
}

/// What a step waits for weights that take `weights` on the links: tokens have the links during
/// dispatch and combine, weights for the rest of the step.
pub(super) fn delay(outcome: &StepOutcome, weights: Nanos) -> Nanos {
    let parts = &outcome.record.parts;
    let taken = parts.dispatch + parts.combine;
    let free = parts.total().0.saturating_sub(taken.0);
    Nanos(weights.0.saturating_sub(free))
}

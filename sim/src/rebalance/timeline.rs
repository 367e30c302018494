//! The loop: steps are served, loads are looked at, weights arrive.

use std::collections::VecDeque;

use moecast_profiles::ids::{ExpertId, MoeLayer};
use moecast_profiles::units::Nanos;
use rayon::prelude::*;

use super::loads::{imbalance_of, window};
use super::matching::settle;
use super::moving::move_layer;
use super::tape::{Tape, delay};
use super::{How, Moved, Policy, Rebalanced, Rebalancing, check_shape};
use crate::error::Result;
use crate::placement::Placement;
use crate::scenario::Scenario;
use crate::step::{StepOutcome, Stepper};

/// Steps that are simulated together at most: what their outcomes take of memory is bounded.
const STRETCH: usize = 256;
/// The same while an algorithm computes: nobody knows yet which of them it will end in.
const STRETCH_COMPUTING: usize = 16;

/// What is under way besides serving. Layers are `(ordinal, [P] new experts)`.
enum State {
    Idle,
    Computing { left: Nanos, layers: VecDeque<(usize, Vec<ExpertId>)> },
    Moving { layers: VecDeque<(usize, Vec<ExpertId>)>, per_step: usize },
}

struct Course<'a> {
    scenario: Scenario,
    policy: &'a Policy<'a>,
    state: State,
    /// What the next step waits before it begins.
    waits: Nanos,
    tape: Tape,
}

pub(super) fn serve(
    scenario: &Scenario,
    policy: &Policy,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Rebalanced> {
    let mut course = Course {
        scenario: scenario.clone(),
        policy,
        state: State::Idle,
        waits: Nanos(0),
        tape: Tape::new(),
    };
    let steps = scenario.trace.steps().len();
    while course.tape.steps() < steps {
        let from = course.tape.steps();
        if from > 0 && from.is_multiple_of(policy.interval) && matches!(course.state, State::Idle) {
            course.consider()?;
        }
        course.stretch(steps)?;
        progress(course.tape.steps() - from);
    }
    Ok(course.tape.finish(&course.scenario))
}

/// Simulates steps `from..to` with the placement that `scenario` has.
pub(super) fn outcomes(scenario: &Scenario, from: usize, to: usize) -> Vec<StepOutcome> {
    let stepper = Stepper::new(scenario);
    (from..to).into_par_iter().map(|index| stepper.step(index)).collect()
}

impl Course<'_> {
    /// Looks at the window, and asks the algorithm where it is out of balance.
    fn consider(&mut self) -> Result<()> {
        let (step, policy) = (self.tape.steps(), self.policy);
        self.tape.considered += 1;
        let seen = step.saturating_sub(policy.window)..step;
        let loads = window(&self.scenario.trace, seen);
        let served = &self.scenario.placement;
        let before = imbalance_of(served.layers(), served.ranks(), &loads);
        if before <= policy.threshold {
            return Ok(());
        }
        let proposed = (policy.algorithm)(&loads)?;
        check_shape(served, &proposed)?;
        self.tape.calls += 1;
        let layers = changed(&self.scenario, &proposed);
        self.tape.rebalancings.push(Rebalancing {
            step,
            before,
            proposed: imbalance_of(proposed.layers(), proposed.ranks(), &loads),
            moved: Moved::default(),
            stall: Nanos(0),
        });
        if policy.algorithm_beside && policy.algorithm_time > Nanos(0) {
            self.state = State::Computing { left: policy.algorithm_time, layers };
            return Ok(());
        }
        self.wait(policy.algorithm_time);
        self.begin(layers)
    }

    /// The algorithm has answered: weights begin to move.
    fn begin(&mut self, layers: VecDeque<(usize, Vec<ExpertId>)>) -> Result<()> {
        self.state = State::Idle;
        if layers.is_empty() {
            return Ok(());
        }
        match self.policy.how {
            How::LayerByLayer { layers_per_step } => {
                self.state = State::Moving { layers, per_step: layers_per_step };
                Ok(())
            }
            How::Blocking | How::EveryStep => {
                let time = self.arrive(layers)?;
                self.wait(time);
                Ok(())
            }
        }
    }

    /// Makes the next step wait, on account of the last rebalancing.
    fn wait(&mut self, time: Nanos) {
        self.waits += time;
        self.charge(time);
    }

    fn charge(&mut self, time: Nanos) {
        self.tape.rebalancings.last_mut().expect("a rebalancing is under way").stall += time;
    }

    /// Serves up to the next step after which something may change.
    fn stretch(&mut self, steps: usize) -> Result<()> {
        let from = self.tape.steps();
        let next = (from / self.policy.interval + 1).saturating_mul(self.policy.interval);
        let to = match &self.state {
            State::Idle => next.min(from + STRETCH),
            State::Computing { .. } => from + STRETCH_COMPUTING,
            State::Moving { .. } => from + 1,
        };
        for outcome in outcomes(&self.scenario, from, to.min(steps)) {
            let mut stall = std::mem::take(&mut self.waits);
            let time = outcome.record.parts.total() + stall;
            match std::mem::replace(&mut self.state, State::Idle) {
                State::Idle => self.tape.push(outcome, stall),
                State::Computing { left, layers } if left > time => {
                    self.state = State::Computing { left: left - time, layers };
                    self.tape.push(outcome, stall);
                }
                State::Computing { layers, .. } => {
                    self.tape.push(outcome, stall);
                    // The rest of the stretch is served by what has been proposed.
                    return self.begin(layers);
                }
                State::Moving { mut layers, per_step } => {
                    let rest = layers.split_off(per_step.min(layers.len()));
                    let late = delay(&outcome, self.arrive(layers)?);
                    self.charge(late);
                    stall += late;
                    self.tape.push(outcome, stall);
                    if !rest.is_empty() {
                        self.state = State::Moving { layers: rest, per_step };
                    }
                }
            }
        }
        Ok(())
    }

    /// The weights of `layers` arrive, and serve from the next step on; answers how long they
    /// take on the links.
    fn arrive(&mut self, layers: VecDeque<(usize, Vec<ExpertId>)>) -> Result<Nanos> {
        let Scenario { hardware, model, placement, .. } = &self.scenario;
        let expert = model.expert_bytes();
        let mut all = placement.layers().to_vec();
        let mut moved = Moved::default();
        for (ordinal, new) in layers {
            moved.add(&move_layer(hardware, &all[ordinal], &new, expert));
            all[ordinal] = new;
        }
        self.scenario.placement = Placement::new(placement.experts(), placement.ranks(), all)?;
        self.tape.moved.add(&moved);
        let last = self.tape.rebalancings.last_mut().expect("a rebalancing is under way");
        last.moved.add(&moved);
        Ok(moved.time)
    }
}

/// The layers that `proposed` changes, with as few experts moved as is known.
fn changed(scenario: &Scenario, proposed: &Placement) -> VecDeque<(usize, Vec<ExpertId>)> {
    let served = &scenario.placement;
    let settled = |ordinal: usize| {
        let layer = MoeLayer(u16::try_from(ordinal).expect("layer numbers are u16"));
        let old = served.layer(layer);
        let new = settle(&scenario.hardware, old, proposed.layer(layer));
        (new != old).then_some((ordinal, new))
    };
    (0..served.layers().len()).filter_map(settled).collect()
}

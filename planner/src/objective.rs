//! What a search minimises: the expected maximum rank load of a step.
//!
//! The load of an expert is split evenly over its copies; every step is measured in units of its
//! own mean rank load, so that a step of one token weighs as much as a step of a thousand.

mod evaluator;

pub use evaluator::Evaluator;
use moecast_profiles::ids::ExpertId;

use crate::problem::LayerLoads;

/// Recorded steps of one layer, each divided by its mean rank load; steps without load left out.
#[derive(Clone, Debug, PartialEq)]
pub struct StepShares {
    experts: usize,
    steps: usize,
    /// `[E][S]`.
    shares: Vec<f32>,
}

impl StepShares {
    /// The steps of `loads` on `ranks` ranks. Without any step that has load the totals stand in
    /// for one, and without any load at all every expert has the same.
    #[must_use]
    pub fn new(loads: &LayerLoads, ranks: u16) -> Self {
        let experts = loads.total.len();
        let mut rows: Vec<Vec<f64>> = loads
            .steps
            .chunks_exact(experts)
            .map(|row| row.iter().map(|&load| f64::from(load)).collect())
            .collect();
        rows.retain(|row| row.iter().any(|&load| load > 0.0));
        if rows.is_empty() {
            let usable = |load: f32| if load.is_finite() { f64::from(load.max(0.0)) } else { 0.0 };
            let total: Vec<f64> = loads.total.iter().map(|&load| usable(load)).collect();
            let empty = total.iter().all(|&load| load == 0.0);
            rows.push(if empty { vec![1.0; experts] } else { total });
        }
        let steps = rows.len();
        let mut shares = vec![0.0; experts * steps];
        for (step, row) in rows.iter().enumerate() {
            let scale = f64::from(ranks) / row.iter().sum::<f64>();
            for (expert, &load) in row.iter().enumerate() {
                #[expect(clippy::cast_possible_truncation, reason = "a share of one step")]
                let share = (load * scale) as f32;
                shares[expert * steps + step] = share;
            }
        }
        Self { experts, steps, shares }
    }

    /// Logical experts.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// `[S]` load of `expert` in every step, in units of the mean rank load.
    #[must_use]
    pub fn of(&self, expert: usize) -> &[f32] {
        &self.shares[expert * self.steps..(expert + 1) * self.steps]
    }

    /// Only the steps that `keep` accepts.
    #[must_use]
    pub fn select(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.steps).filter(|&step| keep(step)).collect();
        let shares = (0..self.experts)
            .flat_map(|expert| kept.iter().map(move |&step| self.of(expert)[step]))
            .collect();
        Self { experts: self.experts, steps: kept.len(), shares }
    }

    /// Mean over the steps of the maximum over the mean rank load, for the layer whose slots hold
    /// `slots`. Exactly what an incremental search converges to, computed afresh.
    #[must_use]
    pub fn expected_maximum(&self, slots: &[ExpertId], ranks: u16) -> f64 {
        let per_rank = slots.len() / usize::from(ranks);
        let mut copies = vec![0_u32; self.experts];
        for expert in slots {
            copies[expert.index()] += 1;
        }
        let mut maximum = vec![0.0_f64; self.steps];
        let mut load = vec![0.0_f64; self.steps];
        for held in slots.chunks_exact(per_rank) {
            load.fill(0.0);
            for expert in held {
                let share = 1.0 / f64::from(copies[expert.index()]);
                for (sum, &of_step) in load.iter_mut().zip(self.of(expert.index())) {
                    *sum += share * f64::from(of_step);
                }
            }
            for (most, &sum) in maximum.iter_mut().zip(&load) {
                *most = most.max(sum);
            }
        }
        mean(&maximum)
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 steps")]
fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 1.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(total: &[f32], steps: &[u32]) -> StepShares {
        StepShares::new(&LayerLoads { total: total.to_vec(), steps: steps.to_vec() }, 2)
    }

    #[test]
    fn solvable_by_hand() {
        // Two steps on two ranks. Expert 0 has two copies, one on each rank.
        let steps = shares(&[0.0; 3], &[4, 2, 0, /* empty */ 0, 0, 0, /* one expert */ 0, 0, 6]);
        assert_eq!(steps.steps(), 2);
        // Means 3 and 3: rank 0 has 2 + 2 and 0, rank 1 has 2 + 0 and 6.
        let value = steps.expected_maximum(&[0, 1, 0, 2].map(ExpertId), 2);
        assert!((value - (4.0 / 3.0 + 6.0 / 3.0) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn without_steps_totals_stand_in_and_without_those_equal_loads() {
        // Totals 3 and 1 on ranks of one expert each: the mean is 2.
        assert!((shares(&[3.0, 1.0], &[]).of(0)[0] - 1.5).abs() < 1e-6);
        assert!((shares(&[0.0, 0.0], &[0, 0]).of(1)[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn selected_steps_keep_their_order() {
        let steps = shares(&[0.0; 2], &[1, 0, 0, 1, 1, 1]).select(|step| step != 1);
        assert_eq!(steps.of(0), [2.0, 1.0]);
        assert_eq!(steps.of(1), [0.0, 1.0]);
    }
}

//! Experts in order: slot `s` holds expert `s % E`, so that a rank holds consecutive experts and
//! the redundant slots hold experts 0, 1, 2 and so on. Knows nothing of load: the baseline that
//! every engine starts from.
//!
//! SGLang's trivial initial placement (`--init-expert-location trivial`) and vLLM's
//! `--expert-placement-strategy linear`.
//!
//! Cost: one write per slot. No deviation; a rank's block of at most `E` consecutive slots never
//! holds an expert twice.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use super::{Entry, per_layer};
use crate::error::Result;
use crate::problem::Problem;

pub(super) const ENTRY: Entry =
    Entry { name: "linear", about: "experts in order of their number (baseline)", propose };

fn propose(problem: &Problem, _seed: Seed) -> Result<Placement> {
    per_layer(problem, |_| Ok(slots(problem).collect()))
}

/// The expert of every slot, in every layer.
pub(super) fn slots(problem: &Problem) -> impl Iterator<Item = ExpertId> {
    let experts = problem.experts;
    (0..problem.slots).map(move |slot| ExpertId(slot % experts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Shape;

    #[test]
    fn redundant_slots_start_again_at_expert_zero() {
        let shape = Shape { ranks: 3, nodes: 1, groups: 1, slots: 6 };
        let problem = Problem::from_weights(&[vec![1.0; 4]], shape).unwrap();
        let placement = propose(&problem, Seed(0)).unwrap();
        assert_eq!(placement.layers()[0], [0, 1, 2, 3, 0, 1].map(ExpertId));
    }
}

//! The search driver: the space says what a swap of two slots would change, the driver decides
//! which swaps to try and when to stop, and keeps a record of every sweep.

mod layout;

pub use layout::Layout;
use moecast_profiles::seed::Generator;
use rand::seq::SliceRandom;

/// What is searched: a layout and what swaps do to its value. Lower is better.
pub trait Space {
    /// The layout as it stands.
    fn layout(&self) -> &Layout;

    /// The value of the layout as it stands.
    fn value(&self) -> f64;

    /// What the value would change by if the experts of two slots changed places. Asked only for
    /// pairs that [`Layout::may_swap`] allows.
    fn swap_change(&mut self, left: usize, right: usize) -> f64;

    /// Lets the experts of two slots change places.
    fn swap(&mut self, left: usize, right: usize);
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// No swap of two slots improves the value by more than the tolerance.
    LocalOptimum,
    /// As many pairs of slots were looked at as were allowed.
    EvaluationBudget,
}

/// One sweep over all slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// Pairs of slots looked at in this sweep, those that must not be swapped included: a layout
    /// that allows hardly any swap ends too.
    pub evaluations: u64,
    /// Swaps made in this sweep.
    pub swaps: u64,
    /// The value after it.
    pub value: f64,
}

/// What a search did.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Why it ended.
    pub stop: StopReason,
    /// Every sweep, the last one possibly cut short.
    pub sweeps: Vec<Sweep>,
}

impl Record {
    /// Pairs of slots looked at in all sweeps.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.sweeps.iter().map(|sweep| sweep.evaluations).sum()
    }
}

/// How long a search may go on. Counts, not seconds: the same answer on every machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Most pairs of slots to look at.
    pub evaluations: u64,
    /// A swap must improve the value by more than this share of the first value.
    pub tolerance: f64,
}

/// Sweeps over all slots in random order; each slot makes the swap that improves the value most.
/// Ends when a sweep makes none, or the budget is spent.
pub fn descend(space: &mut impl Space, budget: Budget, generator: &mut Generator) -> Record {
    let slots = space.layout().slots().len();
    let least = -budget.tolerance * space.value().abs();
    let mut order: Vec<usize> = (0..slots).collect();
    let mut record = Record { stop: StopReason::LocalOptimum, sweeps: Vec::new() };
    let mut left_over = budget.evaluations;
    loop {
        order.shuffle(generator);
        let mut sweep = Sweep { evaluations: 0, swaps: 0, value: 0.0 };
        for &slot in &order {
            let (best, evaluations) = best_partner(space, slot, least);
            sweep.evaluations += evaluations;
            if let Some(partner) = best {
                space.swap(slot, partner);
                sweep.swaps += 1;
            }
            if sweep.evaluations >= left_over {
                record.stop = StopReason::EvaluationBudget;
                break;
            }
        }
        sweep.value = space.value();
        record.sweeps.push(sweep);
        if sweep.swaps == 0 || record.stop == StopReason::EvaluationBudget {
            return record;
        }
        left_over -= sweep.evaluations;
    }
}

/// The partner whose swap with `slot` changes the value by the least below `least`, and how many
/// pairs were looked at to know.
fn best_partner(space: &mut impl Space, slot: usize, least: f64) -> (Option<usize>, u64) {
    let slots = space.layout().slots().len();
    let (mut best, mut best_change, mut evaluations) = (None, least, 0);
    for partner in 0..slots {
        evaluations += 1;
        if !space.layout().may_swap(slot, partner) {
            continue;
        }
        let change = space.swap_change(slot, partner);
        if change < best_change {
            (best, best_change) = (Some(partner), change);
        }
    }
    (best, evaluations)
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;

    use super::*;

    /// Value: the sum over ranks of the squared sum of expert numbers.
    struct Squares(Layout);

    impl Squares {
        fn of(layout: &Layout) -> f64 {
            let rank = |slots: &[usize]| slots.iter().map(|&e| e as f64).sum::<f64>().powi(2);
            layout.slots().chunks_exact(layout.per_rank()).map(rank).sum()
        }
    }

    impl Space for Squares {
        fn layout(&self) -> &Layout {
            &self.0
        }
        fn value(&self) -> f64 {
            Self::of(&self.0)
        }
        fn swap_change(&mut self, left: usize, right: usize) -> f64 {
            let mut after = self.0.clone();
            after.swap(left, right);
            Self::of(&after) - self.value()
        }
        fn swap(&mut self, left: usize, right: usize) {
            self.0.swap(left, right);
        }
    }

    fn check(evaluations: u64, stop: StopReason, value: f64) {
        let mut space = Squares(Layout::new(4, 2, vec![0, 1, 2, 3]));
        let budget = Budget { evaluations, tolerance: 1e-9 };
        let record = descend(&mut space, budget, &mut Seed(1).stream("search"));
        assert_eq!(record.stop, stop);
        assert!((space.value() - value).abs() < 1e-12, "{record:?}");
        assert!((record.sweeps.last().unwrap().value - value).abs() < 1e-12);
    }

    #[test]
    fn stops_at_the_optimum_or_when_the_budget_is_spent() {
        // 0 + 3 against 1 + 2: 9 + 9, where 1 and 25 was the start.
        check(1_000, StopReason::LocalOptimum, 18.0);
        // The first slot evaluates both its partners, makes the better swap, and that is all.
        check(1, StopReason::EvaluationBudget, 18.0);
    }
}

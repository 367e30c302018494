//! The recorded maximum and the pairs, one part each: the maximum is what counts, the pairs keep
//! the search from learning the recording by heart.

use super::pairs::Pairs;
use crate::objective::Evaluator;
use crate::search::{Layout, Space};

/// Sum of both values, each in units of what it was at the start.
#[derive(Clone, Debug)]
pub(super) struct Blend<'a> {
    steps: Evaluator<'a>,
    pairs: Pairs<'a>,
    steps_unit: f64,
    pairs_unit: f64,
}

impl<'a> Blend<'a> {
    /// Both must be of one layout.
    pub(super) fn new(steps: Evaluator<'a>, pairs: Pairs<'a>) -> Self {
        assert_eq!(steps.layout(), pairs.layout(), "one layout");
        let (steps_unit, pairs_unit) = (1.0 / steps.value(), 1.0 / pairs.value());
        Self { steps, pairs, steps_unit, pairs_unit }
    }

    pub(super) fn into_layout(self) -> Layout {
        self.pairs.into_layout()
    }
}

impl Space for Blend<'_> {
    fn layout(&self) -> &Layout {
        self.pairs.layout()
    }

    fn value(&self) -> f64 {
        self.steps_unit * self.steps.value() + self.pairs_unit * self.pairs.value()
    }

    fn swap_change(&mut self, left: usize, right: usize) -> f64 {
        self.steps_unit * self.steps.swap_change(left, right)
            + self.pairs_unit * self.pairs.swap_change(left, right)
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.steps.swap(left, right);
        self.pairs.swap(left, right);
    }
}

//! Draws of a scenario, from one named stream.

use std::ops::RangeInclusive;

use moecast_profiles::seed::{Generator, Seed};
use rand::RngExt;

pub(super) struct Dice(Generator);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Seed(seed).stream("serving/swarm"))
    }

    pub(super) fn chance(&mut self, chance: f64) -> bool {
        self.0.random_bool(chance)
    }

    pub(super) fn within(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }

    pub(super) fn among<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len() as u64) as usize]
    }

    /// Half the time small, sometimes up to `most`: a length or a gap from 1 on.
    pub(super) fn skewed(&mut self, most: u32) -> u32 {
        let top = self.within(0..=most.max(1).ilog2());
        self.within(1..=(1 << top).min(most.max(1)))
    }
}

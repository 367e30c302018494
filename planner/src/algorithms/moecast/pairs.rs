//! The expected sum of squared rank loads: a smooth stand-in for the maximum that depends on pairs
//! of experts only, so that a swap is evaluated in constant time and few steps suffice.

use super::moments::Moments;
use crate::search::{Layout, Space};

/// What changes on one rank: a share of one expert given away, a share of another taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) given: usize,
    pub(super) given_share: f64,
    pub(super) taken: usize,
    pub(super) taken_share: f64,
}

/// Sum over ranks of the mean squared load, as a [`Space`].
#[derive(Clone, Debug)]
pub(super) struct Pairs<'a> {
    moments: &'a Moments,
    layout: Layout,
    /// `[R x E]` mean product of the rank's load and the expert's share.
    field: Vec<f64>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(moments: &'a Moments, layout: Layout) -> Self {
        let mut pairs = Self { moments, layout, field: Vec::new() };
        pairs.rebuild();
        pairs
    }

    fn rebuild(&mut self) {
        let experts = self.moments.experts();
        self.field.clear();
        self.field.resize(self.layout.ranks() * experts, 0.0);
        for (slot, &expert) in self.layout.slots().iter().enumerate() {
            let share = self.layout.share(expert);
            let rank = self.layout.rank_of(slot) * experts;
            for (sum, &moment) in
                self.field[rank..rank + experts].iter_mut().zip(self.moments.row(expert))
            {
                *sum += share * moment;
            }
        }
    }

    pub(super) fn into_layout(self) -> Layout {
        self.layout
    }

    pub(super) fn moments(&self) -> &'a Moments {
        self.moments
    }

    /// The exchange, seen from the left slot's rank, when two slots are swapped.
    pub(super) fn exchange(&self, left: usize, right: usize) -> Exchange {
        let (given, taken) = (self.layout.slots()[left], self.layout.slots()[right]);
        Exchange {
            given,
            given_share: self.layout.share(given),
            taken,
            taken_share: self.layout.share(taken),
        }
    }

    /// Mean squared load of `rank`.
    pub(super) fn square(&self, rank: usize) -> f64 {
        let per_rank = self.layout.per_rank();
        let held = &self.layout.slots()[rank * per_rank..(rank + 1) * per_rank];
        held.iter().map(|&expert| self.layout.share(expert) * self.at(rank, expert)).sum()
    }

    fn at(&self, rank: usize, expert: usize) -> f64 {
        self.field[rank * self.moments.experts() + expert]
    }

    /// What an exchange does to the mean squared load of `rank`.
    pub(super) fn square_change(&self, rank: usize, exchange: Exchange) -> f64 {
        let Exchange { given, given_share, taken, taken_share } = exchange;
        let linear = taken_share * self.at(rank, taken) - given_share * self.at(rank, given);
        2.0 * linear + self.square_of(exchange)
    }

    /// Mean square of what is exchanged.
    fn square_of(&self, exchange: Exchange) -> f64 {
        let Exchange { given, given_share, taken, taken_share } = exchange;
        given_share * given_share * self.moments.second(given, given)
            + taken_share * taken_share * self.moments.second(taken, taken)
            - 2.0 * given_share * taken_share * self.moments.second(given, taken)
    }

    /// For every slot whose expert has other copies: puts in the expert that lowers the sum most,
    /// if any does. Answers the replacements made.
    pub(super) fn replace_copies(&mut self, order: &[usize]) -> u32 {
        let least = -1e-9 * self.value();
        let mut made = 0;
        for &slot in order {
            if self.layout.copies(self.layout.slots()[slot]) < 2 {
                continue;
            }
            let rank = self.layout.rank_of(slot);
            let best = (0..self.moments.experts())
                .filter(|&expert| !self.layout.holds(rank, expert))
                .map(|expert| (self.replacement_change(slot, expert), expert))
                .min_by(|left, right| left.0.total_cmp(&right.0));
            if let Some((_, expert)) = best.filter(|(change, _)| *change < least) {
                self.layout.replace(slot, expert);
                self.rebuild();
                made += 1;
            }
        }
        made
    }

    /// What the sum would change by if `slot` held `expert` instead of a spare copy.
    fn replacement_change(&self, slot: usize, expert: usize) -> f64 {
        let old = self.layout.slots()[slot];
        let own = self.layout.rank_of(slot);
        let (old_share, share) = (self.layout.share(old), self.layout.share(expert));
        let old_share_after = 1.0 / f64::from(self.layout.copies(old) - 1);
        let share_after = 1.0 / f64::from(self.layout.copies(expert) + 1);
        (0..self.layout.ranks())
            .map(|rank| {
                let (given_share, taken_share) = if rank == own {
                    (old_share, share_after)
                } else {
                    let held = |expert| f64::from(u8::from(self.layout.holds(rank, expert)));
                    (
                        (old_share - old_share_after) * held(old),
                        (share_after - share) * held(expert),
                    )
                };
                if given_share == 0.0 && taken_share == 0.0 {
                    return 0.0;
                }
                let exchange = Exchange { given: old, given_share, taken: expert, taken_share };
                self.square_change(rank, exchange)
            })
            .sum()
    }
}

impl Exchange {
    /// The same exchange, seen from the other rank.
    pub(super) fn reversed(self) -> Self {
        Self {
            given: self.taken,
            given_share: self.taken_share,
            taken: self.given,
            taken_share: self.given_share,
        }
    }
}

impl Space for Pairs<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn value(&self) -> f64 {
        (0..self.layout.ranks()).map(|rank| self.square(rank)).sum()
    }

    fn swap_change(&mut self, left: usize, right: usize) -> f64 {
        let exchange = self.exchange(left, right);
        let (from, to) = (self.layout.rank_of(left), self.layout.rank_of(right));
        let Exchange { given, given_share, taken, taken_share } = exchange;
        let out = given_share * (self.at(to, given) - self.at(from, given));
        let back = taken_share * (self.at(from, taken) - self.at(to, taken));
        2.0 * (out + back + self.square_of(exchange))
    }

    fn swap(&mut self, left: usize, right: usize) {
        let Exchange { given, given_share, taken, taken_share } = self.exchange(left, right);
        let experts = self.moments.experts();
        let from = self.layout.rank_of(left) * experts;
        let to = self.layout.rank_of(right) * experts;
        let rows = self.moments.row(given).iter().zip(self.moments.row(taken));
        for (expert, (&of_given, &of_taken)) in rows.enumerate() {
            let moved = given_share * of_given - taken_share * of_taken;
            self.field[from + expert] -= moved;
            self.field[to + expert] += moved;
        }
        self.layout.swap(left, right);
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;
    use rand::RngExt;

    use super::*;
    use crate::objective::StepShares;
    use crate::problem::LayerLoads;

    #[test]
    fn changes_are_those_of_the_value_computed_afresh() {
        let mut generator = Seed(5).stream("test");
        let steps: Vec<u32> = (0..30 * 10).map(|_| generator.random_range(0..5)).collect();
        let shares = StepShares::new(&LayerLoads { total: vec![0.0; 10], steps }, 4);
        let moments = Moments::new(&shares).shrunk(0.5);
        let slots = (0..16).map(|slot| slot % 10).collect();
        let mut pairs = Pairs::new(&moments, Layout::new(10, 4, slots));
        for _ in 0..300 {
            let left = generator.random_range(0..16_u32) as usize;
            let right = generator.random_range(0..16_u32) as usize;
            let expert = generator.random_range(0..10_u32) as usize;
            let before = pairs.value();
            let mut after = pairs.layout().clone();
            let change = if pairs.layout().may_swap(left, right) {
                let change = pairs.swap_change(left, right);
                after.swap(left, right);
                pairs.swap(left, right);
                change
            } else if after.copies(after.slots()[left]) > 1
                && !after.holds(after.rank_of(left), expert)
            {
                after.replace(left, expert);
                let change = pairs.replacement_change(left, expert);
                pairs.layout.replace(left, expert);
                pairs.rebuild();
                change
            } else {
                continue;
            };
            let afresh = Pairs::new(&moments, after).value();
            assert!((pairs.value() - afresh).abs() < 1e-9);
            assert!((before + change - afresh).abs() < 1e-9);
        }
    }
}

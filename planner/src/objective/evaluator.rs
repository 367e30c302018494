//! The expected maximum rank load, kept up to date while slots are swapped.

use super::StepShares;
use crate::search::{Layout, Space};

/// Ranks whose loads are the largest in a step; one that is free of two given ranks is among three.
const HIGHEST: usize = 3;
/// Sums are made in so many lanes, then added in order: fast, and the same on every machine.
const LANES: usize = 8;

/// The objective of one layer as a [`Space`]. A swap is evaluated in `O(steps)`.
#[derive(Clone, Debug)]
pub struct Evaluator<'a> {
    shares: &'a StepShares,
    layout: Layout,
    /// `[R][S]` load of every rank in every step.
    loads: Vec<f32>,
    /// `[3][S]` the largest loads, descending, and the ranks that have them.
    highest: [Vec<f32>; HIGHEST],
    highest_rank: [Vec<u32>; HIGHEST],
}

impl<'a> Evaluator<'a> {
    /// Computes everything afresh.
    #[must_use]
    pub fn new(shares: &'a StepShares, layout: Layout) -> Self {
        let steps = shares.steps();
        let mut loads = vec![0.0; layout.ranks() * steps];
        for (slot, &expert) in layout.slots().iter().enumerate() {
            let share = share_of(&layout, expert);
            let rank = layout.rank_of(slot) * steps;
            for (load, &of_step) in loads[rank..rank + steps].iter_mut().zip(shares.of(expert)) {
                *load += share * of_step;
            }
        }
        let highest = std::array::from_fn(|_| vec![0.0; steps]);
        let highest_rank = std::array::from_fn(|_| vec![u32::MAX; steps]);
        let mut evaluator = Self { shares, layout, loads, highest, highest_rank };
        for step in 0..steps {
            evaluator.rank_step(step);
        }
        evaluator
    }

    /// The layout that was searched.
    #[must_use]
    pub fn into_layout(self) -> Layout {
        self.layout
    }

    /// Finds the highest loads of one step anew.
    fn rank_step(&mut self, step: usize) {
        for place in 0..HIGHEST {
            self.highest[place][step] = f32::NEG_INFINITY;
            self.highest_rank[place][step] = u32::MAX;
        }
        for rank in 0..self.layout.ranks() {
            self.insert(step, rank);
        }
    }

    /// Enters a rank that is not among the highest of a step.
    fn insert(&mut self, step: usize, rank: usize) {
        let steps = self.shares.steps();
        let mut load = self.loads[rank * steps + step];
        if load <= self.highest[HIGHEST - 1][step] {
            return;
        }
        let mut rank = u32::try_from(rank).expect("ranks are u16");
        for place in 0..HIGHEST {
            if load > self.highest[place][step] {
                std::mem::swap(&mut load, &mut self.highest[place][step]);
                std::mem::swap(&mut rank, &mut self.highest_rank[place][step]);
            }
        }
    }

    fn rank_loads(&self, rank: usize) -> &[f32] {
        let steps = self.shares.steps();
        &self.loads[rank * steps..(rank + 1) * steps]
    }
}

fn share_of(layout: &Layout, expert: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "copies are at most 65535")]
    let copies = layout.copies(expert) as f32;
    1.0 / copies
}

/// Two experts that would change places: the share of their load per copy, and their ranks.
struct Swap {
    shares: (f32, f32),
    ranks: (u32, u32),
}

/// What a swap has to know of every step; all of `[S]`.
struct Columns<'a> {
    given: &'a [f32],
    taken: &'a [f32],
    from: &'a [f32],
    to: &'a [f32],
    highest: [&'a [f32]; HIGHEST],
    highest_rank: [&'a [u32]; HIGHEST - 1],
}

impl Swap {
    /// What the maximum of one step would change by.
    #[inline(always)]
    fn change(&self, loads: [f32; 4], highest: [f32; HIGHEST], ranks: [u32; HIGHEST - 1]) -> f32 {
        let [given, taken, from, to] = loads;
        let moved = self.shares.0 * given - self.shares.1 * taken;
        let stays = |rank: u32| (rank != self.ranks.0) & (rank != self.ranks.1);
        let lower = if stays(ranks[1]) { highest[1] } else { highest[2] };
        let others = if stays(ranks[0]) { highest[0] } else { lower };
        larger(larger(from - moved, to + moved), others) - highest[0]
    }

    /// Sum of the changes of all steps, in lanes: blocks of fixed size become vector code.
    fn sum_of_changes(&self, columns: &Columns<'_>) -> f32 {
        let Columns { given, taken, from, to, highest, highest_rank } = columns;
        let [first, second, third] = highest;
        let [first_rank, second_rank] = highest_rank;
        let steps = given.len();
        let blocks = given.as_chunks::<LANES>().0.iter();
        let blocks = blocks.zip(taken.as_chunks::<LANES>().0);
        let blocks = blocks.zip(from.as_chunks::<LANES>().0.iter().zip(to.as_chunks::<LANES>().0));
        let highest = first.as_chunks::<LANES>().0.iter().zip(second.as_chunks::<LANES>().0);
        let highest = highest.zip(third.as_chunks::<LANES>().0);
        let ranks = first_rank.as_chunks::<LANES>().0.iter();
        let ranks = ranks.zip(second_rank.as_chunks::<LANES>().0);
        let mut lanes = [0.0_f32; LANES];
        for ((((given, taken), (from, to)), ((first, second), third)), (first_rank, second_rank)) in
            blocks.zip(highest).zip(ranks)
        {
            for lane in 0..LANES {
                let loads = [given[lane], taken[lane], from[lane], to[lane]];
                let highest = [first[lane], second[lane], third[lane]];
                lanes[lane] += self.change(loads, highest, [first_rank[lane], second_rank[lane]]);
            }
        }
        let rest = (steps / LANES * LANES..steps).map(|step| {
            let loads = [given[step], taken[step], from[step], to[step]];
            let highest = [first[step], second[step], third[step]];
            self.change(loads, highest, [first_rank[step], second_rank[step]])
        });
        lanes.iter().sum::<f32>() + rest.sum::<f32>()
    }
}

/// The larger of two numbers that are not NaN; compiles to one instruction.
#[inline(always)]
fn larger(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

impl Space for Evaluator<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Mean over the steps of the maximum rank load, in units of the mean rank load.
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 steps")]
    fn value(&self) -> f64 {
        let sum: f64 = self.highest[0].iter().map(|&load| f64::from(load)).sum();
        sum / self.shares.steps() as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 steps")]
    fn swap_change(&mut self, left: usize, right: usize) -> f64 {
        let (from, to) = (self.layout.rank_of(left), self.layout.rank_of(right));
        let (given, taken) = (self.layout.slots()[left], self.layout.slots()[right]);
        let rank = |rank| u32::try_from(rank).expect("ranks are u16");
        let swap = Swap {
            shares: (share_of(&self.layout, given), share_of(&self.layout, taken)),
            ranks: (rank(from), rank(to)),
        };
        let [first, second, third] = &self.highest;
        let [first_rank, second_rank, _] = &self.highest_rank;
        let changes = swap.sum_of_changes(&Columns {
            given: self.shares.of(given),
            taken: self.shares.of(taken),
            from: self.rank_loads(from),
            to: self.rank_loads(to),
            highest: [first, second, third],
            highest_rank: [first_rank, second_rank],
        });
        f64::from(changes) / self.shares.steps() as f64
    }

    fn swap(&mut self, left: usize, right: usize) {
        let steps = self.shares.steps();
        let (from, to) = (self.layout.rank_of(left), self.layout.rank_of(right));
        let (given, taken) = (self.layout.slots()[left], self.layout.slots()[right]);
        let given_share = share_of(&self.layout, given);
        let taken_share = share_of(&self.layout, taken);
        for step in 0..steps {
            let moved = given_share * self.shares.of(given)[step]
                - taken_share * self.shares.of(taken)[step];
            if moved == 0.0 {
                continue;
            }
            self.loads[from * steps + step] -= moved;
            self.loads[to * steps + step] += moved;
            let was_high = |ranks: &Vec<u32>| {
                let rank = ranks[step] as usize;
                rank == from || rank == to
            };
            if self.highest_rank.iter().any(was_high) {
                self.rank_step(step);
            } else {
                self.insert(step, from);
                self.insert(step, to);
            }
        }
        self.layout.swap(left, right);
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::ExpertId;
    use moecast_profiles::seed::Seed;
    use rand::RngExt;

    use super::*;
    use crate::problem::LayerLoads;

    #[test]
    fn solvable_by_hand() {
        // One step: loads 4, 3, 2, 1 on two ranks, mean 5. Linear: 7 and 3.
        let loads = LayerLoads { total: vec![], steps: vec![4, 3, 2, 1] };
        let loads = LayerLoads { total: vec![0.0; 4], ..loads };
        let shares = StepShares::new(&loads, 2);
        let mut evaluator = Evaluator::new(&shares, Layout::new(4, 2, vec![0, 1, 2, 3]));
        assert!((evaluator.value() - 1.4).abs() < 1e-6);
        // 3 for 1: 5 and 5. 4 for 1: 4 and 6.
        assert!((evaluator.swap_change(1, 3) - (1.0 - 1.4)).abs() < 1e-6);
        assert!((evaluator.swap_change(0, 3) - (1.2 - 1.4)).abs() < 1e-6);
        evaluator.swap(1, 3);
        assert!((evaluator.value() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn after_any_swaps_the_value_is_the_one_computed_afresh() {
        let mut generator = Seed(3).stream("test");
        let steps: Vec<u32> = (0..20 * 12).map(|_| generator.random_range(0..9)).collect();
        let shares = StepShares::new(&LayerLoads { total: vec![0.0; 12], steps }, 5);
        let slots: Vec<usize> = (0..15).map(|slot| slot % 12).collect();
        let mut evaluator = Evaluator::new(&shares, Layout::new(12, 5, slots));
        for _ in 0..200 {
            let left = generator.random_range(0..15_u32) as usize;
            let right = generator.random_range(0..15_u32) as usize;
            if !evaluator.layout().may_swap(left, right) {
                continue;
            }
            let expected = evaluator.value() + evaluator.swap_change(left, right);
            evaluator.swap(left, right);
            assert!((evaluator.value() - expected).abs() < 1e-5);
            let ids: Vec<ExpertId> = evaluator.layout().clone().into_ids();
            assert!((evaluator.value() - shares.expected_maximum(&ids, 5)).abs() < 1e-5);
        }
    }
}

//! The sum over ranks of the exponential moment of a normal load: an upper bound of the expected
//! maximum that weighs a rank's mean against its variance as the number of ranks demands. With
//! many ranks the rank that is high on average is worse than [`super::pairs`] thinks.

use super::pairs::{Exchange, Pairs};
use crate::search::{Layout, Space};

/// Of the exponent that is best when all ranks are normal and alike: half of it generalised best.
const EXPONENT_SCALE: f64 = 0.5;
/// Largest exponent that is taken; keeps everything finite.
const EXPONENT_MAX: f64 = 300.0;

/// Mean and mean square of a rank's load.
#[derive(Clone, Copy, Debug)]
struct Load {
    mean: f64,
    square: f64,
}

/// The bound as a [`Space`].
#[derive(Clone, Debug)]
pub(super) struct Tail<'a> {
    pairs: Pairs<'a>,
    exponent: f64,
    loads: Vec<Load>,
    terms: Vec<f64>,
}

impl<'a> Tail<'a> {
    pub(super) fn new(pairs: Pairs<'a>) -> Self {
        let ranks = pairs.layout().ranks();
        let loads: Vec<Load> = (0..ranks).map(|rank| load(&pairs, rank)).collect();
        let ranks = f64::from(u16::try_from(ranks).expect("ranks are u16"));
        let variance =
            loads.iter().map(|load| (load.square - load.mean * load.mean).max(0.0)).sum::<f64>();
        let exponent = EXPONENT_SCALE * (2.0 * ranks.ln() / (variance / ranks).max(1e-6)).sqrt();
        let terms = loads.iter().map(|&load| term(exponent, load)).collect();
        Self { pairs, exponent, loads, terms }
    }

    pub(super) fn into_pairs(self) -> Pairs<'a> {
        self.pairs
    }

    /// The loads of both ranks after a swap.
    fn after(&self, left: usize, right: usize) -> (Load, Load) {
        let exchange = self.pairs.exchange(left, right);
        let layout = self.pairs.layout();
        let after = |rank: usize, exchange: Exchange| {
            let means = self.pairs.moments().means();
            let moved = exchange.taken_share * means[exchange.taken]
                - exchange.given_share * means[exchange.given];
            let Load { mean, square } = self.loads[rank];
            let change = self.pairs.square_change(rank, exchange);
            Load { mean: mean + moved, square: square + change }
        };
        (after(layout.rank_of(left), exchange), after(layout.rank_of(right), exchange.reversed()))
    }
}

fn load(pairs: &Pairs<'_>, rank: usize) -> Load {
    let layout = pairs.layout();
    let held = &layout.slots()[rank * layout.per_rank()..(rank + 1) * layout.per_rank()];
    let means = pairs.moments().means();
    let mean = held.iter().map(|&expert| layout.share(expert) * means[expert]).sum();
    Load { mean, square: pairs.square(rank) }
}

/// The exponential moment of a normal load, loads being measured from the mean rank load, 1.
fn term(exponent: f64, Load { mean, square }: Load) -> f64 {
    let variance = (square - mean * mean).max(0.0);
    (exponent * (mean - 1.0) + exponent * exponent * variance / 2.0).min(EXPONENT_MAX).exp()
}

impl Space for Tail<'_> {
    fn layout(&self) -> &Layout {
        self.pairs.layout()
    }

    fn value(&self) -> f64 {
        self.terms.iter().sum()
    }

    fn swap_change(&mut self, left: usize, right: usize) -> f64 {
        let (from, to) = (self.layout().rank_of(left), self.layout().rank_of(right));
        let (of_from, of_to) = self.after(left, right);
        let after = term(self.exponent, of_from) + term(self.exponent, of_to);
        after - self.terms[from] - self.terms[to]
    }

    fn swap(&mut self, left: usize, right: usize) {
        let (from, to) = (self.layout().rank_of(left), self.layout().rank_of(right));
        let (of_from, of_to) = self.after(left, right);
        self.pairs.swap(left, right);
        for (rank, load) in [(from, of_from), (to, of_to)] {
            self.loads[rank] = load;
            self.terms[rank] = term(self.exponent, load);
        }
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;
    use rand::RngExt;

    use super::super::moments::Moments;
    use super::*;
    use crate::objective::StepShares;
    use crate::problem::LayerLoads;

    #[test]
    fn changes_are_those_of_the_value() {
        let mut generator = Seed(5).stream("test");
        let steps: Vec<u32> = (0..30 * 10).map(|_| generator.random_range(0..5)).collect();
        let shares = StepShares::new(&LayerLoads { total: vec![0.0; 10], steps }, 4);
        let moments = Moments::new(&shares).shrunk(0.5);
        let slots = (0..12).map(|slot| slot % 10).collect();
        let mut tail = Tail::new(Pairs::new(&moments, Layout::new(10, 4, slots)));
        for _ in 0..100 {
            let left = generator.random_range(0..12_u32) as usize;
            let right = generator.random_range(0..12_u32) as usize;
            if tail.layout().may_swap(left, right) {
                let expected = tail.value() + tail.swap_change(left, right);
                tail.swap(left, right);
                assert!((tail.value() - expected).abs() < 1e-9);
                let rank = tail.layout().rank_of(left);
                let afresh = load(&tail.pairs, rank);
                assert!((tail.loads[rank].mean - afresh.mean).abs() < 1e-9);
                assert!((tail.loads[rank].square - afresh.square).abs() < 1e-9);
            }
        }
    }
}

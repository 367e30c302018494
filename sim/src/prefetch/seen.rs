//! The true routing to come, seen through an accuracy: what stands in for trained predictors. Each
//! true distinct expert of a layer is kept with the given probability, else another expert of the
//! layer, one that no token chose, takes its place, its tokens and its gate weights: how much an
//! expert matters is predicted as well as which it is.
//!
//! The wrong experts are drawn without replacement by their load in training, plus one token each,
//! so that uniformly where nothing was trained: a predictor errs towards what is popular. All draws
//! hang on the seed, the pass and the layer alone. So a layer that is looked at again from nearer
//! keeps what was right, and a higher accuracy only turns wrong picks into right ones. Where so
//! many experts are chosen that no wrong ones are left, predictions are right. Cost: a few draws a
//! predicted expert, one logarithmic search a wrong one.

use moecast_profiles::seed::Generator;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::{Demand, Setting, View};

/// Draws by load before the next expert in order is taken instead.
const DRAWS_MAX: usize = 32;

/// Share of right predictions one layer ahead, and at two or three (HOBBIT, arXiv 2411.01433).
const ONE_AHEAD: f64 = 0.96;
/// See [`ONE_AHEAD`]: the error at two layers is two and a half times that at one.
const ERROR_AT_TWO: f64 = 2.5;

/// Looks at the routing to come.
pub(super) struct Seen {
    base: u64,
    layers: usize,
    /// `[M][E]` running sums of training load plus one.
    sums: Vec<Vec<u64>>,
    drawn: Vec<u16>,
    chosen: Vec<bool>,
}

impl Seen {
    /// `name` is that of the prefetcher: each sees with its own luck.
    pub(super) fn new(setting: &Setting, name: &str) -> Self {
        let sums = (0..setting.layers).map(|layer| {
            let loads = setting.trained.loads.get(layer);
            let load = |expert| loads.and_then(|loads| loads.get(expert)).copied().unwrap_or(0);
            let mut sum = 0_u64;
            let add = |expert| {
                sum = sum.saturating_add(load(expert)).saturating_add(1);
                sum
            };
            (0..setting.experts).map(add).collect()
        });
        Self {
            base: setting.seed.stream(&format!("prefetch/{name}")).next_u64(),
            layers: setting.layers,
            sums: sums.collect(),
            drawn: Vec::new(),
            chosen: vec![false; setting.experts],
        }
    }

    /// What a predictor of such an `accuracy` says of `layer` in the rest of this pass.
    pub(super) fn look(
        &mut self,
        view: &View<'_>,
        layer: usize,
        accuracy: f64,
        into: &mut Vec<Demand>,
    ) {
        into.clear();
        view.ahead.rest_of_pass(layer, into);
        if layer < self.layers {
            self.blur(view.pass, layer, accuracy, into);
        }
    }

    fn blur(&mut self, pass: u64, layer: usize, accuracy: f64, experts: &mut [Demand]) {
        let event = pass.wrapping_mul(self.layers as u64).wrapping_add(layer as u64);
        let mut generator = Generator::seed_from_u64(self.base.wrapping_add(event));
        self.chosen.fill(false);
        let mut free = self.chosen.len();
        for &Demand { expert, .. } in experts.iter() {
            let chosen = &mut self.chosen[usize::from(expert)];
            free -= usize::from(!*chosen);
            *chosen = true;
        }
        // One draw an expert, whatever comes of it: that is what makes accuracies comparable.
        self.drawn.clear();
        for (index, _) in (0_u16..).zip(experts.iter()) {
            if generator.random::<f64>() >= accuracy {
                self.drawn.push(index);
            }
        }
        // In order, so that the wrong experts of a better predictor are the first of a worse one's.
        for &index in self.drawn.iter().take(free) {
            let wrong = draw(&self.sums[layer], &self.chosen, &mut generator);
            self.chosen[usize::from(wrong)] = true;
            experts[usize::from(index)].expert = wrong;
        }
    }
}

/// An expert that is not `chosen`, by load; there is one.
fn draw(sums: &[u64], chosen: &[bool], generator: &mut Generator) -> u16 {
    let mut expert = 0;
    for _ in 0..DRAWS_MAX {
        let at = generator.random_range(0..sums.last().copied().unwrap_or(1));
        expert = sums.partition_point(|&sum| sum <= at);
        if !chosen[expert] {
            break;
        }
    }
    while chosen[expert] {
        expert = (expert + 1) % chosen.len();
    }
    u16::try_from(expert).expect("experts are u16")
}

/// Share of right predictions `distance` layers ahead when it is `first` (or HOBBIT's 0.96) one
/// layer ahead. Errors grow as HOBBIT measured: two and a half times at two and three layers
/// (0.90); beyond that, where nothing was published, by the first error again with each layer.
pub(super) fn decayed(first: Option<f64>, distance: usize) -> f64 {
    let error = 1.0 - first.unwrap_or(ONE_AHEAD);
    let growth = match distance {
        0 | 1 => 1.0,
        2 | 3 => ERROR_AT_TWO,
        more => ERROR_AT_TWO + (more - 3) as f64,
    };
    (1.0 - error * growth).clamp(0.0, 1.0)
}

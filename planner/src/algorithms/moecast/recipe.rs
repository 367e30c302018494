//! How one layer is searched, and which way of searching is right for a recording.

use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::blend::Blend;
use super::moments::Moments;
use super::pairs::Pairs;
use super::start::start;
use super::tail::Tail;
use crate::objective::{Evaluator, StepShares};
use crate::search::{Budget, Layout, Space, descend};
use moecast_profiles::seed::{Generator, Seed};

/// Pairs of slots that a search over moments may look at; a look takes nanoseconds.
const MOMENT_EVALUATIONS: u64 = 4_000_000;
/// Pairs of slots that a search over recorded steps may look at.
const STEP_EVALUATIONS: u64 = 500_000;
/// Smallest improvement that counts, as a share of the first value.
const TOLERANCE: f64 = 1e-6;
/// Times that spare copies are given to other experts.
const REPLACEMENT_ROUNDS: u32 = 3;
/// Slots times experts beyond which spare copies stay where they are.
const REPLACEMENTS_MAX: usize = 4_000_000;
/// Parts of the recording that are held out in turn to choose a recipe.
const FOLDS: usize = 3;
/// Steps below which there is nothing to choose by.
const STEPS_MIN: usize = 2 * FOLDS;
/// Layers that a recipe is chosen on; all layers of one recording are of one kind.
const LAYERS_MAX: usize = 8;

/// What is done after the pairs have been searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finish {
    /// Nothing.
    Pairs,
    /// Ranks that are high on average are lowered.
    Tail,
    /// The recorded maximum is lowered.
    Steps,
}

/// One way to search a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Recipe {
    /// Balance the totals, nothing else.
    Totals,
    /// Search, trusting a share of the recorded co-activation.
    Search { trust: f64, finish: Finish },
}

impl Recipe {
    /// For recordings that are too short to choose by.
    const DEFAULT: Self = Self::Search { trust: 0.25, finish: Finish::Steps };

    /// Searches the layer that recorded `shares`.
    pub(super) fn search(
        self,
        shares: &StepShares,
        shape: Shape,
        generator: &mut Generator,
    ) -> Layout {
        let moments = Moments::new(shares);
        self.search_moments(shares, &moments, shape, generator)
    }

    fn search_moments(
        self,
        shares: &StepShares,
        moments: &Moments,
        shape: Shape,
        generator: &mut Generator,
    ) -> Layout {
        let start = start(moments.means(), shape.slots, shape.ranks);
        let Self::Search { trust, finish } = self else { return start };
        let moments = moments.shrunk(trust);
        let mut pairs = Pairs::new(&moments, start);
        let budget = Budget { evaluations: MOMENT_EVALUATIONS, tolerance: TOLERANCE };
        descend(&mut pairs, budget, generator);
        if shape.slots * moments.experts() <= REPLACEMENTS_MAX {
            let mut order: Vec<usize> = (0..shape.slots).collect();
            for _ in 0..REPLACEMENT_ROUNDS {
                order.shuffle(generator);
                if pairs.replace_copies(&order) == 0 {
                    break;
                }
                descend(&mut pairs, budget, generator);
            }
        }
        match finish {
            Finish::Pairs => pairs.into_layout(),
            Finish::Tail => {
                let mut tail = Tail::new(pairs);
                descend(&mut tail, budget, generator);
                tail.into_pairs().into_layout()
            }
            Finish::Steps => {
                let steps = Evaluator::new(shares, pairs.layout().clone());
                let mut blend = Blend::new(steps, pairs);
                descend(&mut blend, STEP_BUDGET, generator);
                blend.into_layout()
            }
        }
    }
}

/// Budget of searches over recorded steps.
pub(super) const STEP_BUDGET: Budget =
    Budget { evaluations: STEP_EVALUATIONS, tolerance: TOLERANCE };

/// What every layer has to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) slots: usize,
    pub(super) ranks: usize,
}

/// The recipe whose placements score best on steps that they were not made from. The recording is
/// cut into consecutive parts, because neighbouring steps are alike and the next recording is not.
pub(super) fn choose(layers: &[StepShares], shape: Shape, seed: Seed) -> Recipe {
    let count = layers.len().min(LAYERS_MAX);
    let chosen: Vec<&StepShares> =
        (0..count).map(|index| &layers[index * layers.len() / count]).collect();
    if chosen.iter().any(|shares| shares.steps() < STEPS_MIN) {
        return Recipe::DEFAULT;
    }
    let folds: Vec<Fold> = chosen
        .par_iter()
        .flat_map_iter(|shares| (0..FOLDS).map(|fold| Fold::new(shares, fold)))
        .collect();
    let score = |recipe: Recipe| -> f64 {
        let scores: Vec<f64> = folds
            .par_iter()
            .enumerate()
            .map(|(index, fold)| fold.score(recipe, shape, seed, index))
            .collect();
        scores.iter().sum()
    };
    let search = |trust, finish| Recipe::Search { trust, finish };
    let best = |recipes: &[Recipe]| {
        let scored = recipes.iter().map(|&recipe| (score(recipe), recipe));
        scored.min_by(|left, right| left.0.total_cmp(&right.0)).expect("there is a recipe")
    };
    let by_pairs =
        best(&[Recipe::Totals, search(0.25, Finish::Pairs), search(0.75, Finish::Pairs)]);
    let trust = match by_pairs.1 {
        Recipe::Totals => 0.25,
        Recipe::Search { trust, .. } => trust,
    };
    let finished = best(&[search(trust, Finish::Tail), search(trust, Finish::Steps)]);
    if finished.0 < by_pairs.0 { finished.1 } else { by_pairs.1 }
}

/// A layer's recording without one part, and that part.
struct Fold {
    train: StepShares,
    moments: Moments,
    heldout: StepShares,
}

impl Fold {
    fn new(shares: &StepShares, fold: usize) -> Self {
        let heldout = |step: usize| step * FOLDS / shares.steps() == fold;
        let train = shares.select(|step| !heldout(step));
        let moments = Moments::new(&train);
        Self { train, moments, heldout: shares.select(heldout) }
    }

    fn score(&self, recipe: Recipe, shape: Shape, seed: Seed, index: usize) -> f64 {
        let mut generator = seed.stream(&format!("moecast/choose/{index}"));
        let layout = recipe.search_moments(&self.train, &self.moments, shape, &mut generator);
        let ranks = u16::try_from(shape.ranks).expect("ranks are u16");
        self.heldout.expected_maximum(&layout.into_ids(), ranks)
    }
}

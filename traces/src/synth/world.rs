//! What all requests of a synthetic trace share: how popular the experts are, per domain.
//!
//! Experts of a layer are drawn by *rank*, the same number in every layer for experts that follow
//! each other; ids are dealt to ranks layer by layer, so that neither popular experts nor
//! followers stand beside each other.

use moecast_profiles::seed::{Generator, Seed};
use rand::seq::SliceRandom;

use super::recipe::{Popularity, Recipe};
use crate::random::normal;

/// Log weights and names of the experts of every layer.
pub(super) struct World {
    pub(super) experts: usize,
    pub(super) layers: usize,
    /// `[M, E]` id of every rank.
    pub(super) id: Vec<u16>,
    /// `[domains]` of `[M, E]` log weights by rank, at the beginning of the trace and, where
    /// popularity drifts, at its end.
    begin: Vec<Vec<f64>>,
    end: Option<Vec<Vec<f64>>>,
    drift: f64,
}

impl World {
    pub(super) fn new(recipe: &Recipe, experts: u16, layers: usize, seed: Seed) -> Self {
        let count = usize::from(experts);
        let weights = |name: &str, base: Vec<f64>| -> Vec<Vec<f64>> {
            let mut domains = tilts(recipe, count, layers, seed, name);
            for domain in &mut domains {
                domain.iter_mut().zip(&base).for_each(|(sum, base)| *sum += base);
            }
            domains
        };
        let (id, begin) = if recipe.popularity == Popularity::Recorded {
            recorded(recipe)
        } else {
            let ids = shuffled(experts, layers, seed);
            (ids, base(recipe, count, layers, seed, "popularity"))
        };
        let end = (recipe.drift > 0.0).then(|| {
            let end = if recipe.popularity == Popularity::Recorded {
                permuted(&begin, count, seed)
            } else {
                base(recipe, count, layers, seed, "drift")
            };
            weights("drift", end)
        });
        let begin = weights("popularity", begin);
        Self { experts: count, layers, id, begin, end, drift: recipe.drift }
    }

    /// Adds the log weights `[M, E]` by rank of a request of `domain` to `into`; `time` runs from
    /// 0, the first request, to 1, the last. The turn keeps their deviation.
    pub(super) fn add_weights(&self, domain: u16, time: f64, into: &mut [f64]) {
        let domain = usize::from(domain);
        let begin = &self.begin[domain];
        let Some(end) = &self.end else {
            into.iter_mut().zip(begin).for_each(|(sum, begin)| *sum += begin);
            return;
        };
        let angle = self.drift * time * std::f64::consts::FRAC_PI_2;
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        for ((sum, begin), end) in into.iter_mut().zip(begin).zip(&end[domain]) {
            *sum += cos * begin + sin * end;
        }
    }
}

/// `[M, E]` numbers of unit deviation whose correlation from layer to layer is `affinity`.
pub(super) fn field(
    layers: usize,
    experts: usize,
    affinity: f64,
    bits: &mut Generator,
) -> Vec<f64> {
    let fresh = (1.0 - affinity * affinity).sqrt();
    let mut values = Vec::with_capacity(layers * experts);
    for place in 0..layers * experts {
        let new = normal(bits);
        let before = place.checked_sub(experts).map_or(new, |before| values[before]);
        let first = place < experts;
        values.push(if first { new } else { affinity * before + fresh * new });
    }
    values
}

/// A [`field`] whose every layer holds the quantiles of a normal: all seeds are equally skewed,
/// and only who is popular differs.
fn quantiles(layers: usize, experts: usize, affinity: f64, bits: &mut Generator) -> Vec<f64> {
    let mut values = field(layers, experts, affinity, bits);
    let sorted = normal_quantiles(experts);
    for layer in values.chunks_exact_mut(experts) {
        replace_in_order(layer, &sorted);
    }
    values
}

/// `[domains]` of `[M, E]` log weights by which domains differ from what they have in common: they
/// sum to zero over the domains, as a router that was trained to be even over all text has it.
fn tilts(recipe: &Recipe, experts: usize, layers: usize, seed: Seed, name: &str) -> Vec<Vec<f64>> {
    let count = f64::from(recipe.domains);
    let mut all: Vec<Vec<f64>> = (0..recipe.domains)
        .map(|domain| {
            let mut bits = seed.stream(&format!("synth/{name}/domain/{domain}"));
            quantiles(layers, experts, recipe.affinity, &mut bits)
        })
        .collect();
    // One of n has the share 1 - 1/n of its variance apart from the mean of all.
    let scale = recipe.domain_skew * (count / (count - 1.0).max(1.0)).sqrt();
    for place in 0..layers * experts {
        let mean = all.iter().map(|domain| domain[place]).sum::<f64>() / count;
        all.iter_mut().for_each(|domain| domain[place] = scale * (domain[place] - mean));
    }
    all
}

/// Replaces the smallest of `values` by the first of `sorted`, and so on.
fn replace_in_order(values: &mut [f64], sorted: &[f64]) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    for (index, &value) in order.into_iter().zip(sorted) {
        values[index] = value;
    }
}

/// The middles of `count` equally likely parts of a standard normal, by bisection.
#[expect(clippy::cast_precision_loss, reason = "a number of experts or layers")]
fn normal_quantiles(count: usize) -> Vec<f64> {
    let below = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let quantile = |share: f64| {
        let (mut low, mut high) = (-9.0, 9.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if below(middle) < share { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    (0..count).map(|part| quantile((part as f64 + 0.5) / count as f64)).collect()
}

/// `[M, E]` ids in an order of their own in every layer.
fn shuffled(experts: u16, layers: usize, seed: Seed) -> Vec<u16> {
    let mut bits = seed.stream("synth/ids");
    let mut all = Vec::with_capacity(layers * usize::from(experts));
    for _ in 0..layers {
        let mut ids: Vec<u16> = (0..experts).collect();
        ids.shuffle(&mut bits);
        all.extend(ids);
    }
    all
}

/// `[M, E]` ids and log weights of recorded loads, the most loaded first in every layer. An expert
/// that was never picked has half a pick.
#[expect(clippy::cast_precision_loss, reason = "loads need no more digits")]
fn recorded(recipe: &Recipe) -> (Vec<u16>, Vec<f64>) {
    let (mut ids, mut weights) = (Vec::new(), Vec::new());
    for loads in &recipe.loads {
        let mut order: Vec<(u64, u16)> = loads.iter().copied().zip(0..).collect();
        order.sort_by_key(|&(load, id)| (std::cmp::Reverse(load), id));
        for (load, id) in order {
            ids.push(id);
            weights.push(recipe.skew * libm::log((load as f64).max(0.5)));
        }
    }
    (ids, weights)
}

/// The log weights of other experts: what recorded popularity drifts to.
fn permuted(weights: &[f64], experts: usize, seed: Seed) -> Vec<f64> {
    let mut bits = seed.stream("synth/drift");
    let mut all = weights.to_vec();
    all.chunks_exact_mut(experts).for_each(|layer| layer.shuffle(&mut bits));
    all
}

/// `[M, E]` log weights by rank, of all domains together.
fn base(recipe: &Recipe, experts: usize, layers: usize, seed: Seed, name: &str) -> Vec<f64> {
    let mut bits = seed.stream(&format!("synth/{name}"));
    let mut values = quantiles(layers, experts, recipe.affinity, &mut bits);
    let mut spread = normal_quantiles(layers);
    spread.shuffle(&mut seed.stream(&format!("synth/{name}/spread")));
    let ranks = (1_u32..).take(experts).map(|rank| libm::log(f64::from(rank)));
    let mut zipf: Vec<f64> = ranks.map(|log| -log).collect();
    zipf.reverse();
    for (layer, spread) in values.chunks_exact_mut(experts).zip(spread) {
        if recipe.popularity == Popularity::Zipf {
            replace_in_order(layer, &zipf);
        }
        let skew = recipe.skew * libm::exp(recipe.skew_spread * spread);
        layer.iter_mut().for_each(|value| *value *= skew);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_textbook() {
        let found = normal_quantiles(4);
        // Middles of the quarters: 12.5% and 37.5%.
        for (found, expected) in found.iter().zip([-1.150_349, -0.318_639, 0.318_639, 1.150_349]) {
            assert!((found - expected).abs() < 1e-5, "{found}");
        }
    }

    #[test]
    fn zipf_is_zipf_and_layers_order_experts_differently() {
        let recipe = Recipe {
            popularity: Popularity::Zipf,
            skew: 1.5,
            domain_skew: 0.0,
            ..Recipe::default()
        };
        let world = World::new(&recipe, 8, 2, Seed(1));
        let mut weights = vec![0.0; 16];
        world.add_weights(0, 0.0, &mut weights);
        let by_id = |layer: usize| -> Vec<f64> {
            let mut found = vec![0.0; 8];
            for rank in 0..8 {
                found[usize::from(world.id[layer * 8 + rank])] = weights[layer * 8 + rank].exp();
            }
            found
        };
        for layer in 0..2 {
            let mut sorted = by_id(layer);
            sorted.sort_by(|a, b| b.total_cmp(a));
            for (rank, weight) in (1_u32..).zip(sorted) {
                assert!((weight - f64::from(rank).powf(-1.5)).abs() < 1e-12);
            }
        }
        assert_ne!(by_id(0), by_id(1));
    }

    #[test]
    fn recorded_loads_keep_their_experts() {
        let recipe = Recipe {
            popularity: Popularity::Recorded,
            skew: 1.0,
            domain_skew: 0.0,
            loads: vec![vec![5, 0, 20]],
            ..Recipe::default()
        };
        let world = World::new(&recipe, 3, 1, Seed(1));
        let mut weights = vec![0.0; 3];
        world.add_weights(3, 0.5, &mut weights);
        assert_eq!(world.id, [2, 0, 1]);
        for (weight, expected) in weights.iter().zip([20.0, 5.0, 0.5]) {
            assert!((weight.exp() - expected).abs() < 1e-9);
        }
    }
}

//! What a fair router would look like: the unevenness that chance alone gives when every token
//! picks k distinct experts uniformly. Measured unevenness means something only beyond it.
//!
//! There is no closed form for most of it, so it is a seeded Monte Carlo. Up to
//! [`EXACT_PAIRS_MAX`] picks, tokens are drawn one by one; beyond, an expert's count is normal:
//! mean Tp and variance Tp(1 - p) with p = k/E are exact, and so is the covariance that the fixed
//! sum brings; what is lost is the skew, below a hundredth of the spread at those counts.
//! The standard error is about a tenth (exact) or a twentieth (normal) of the spread of one draw.
//! Cost: [`EXACT_DRAWS`] x picks, or [`NORMAL_DRAWS`] x experts.

use std::f64::consts::TAU;

use moecast_profiles::seed::{Generator, Seed};
use rand::RngExt;

use super::load::Load;

/// Largest number of picks that is drawn one by one.
pub const EXACT_PAIRS_MAX: u64 = 1 << 14;

/// Draws of the exact process.
pub const EXACT_DRAWS: u32 = 100;

/// Draws of the normal approximation.
pub const NORMAL_DRAWS: u32 = 400;

/// Expected unevenness of `pairs` picks by tokens that choose `top_k` of `experts` uniformly;
/// `None` where nothing was picked. Picks left over by whole tokens are one more token.
#[must_use]
pub fn expected(experts: u16, top_k: u16, pairs: u64) -> Option<Load> {
    if pairs == 0 {
        return None;
    }
    let mut random = Seed(0).stream("stats/uniform");
    let mut sum = Load::default();
    let mut loads = vec![0_u64; usize::from(experts)];
    let exact = pairs <= EXACT_PAIRS_MAX;
    let draws = if exact { EXACT_DRAWS } else { NORMAL_DRAWS };
    let mut names: Vec<u16> = (0..experts).collect();
    for _ in 0..draws {
        if exact {
            draw_tokens(&mut names, top_k, pairs, &mut loads, &mut random);
        } else {
            draw_normal(top_k, pairs, &mut loads, &mut random);
        }
        let load = Load::of(&loads);
        sum.max_over_mean += load.max_over_mean;
        sum.cv += load.cv;
        sum.gini += load.gini;
        sum.entropy += load.entropy;
        sum.busiest_half += load.busiest_half;
    }
    let draws = f64::from(draws);
    Some(Load {
        max_over_mean: sum.max_over_mean / draws,
        cv: sum.cv / draws,
        gini: sum.gini / draws,
        entropy: sum.entropy / draws,
        busiest_half: sum.busiest_half / draws,
    })
}

/// Fills `loads` with the picks of tokens drawn one by one; `names` is any order of the experts.
fn draw_tokens(
    names: &mut [u16],
    top_k: u16,
    pairs: u64,
    loads: &mut [u64],
    random: &mut Generator,
) {
    loads.fill(0);
    let mut left = pairs;
    while left > 0 {
        let picks = usize::try_from(left.min(u64::from(top_k))).expect("at most top-k");
        for place in 0..picks {
            let other = random.random_range(place..names.len());
            names.swap(place, other);
            loads[usize::from(names[place])] += 1;
        }
        left -= picks as u64;
    }
}

/// Fills `loads` with normal counts of the right mean, variance and sum.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "token counts stay far below 2^53, and are not negative"
)]
fn draw_normal(top_k: u16, pairs: u64, loads: &mut [u64], random: &mut Generator) {
    let experts = loads.len() as f64;
    let share = f64::from(top_k) / experts;
    let mean = pairs as f64 / experts;
    let normals: Vec<f64> = loads.iter().map(|_| normal(random)).collect();
    let middle = normals.iter().sum::<f64>() / experts;
    // Taking the mean of E normals away leaves (E - 1)/E of their variance.
    let spread = (mean * (1.0 - share) * experts / (experts - 1.0).max(1.0)).sqrt();
    for (load, normal) in loads.iter_mut().zip(normals) {
        *load = (mean + spread * (normal - middle)).round().max(0.0) as u64;
    }
}

/// One standard normal number, by Box and Muller.
fn normal(random: &mut Generator) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found} against {expected}");
    }

    /// The mean square of the coefficient of variation is (1 - p)/(Tp) exactly.
    #[test]
    fn spread_is_that_of_the_formula() {
        for (experts, top_k, tokens) in [(64, 8, 299), (8, 2, 1_000_000), (128, 8, 20_000)] {
            let null = expected(experts, top_k, tokens * u64::from(top_k)).unwrap();
            let share = f64::from(top_k) / f64::from(experts);
            let formula =
                ((1.0 - share) / (f64::from(u32::try_from(tokens).unwrap()) * share)).sqrt();
            // The mean of a root is a little below the root of the mean: by 1/(4(E - 1)).
            let formula = formula * (1.0 - 0.25 / f64::from(experts - 1));
            near(null.cv, formula, 0.03 * formula);
            // A normal's mean distance: Gini is cv/sqrt(pi), the upper half's mean 0.8 deviations.
            near(null.gini, formula / std::f64::consts::PI.sqrt(), 0.04 * formula);
            near(null.busiest_half, 0.5 + 0.4 * formula, 0.02 * formula + 1e-4);
            let lost = formula.powi(2) / (2.0 * std::f64::consts::LN_2);
            near(null.entropy, f64::from(experts).log2() - lost, 0.1 * lost);
        }
    }

    #[test]
    fn both_ways_of_drawing_agree_where_they_meet() {
        let (exact, normal) = (
            expected(64, 8, EXACT_PAIRS_MAX).unwrap(),
            expected(64, 8, EXACT_PAIRS_MAX + 8).unwrap(),
        );
        near(exact.max_over_mean, normal.max_over_mean, 0.01);
        near(exact.gini, normal.gini, 0.001);
    }

    #[test]
    fn the_edges_are_even() {
        // Every token picks every expert, or there is only one.
        for (experts, top_k, pairs) in [(4, 4, 40), (1, 1, 9), (4, 4, 4_000_000), (1, 1, 1 << 20)] {
            let null = expected(experts, top_k, pairs).unwrap();
            near(null.max_over_mean, 1.0, 1e-12);
            near(null.cv, 0.0, 1e-12);
        }
        assert_eq!(expected(4, 2, 0), None);
        // One pick of two experts: one has it.
        near(expected(2, 1, 1).unwrap().max_over_mean, 2.0, 1e-12);
    }
}

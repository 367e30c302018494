//! Token counts of experts, balanced and skewed, for benchmarks of expert GEMMs.
//!
//! A skew of 0 deals the picks out evenly. Above, each expert's weight is drawn from a power law
//! with density proportional to x^-a between 1 and 1000 (a is the skew), the picks are shared out
//! in proportion to the weights, and no expert gets more picks than there are tokens, since a
//! token picks an expert once. The draw is of its own named seed stream: the same on every
//! machine and run, so that a fit knows the very loads of a sample and not just their law.
//! Benchmarks of inference engines draw from another power law (NVIDIA's aiconfigurator), which
//! is why samples of ours say [`routing::MEASURE`](crate::sample::routing::MEASURE).

use rand::{Rng, RngExt};

use crate::seed::Seed;

/// Largest weight of an expert; the least is 1.
const WEIGHT_MAX: f64 = 1000.0;
/// The seed of all draws: samples of different days must be of the same loads.
const SEED: Seed = Seed(0);

/// How many of `tokens` x `topk` picks each of `experts` gets at a skew of `skew_percent`
/// hundredths. The counts sum to `tokens` x min(`topk`, `experts`), none is above `tokens`.
#[must_use]
pub fn skewed_picks(tokens: u64, topk: u32, experts: u32, skew_percent: u64) -> Vec<u64> {
    let count = experts as usize;
    let picks = tokens * u64::from(topk.min(experts));
    if skew_percent == 0 {
        // Spread over all ranks also where there are fewer picks than experts.
        let experts = u64::from(experts.max(1));
        let edge = |index: u64| index * picks / experts;
        return (0..experts).take(count).map(|index| edge(index + 1) - edge(index)).collect();
    }
    let label = format!("measure/skew/{skew_percent}/{experts}");
    let mut rng = SEED.stream(&label);
    let weights: Vec<f64> = (0..count).map(|_| weight(&mut rng, skew_percent)).collect();
    share_out(picks, tokens, &weights)
}

/// The counts of the rank with the most picks, when `counts` are split over `ranks` in order.
#[must_use]
pub fn busiest_rank(counts: &[u64], ranks: u32) -> &[u64] {
    let local = counts.len().div_ceil(ranks.max(1) as usize).max(1);
    let mut busiest: &[u64] = &[];
    for rank in counts.chunks(local) {
        if busiest.is_empty() || rank.iter().sum::<u64>() > busiest.iter().sum() {
            busiest = rank;
        }
    }
    busiest
}

/// Rows of each expert of the rank that a benchmark of experts times: `tokens` are those of all
/// `ranks` together. What is timed and what a fit assumes was timed both come from here.
pub(crate) fn timed_rows(
    tokens: u64,
    topk: u32,
    experts: u32,
    ranks: u32,
    skew_percent: u64,
) -> Vec<u64> {
    let picks = skewed_picks(tokens, topk, experts, skew_percent);
    busiest_rank(&picks, ranks).to_vec()
}

/// One draw from the bounded power law, by inversion of its distribution.
#[expect(clippy::cast_precision_loss, reason = "a skew is a small number")]
fn weight(rng: &mut impl Rng, skew_percent: u64) -> f64 {
    let uniform: f64 = rng.random();
    if skew_percent == 100 {
        return libm::pow(WEIGHT_MAX, uniform);
    }
    let power = 1.0 - skew_percent as f64 / 100.0;
    libm::pow(1.0 + uniform * (libm::pow(WEIGHT_MAX, power) - 1.0), 1.0 / power)
}

/// Shares `picks` out in proportion to `weights`, at most `most` each: what rounding down and
/// the limit left over goes to the heaviest experts that have room.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shares of a count are not larger than the count"
)]
fn share_out(picks: u64, most: u64, weights: &[f64]) -> Vec<u64> {
    let total: f64 = weights.iter().sum();
    let share = |weight: &f64| (picks as f64 * weight / total) as u64;
    let mut counts: Vec<u64> = weights.iter().map(|weight| share(weight).min(most)).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
    let mut left = picks - counts.iter().sum::<u64>();
    while left > 0 {
        for index in &order {
            if left > 0 && counts[*index] < most {
                counts[*index] += 1;
                left -= 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn picks_are_kept_and_no_expert_sees_a_token_twice(
            tokens in 0_u64..5_000, topk in 1_u32..9, experts in 1_u32..300, skew in 0_u64..200,
        ) {
            let counts = skewed_picks(tokens, topk, experts, skew);
            prop_assert_eq!(counts.len(), experts as usize);
            prop_assert_eq!(counts.iter().sum::<u64>(), tokens * u64::from(topk.min(experts)));
            prop_assert!(counts.iter().all(|count| *count <= tokens));
            prop_assert_eq!(&counts, &skewed_picks(tokens, topk, experts, skew));
        }
    }

    #[test]
    fn more_skew_means_a_busier_busiest_rank() {
        let load = |skew| {
            let counts = skewed_picks(4096, 8, 128, skew);
            busiest_rank(&counts, 8).iter().sum::<u64>()
        };
        assert_eq!(load(0), 4096);
        assert!(load(0) < load(60) && load(60) < load(120), "{} {}", load(60), load(120));
    }

    #[test]
    fn the_busiest_rank_is_the_first_of_the_heaviest() {
        assert_eq!(busiest_rank(&[1, 1, 3, 0, 2, 1], 3), [3, 0]);
        assert_eq!(busiest_rank(&[5], 1), [5]);
        assert!(busiest_rank(&[], 4).is_empty());
    }
}

//! Means and second moments of the experts' shares, shrunk against chance.
//!
//! A short recording sees few of the `E^2 / 2` pairs of experts, each a few times. Off the diagonal
//! the empirical moment is therefore mixed with what independent experts of the same popularity
//! would give, scaled to the same sum. Popularity is mixed with the mean over all experts by as
//! much as the experts' differences are noise (James and Stein; the noise is read off the steps).

use crate::objective::StepShares;

/// Part of every expert's popularity that is taken from the mean over all experts where one step
/// says nothing of the noise.
const SHRINKAGE_OF_ONE_STEP: f64 = 0.1;
/// Sums are made in so many lanes, then added in order: fast, and the same on every machine.
const LANES: usize = 8;

/// First and second moments over the recorded steps.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    experts: usize,
    means: Vec<f64>,
    /// `[E x E]`, symmetric.
    second: Vec<f64>,
}

impl Moments {
    /// As recorded, except for popularity.
    pub(super) fn new(shares: &StepShares) -> Self {
        let experts = shares.experts();
        let steps = to_float(shares.steps());
        let sum = |expert| shares.of(expert).iter().map(|&share| f64::from(share)).sum::<f64>();
        let mut means: Vec<f64> = (0..experts).map(|expert| sum(expert) / steps).collect();
        let noise = noise(shares, &means);
        let mut second = vec![0.0; experts * experts];
        for left in 0..experts {
            for right in 0..=left {
                let moment = dot(shares.of(left), shares.of(right)) / steps;
                second[left * experts + right] = moment;
                second[right * experts + left] = moment;
            }
        }
        let mut diagonal: Vec<f64> = (0..experts).map(|e| second[e * experts + e]).collect();
        shrink_to_mean(&mut means, noise);
        shrink_to_mean(&mut diagonal, noise);
        for (expert, moment) in diagonal.into_iter().enumerate() {
            second[expert * experts + expert] = moment;
        }
        Self { experts, means, second }
    }

    /// With the share `trust` of the recorded co-activation kept, the rest as if by chance.
    pub(super) fn shrunk(&self, trust: f64) -> Self {
        let experts = self.experts;
        let product = |left: usize, right: usize| self.means[left] * self.means[right];
        let pairs = || {
            (0..experts)
                .flat_map(move |l| (0..experts).filter(move |&r| r != l).map(move |r| (l, r)))
        };
        let recorded: f64 = pairs().map(|(l, r)| self.second(l, r)).sum();
        let by_chance: f64 = pairs().map(|(l, r)| product(l, r)).sum();
        let scale = if by_chance > 0.0 { recorded / by_chance } else { 0.0 };
        let mut shrunk = self.clone();
        for (left, right) in pairs() {
            shrunk.second[left * experts + right] =
                trust * self.second(left, right) + (1.0 - trust) * scale * product(left, right);
        }
        shrunk
    }

    pub(super) fn experts(&self) -> usize {
        self.experts
    }

    /// `[E]` mean share of every expert.
    pub(super) fn means(&self) -> &[f64] {
        &self.means
    }

    /// Mean product of the shares of two experts.
    pub(super) fn second(&self, left: usize, right: usize) -> f64 {
        self.second[left * self.experts + right]
    }

    /// `[E]` mean products with `expert`.
    pub(super) fn row(&self, expert: usize) -> &[f64] {
        &self.second[expert * self.experts..(expert + 1) * self.experts]
    }
}

/// The part of the variance of `means` between experts that is sampling noise, between 0 and 1.
fn noise(shares: &StepShares, means: &[f64]) -> f64 {
    if shares.steps() < 2 {
        return SHRINKAGE_OF_ONE_STEP;
    }
    let steps = to_float(shares.steps());
    let square = |value: f64| value * value;
    let within: f64 = (means.iter().enumerate())
        .map(|(expert, &mean)| {
            let of_steps = shares.of(expert).iter().map(|&share| square(f64::from(share) - mean));
            of_steps.sum::<f64>() / (steps - 1.0)
        })
        .sum();
    let center = means.iter().sum::<f64>() / to_float(means.len());
    let between: f64 = means.iter().map(|&mean| square(mean - center)).sum();
    if between > 0.0 { (within / steps / between).min(1.0) } else { 1.0 }
}

fn shrink_to_mean(values: &mut [f64], part: f64) {
    let mean = values.iter().sum::<f64>() / to_float(values.len());
    for value in values {
        *value += part * (mean - *value);
    }
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    f64::from(lanes.iter().sum::<f32>() + rest)
}

#[expect(clippy::cast_precision_loss, reason = "counts of experts and steps")]
fn to_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::LayerLoads;

    #[test]
    fn experts_that_fire_together_have_a_moment_that_chance_does_not_give() {
        // Experts 0 and 1 together, 2 and 3 together, on two ranks: shares are 1 or 0.
        let steps = vec![1, 1, 0, 0, 0, 0, 1, 1];
        let shares = StepShares::new(&LayerLoads { total: vec![0.0; 4], steps }, 2);
        let recorded = Moments::new(&shares);
        assert!((recorded.second(0, 1) - 0.5).abs() < 1e-9);
        assert!((recorded.second(0, 2)).abs() < 1e-9);
        // All means are 1/2; the off-diagonal sum of 4 x 1/2 is spread over 12 pairs.
        let by_chance = recorded.shrunk(0.0);
        assert!((by_chance.second(0, 1) - 2.0 / 12.0).abs() < 1e-9);
        assert!((by_chance.second(0, 2) - 2.0 / 12.0).abs() < 1e-9);
        assert!((recorded.shrunk(0.5).second(0, 1) - (0.25 + 1.0 / 12.0)).abs() < 1e-9);
        assert!((by_chance.second(2, 2) - 0.5).abs() < 1e-9, "the diagonal stays");
    }

    #[test]
    fn popularity_is_shrunk_by_what_is_noise_in_it() {
        let check = |steps: &[u32], expected: f64| {
            let loads = LayerLoads { total: vec![0.0; 2], steps: steps.to_vec() };
            let shares = StepShares::new(&loads, 1);
            assert!((Moments::new(&shares).means()[0] - expected).abs() < 1e-6, "{steps:?}");
        };
        // Steady: shares 3/4 and 1/4 in both steps, no noise.
        check(&[3, 1, 6, 2], 0.75);
        // One step: a tenth of the way from 3/4 to the mean 1/2.
        check(&[3, 1], 0.725);
        // 1 and 1/2: the mean 3/4 has variance (1/8) / 2 = 1/16 per expert; between the experts
        // there is (1/4)^2 = 1/16 each: all noise.
        check(&[4, 0, 2, 2], 0.5);
    }
}

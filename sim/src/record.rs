//! What a run leaves behind: one record per step, and the summary that is derived from them.

use moecast_profiles::hardware::LinkClass;
use moecast_profiles::units::Nanos;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The parts of a forward pass; they add up to its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Attention and router of all layers, the slowest rank of each.
    pub attention: Nanos,
    /// Feed-forward networks of the dense layers.
    pub dense: Nanos,
    /// Tokens on their way to the experts.
    pub dispatch: Nanos,
    /// Routed and shared experts, the slowest rank of each layer.
    pub experts: Nanos,
    /// Results on their way back.
    pub combine: Nanos,
}

impl Parts {
    /// Time of the forward pass.
    #[must_use]
    pub fn total(&self) -> Nanos {
        self.attention + self.dense + self.dispatch + self.experts + self.combine
    }
}

/// Facts of one simulated forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Number of the step in the recording.
    pub step: u32,
    /// Tokens that went through it.
    pub tokens: u32,
    /// Its time by part.
    pub parts: Parts,
    /// Max over mean rank load, mean over the layers that have load.
    pub imbalance: f64,
    /// Bytes sent per class of link, dispatch and combine together.
    pub bytes: [u64; LinkClass::ALL.len()],
}

/// Sums over all steps, by layer and rank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// `[M][R]` (token, expert) pairs computed.
    pub rank_load: Vec<Vec<u64>>,
    /// `[M]` sum of max over mean rank load, and the number of steps that have load.
    pub layer_imbalance: Vec<(f64, u32)>,
    /// `[R]` time that each rank computed.
    pub rank_busy: Vec<Nanos>,
}

/// A finished run: facts, then what follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// One record per step, in the order of the recording.
    pub steps: Vec<StepRecord>,
    /// Sums over the steps.
    pub totals: Totals,
}

/// Distribution of a time over steps, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeStats {
    /// Mean.
    pub mean: f64,
    /// Half the width of the 95% confidence interval of the mean (batch means, Student t);
    /// absent with fewer than 40 steps.
    pub mean_ci95: Option<f64>,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Mean time of each part of a step, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartMeans {
    /// Attention and router.
    pub attention: f64,
    /// Dense layers.
    pub dense: f64,
    /// Dispatch.
    pub dispatch: f64,
    /// Routed and shared experts.
    pub experts: f64,
    /// Combine.
    pub combine: f64,
}

/// Mean bytes of one step per class of link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteMeans {
    /// Kept on the rank.
    pub local: f64,
    /// Inside a node or NVLink domain.
    pub domain: f64,
    /// Between nodes.
    pub network: f64,
}

/// What people ask of a run. Computed from [`Run`] alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Steps simulated.
    pub steps: u64,
    /// Tokens simulated.
    pub tokens: u64,
    /// Time of a forward pass.
    pub step_time_us: TimeStats,
    /// Its parts.
    pub parts_us: PartMeans,
    /// Max over mean rank load, mean over layers and steps.
    pub imbalance: f64,
    /// `[M]` the same by layer.
    pub imbalance_per_layer: Vec<f64>,
    /// `[M][R]` (token, expert) pairs computed.
    pub rank_load: Vec<Vec<u64>>,
    /// `[R]` share of the time that each rank computed.
    pub rank_utilisation: Vec<f64>,
    /// Bytes of one step.
    pub bytes_per_step: ByteMeans,
    /// Tokens per second over the whole run.
    pub tokens_per_second: f64,
}

#[expect(clippy::cast_precision_loss, reason = "sums of nanoseconds stay far below 2^53")]
fn micros(nanos: Nanos) -> f64 {
    nanos.0 as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn mean(sum: u64, count: usize) -> f64 {
    sum as f64 / count.max(1) as f64
}

impl Run {
    /// The summary.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = self.steps.len();
        let total: Nanos = self.steps.iter().map(|step| step.parts.total()).sum();
        let part = |select: fn(&Parts) -> Nanos| {
            micros(self.steps.iter().map(|step| select(&step.parts)).sum()) / count.max(1) as f64
        };
        let bytes =
            |class: usize| mean(self.steps.iter().map(|step| step.bytes[class]).sum(), count);
        let tokens: u64 = self.steps.iter().map(|step| u64::from(step.tokens)).sum();
        let layer_imbalance = &self.totals.layer_imbalance;
        let (sum, events) = layer_imbalance
            .iter()
            .fold((0.0, 0_u64), |(sum, n), (layer, steps)| (sum + layer, n + u64::from(*steps)));
        Summary {
            steps: count as u64,
            tokens,
            step_time_us: time_stats(self.steps.iter().map(|step| step.parts.total()).collect()),
            parts_us: PartMeans {
                attention: part(|parts| parts.attention),
                dense: part(|parts| parts.dense),
                dispatch: part(|parts| parts.dispatch),
                experts: part(|parts| parts.experts),
                combine: part(|parts| parts.combine),
            },
            imbalance: ratio(sum, events as f64),
            imbalance_per_layer: layer_imbalance
                .iter()
                .map(|&(sum, steps)| ratio(sum, f64::from(steps)))
                .collect(),
            rank_load: self.totals.rank_load.clone(),
            rank_utilisation: self
                .totals
                .rank_busy
                .iter()
                .map(|&busy| ratio(micros(busy), micros(total)))
                .collect(),
            bytes_per_step: ByteMeans { local: bytes(0), domain: bytes(1), network: bytes(2) },
            tokens_per_second: ratio(tokens as f64 * 1e6, micros(total)),
        }
    }
}

/// `part / whole`, and 0 where there is nothing to divide by.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn time_stats(times: Vec<Nanos>) -> TimeStats {
    if times.is_empty() {
        return TimeStats::default();
    }
    let micros_in_order: Vec<f64> = times.iter().map(|&time| micros(time)).collect();
    let mut sorted = times;
    sorted.sort_unstable();
    let percentile = |share: usize| micros(sorted[(sorted.len() * share).div_ceil(100) - 1]);
    TimeStats {
        mean: micros_in_order.iter().sum::<f64>() / micros_in_order.len() as f64,
        mean_ci95: confidence(&micros_in_order),
        p50: percentile(50),
        p90: percentile(90),
        p99: percentile(99),
    }
}

/// Half width of the 95% interval of the mean by 20 batch means, which keeps neighbouring steps,
/// that resemble each other, in one batch.
fn confidence(values: &[f64]) -> Option<f64> {
    const BATCHES: usize = 20;
    let size = values.len() / BATCHES;
    if size < 2 {
        return None;
    }
    let means: Vec<f64> = values
        .chunks_exact(size)
        .take(BATCHES)
        .map(|batch| batch.iter().sum::<f64>() / size as f64)
        .collect();
    half_width(&means)
}

/// Half width of the 95% interval of the mean of `means`, which are taken as independent; none
/// for fewer than two.
#[expect(clippy::cast_precision_loss, reason = "a number of batches is small")]
pub(crate) fn half_width(means: &[f64]) -> Option<f64> {
    if means.len() < 2 {
        return None;
    }
    let (count, freedom) = (means.len() as f64, (means.len() - 1) as f64);
    let centre = means.iter().sum::<f64>() / count;
    let squares: f64 = means.iter().map(|mean| (mean - centre).powi(2)).sum();
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975);
    Some(quantile * (squares / freedom / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(values: &[u64]) -> Vec<Nanos> {
        values.iter().copied().map(Nanos).collect()
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let stats = time_stats(nanos(&[4_000, 1_000, 3_000, 2_000]));
        assert_eq!((stats.mean, stats.p50, stats.p90, stats.p99), (2.5, 2.0, 4.0, 4.0));
        assert_eq!(stats.mean_ci95, None);
    }

    #[test]
    fn equal_batches_leave_no_doubt_and_few_steps_no_interval() {
        assert_eq!(time_stats(nanos(&[7_000; 40])).mean_ci95, Some(0.0));
        assert_eq!(time_stats(nanos(&[7_000; 39])).mean_ci95, None);
    }

    #[test]
    fn interval_is_students() {
        // Twenty batches of two equal values, alternately 1 and 3: standard error of the mean
        // is sqrt(20/19/20) = 0.2294, and t(0.975, 19) = 2.0930.
        let values: Vec<u64> = (0..20).flat_map(|batch| [1_000 + 2_000 * (batch % 2); 2]).collect();
        let half = time_stats(nanos(&values)).mean_ci95.unwrap();
        assert!((half - 2.0930 * 0.229_416).abs() < 1e-3, "{half}");
    }

    #[test]
    fn an_empty_run_has_an_empty_summary() {
        let run = Run { steps: Vec::new(), totals: Totals::default() };
        assert_eq!(run.summary(), Summary::default());
    }
}

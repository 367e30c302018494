//! A distribution of times in fixed memory: exact mean and maximum, percentiles by a histogram,
//! and the confidence of the mean by batches that double.
//!
//! Percentiles come from an HDR histogram of nanoseconds with 3 significant digits (Gil Tene,
//! hdrhistogram.org). Batch means (Law, "Simulation Modeling and Analysis", 5th edition, 9.5.3)
//! keep neighbouring values, that resemble each other, in one batch. Cost per value: constant.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::record::half_width;

/// Batches before two become one; their number stays between half of this and this.
const BATCHES_MAX: usize = 64;
/// The longest time that is recorded as it is, milliseconds: some 31 years.
const MS_MAX: f64 = 1e12;
const NANOS_PER_MS: f64 = 1e6;

/// What people ask of many times. All times in one unit, which the key that holds it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Half the width of the 95% confidence interval of the mean (batch means, Student t);
    /// absent with fewer than 64 values.
    pub mean_ci95: Option<f64>,
    /// Median, within 0.1%.
    pub p50: f64,
    /// 90th percentile, within 0.1%.
    pub p90: f64,
    /// 99th percentile, within 0.1%.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// A sum whose rounding errors are summed beside it (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.high + value;
        let (large, small) =
            if self.high.abs() >= value.abs() { (self.high, value) } else { (value, self.high) };
        self.low += (large - sum) + small;
        self.high = sum;
    }

    fn total(self) -> f64 {
        self.high + self.low
    }
}

/// Sums of equally many neighbouring values, at most [`BATCHES_MAX`] of them.
#[derive(Clone, Debug)]
struct Batches {
    sums: Vec<f64>,
    /// Values in each.
    size: u64,
    /// The batch that is being filled.
    open_sum: f64,
    open_count: u64,
}

impl Batches {
    fn new() -> Self {
        Self { sums: Vec::with_capacity(BATCHES_MAX), size: 1, open_sum: 0.0, open_count: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of values stays far below 2^53")]
    fn add(&mut self, value: f64, mut count: u64) {
        while count > 0 {
            let fitting = count.min(self.size - self.open_count);
            self.open_sum += value * fitting as f64;
            self.open_count += fitting;
            count -= fitting;
            if self.open_count == self.size {
                self.sums.push(self.open_sum);
                (self.open_sum, self.open_count) = (0.0, 0);
                if self.sums.len() == BATCHES_MAX {
                    self.merge();
                }
            }
        }
    }

    fn merge(&mut self) {
        for pair in 0..BATCHES_MAX / 2 {
            self.sums[pair] = self.sums[2 * pair] + self.sums[2 * pair + 1];
        }
        self.sums.truncate(BATCHES_MAX / 2);
        self.size *= 2;
    }

    /// Half width of the 95% interval of the mean; none while batches are single values.
    #[expect(clippy::cast_precision_loss, reason = "a count of values stays far below 2^53")]
    fn half_width(&self) -> Option<f64> {
        if self.size < 2 {
            return None;
        }
        let means: Vec<f64> = self.sums.iter().map(|sum| sum / self.size as f64).collect();
        half_width(&means)
    }
}

/// Accumulates times; its memory does not grow with their number.
#[derive(Clone, Debug)]
pub struct Statistic {
    sum: Sum,
    count: u64,
    max: f64,
    nanos: Histogram<u64>,
    batches: Batches,
    saturated: u64,
}

impl Default for Statistic {
    fn default() -> Self {
        Self::new()
    }
}

impl Statistic {
    /// No values yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sum: Sum::default(),
            count: 0,
            max: 0.0,
            nanos: Histogram::new(3).expect("three significant digits are valid"),
            batches: Batches::new(),
            saturated: 0,
        }
    }

    /// Adds one time, milliseconds.
    ///
    /// What is no time (negative, not a number, beyond 31 years) is taken as the nearest one, or
    /// as 0 where none is nearest, and counted: [`Self::saturated`].
    pub fn add(&mut self, ms: f64) {
        self.add_many(ms, 1);
    }

    /// Adds `count` equal times, milliseconds, as [`Self::add`] does.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the value is clamped; a count of values stays far below 2^53"
    )]
    pub fn add_many(&mut self, ms: f64, count: u64) {
        if count == 0 {
            return;
        }
        let value = if ms.is_nan() { 0.0 } else { ms.clamp(0.0, MS_MAX) };
        let nanos = (value * NANOS_PER_MS).round() as u64;
        let recorded = self.nanos.record_n(nanos, count);
        if ms.is_nan() || value < ms || value > ms || recorded.is_err() {
            self.saturated += count;
        }
        if recorded.is_err() {
            self.nanos.saturating_record_n(nanos, count);
        }
        self.sum.add(value * count as f64);
        self.count += count;
        self.max = self.max.max(value);
        self.batches.add(value, count);
    }

    /// Values so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Values that were not times and are counted as the nearest time.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Mean, 0 without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of values stays far below 2^53")]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum.total() / self.count as f64 }
    }

    /// Half the width of the 95% confidence interval of the mean over the mean; absent with fewer
    /// than 64 values and where the mean is 0.
    #[must_use]
    pub fn relative_half_width(&self) -> Option<f64> {
        let mean = self.mean();
        self.batches.half_width().filter(|_| mean > 0.0).map(|half| half / mean)
    }

    /// What the values are like; all zero without any.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let [p50, p90, p99] = self.percentiles([50, 90, 99]);
        Distribution {
            count: self.count,
            mean: self.mean(),
            mean_ci95: self.batches.half_width(),
            p50,
            p90,
            p99,
            max: self.max,
        }
    }

    /// The value at each rank, `share` percent of the count rounded up; shares rise.
    #[expect(clippy::cast_precision_loss, reason = "a time of 104 days is 2^53 ns; digits are 3")]
    fn percentiles<const N: usize>(&self, shares: [u64; N]) -> [f64; N] {
        let mut found = [0.0; N];
        let mut next = 0;
        let mut seen = 0_u128;
        for bucket in self.nanos.iter_recorded() {
            seen += u128::from(bucket.count_at_value());
            let middle = self.nanos.median_equivalent(bucket.value_iterated_to());
            let value = (middle as f64 / NANOS_PER_MS).min(self.max);
            while next < N
                && seen >= (u128::from(self.count) * u128::from(shares[next])).div_ceil(100)
            {
                found[next] = value;
                next += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;

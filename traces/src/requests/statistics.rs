//! What a request trace is like: how often requests come, how long they are, how much they share.

use moecast_profiles::units::{Nanos, SimTime};
use serde::Serialize;

use super::trace::RequestTrace;

/// Spread of a length, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthStats {
    /// Mean.
    pub mean: f64,
    /// Median: the smallest length that half of the requests do not exceed.
    pub p50: u32,
    /// Length that 90% of the requests do not exceed.
    pub p90: u32,
    /// Length that 99% of the requests do not exceed.
    pub p99: u32,
    /// Longest.
    pub max: u32,
}

/// Figures of a request trace. Those that need time to pass are absent where it does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestStats {
    /// Number of requests.
    pub count: usize,
    /// Time from the first arrival to the last.
    pub duration: Nanos,
    /// Requests per second: gaps between arrivals over the duration.
    pub rate: Option<f64>,
    /// Coefficient of variation of the gaps between arrivals: 0 is a metronome, 1 is Poisson.
    pub burstiness: Option<f64>,
    /// Most requests per second over any minute; absent when the trace is shorter than one.
    pub peak_rate_over_minute: Option<f64>,
    /// Prompt lengths.
    pub input_tokens: LengthStats,
    /// Answer lengths.
    pub output_tokens: LengthStats,
    /// Prompt tokens per second: `rate` times the mean length.
    pub input_tokens_per_second: Option<f64>,
    /// Answer tokens per second: `rate` times the mean length.
    pub output_tokens_per_second: Option<f64>,
    /// Share of prompt blocks that an earlier request, or this one, had before; absent when the
    /// recording does not know prefixes.
    pub prefix_reuse_share: Option<f64>,
}

const MINUTE: Nanos = Nanos(60_000_000_000);

/// Measures `trace`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53; durations for rates only")]
pub fn stats(trace: &RequestTrace) -> RequestStats {
    let duration = trace.duration();
    let gaps = (trace.count() - 1) as f64;
    let rate = (duration > Nanos(0)).then(|| gaps / (duration.0 as f64 / 1e9));
    let (input_tokens, output_tokens) =
        (lengths(trace.input_tokens()), lengths(trace.output_tokens()));
    let blocks = trace.block_count();
    RequestStats {
        count: trace.count(),
        duration,
        rate,
        burstiness: burstiness(trace.arrivals()),
        peak_rate_over_minute: peak_rate(trace.arrivals()),
        input_tokens,
        output_tokens,
        input_tokens_per_second: rate.map(|rate| rate * input_tokens.mean),
        output_tokens_per_second: rate.map(|rate| rate * output_tokens.mean),
        prefix_reuse_share: (blocks > 0).then(|| {
            let reused = blocks - trace.distinct_blocks() as usize;
            reused as f64 / blocks as f64
        }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of 32-bit lengths, for a mean")]
fn lengths(tokens: &[u32]) -> LengthStats {
    let total: u64 = tokens.iter().map(|&tokens| u64::from(tokens)).sum();
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    LengthStats {
        mean: total as f64 / tokens.len() as f64,
        p50: percentile(50),
        p90: percentile(90),
        p99: percentile(99),
        max: percentile(100),
    }
}

/// Standard deviation over mean of the gaps; none where the mean is 0.
#[expect(clippy::cast_precision_loss, reason = "gaps in nanoseconds, for a ratio")]
fn burstiness(arrivals: &[SimTime]) -> Option<f64> {
    let gaps = || arrivals.windows(2).map(|pair| pair[1].since(pair[0]).0 as f64);
    let count = gaps().count() as f64;
    let mean = gaps().sum::<f64>() / count;
    let variance = gaps().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / count;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

/// Arrivals per second in the busiest minute; a minute that ends with an arrival excludes it.
#[expect(clippy::cast_precision_loss, reason = "a number of requests")]
fn peak_rate(arrivals: &[SimTime]) -> Option<f64> {
    let last = arrivals.last()?;
    if last.since(arrivals[0]) < MINUTE {
        return None;
    }
    let (mut most, mut start) = (0, 0);
    for (end, arrival) in arrivals.iter().enumerate() {
        while arrival.since(arrivals[start]) >= MINUTE {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    Some(most as f64 / 60.0)
}

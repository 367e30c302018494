//! The mean over passes, drawn until it is known well enough.

use super::{Forward, Mode, Passed};
use crate::lanes::Kind;
use crate::record::half_width;

/// Passes that are drawn at least: an interval of two says little.
const PASSES_MIN: u32 = 3;

/// How well the mean must be known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Half the width of the 95% interval of the mean time, as a share of it.
    pub relative: f64,
    /// Passes at most.
    pub passes_max: u32,
}

impl Default for Precision {
    fn default() -> Self {
        Self { relative: 0.01, passes_max: 64 }
    }
}

/// Means over passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Passes drawn.
    pub passes: u32,
    /// Nanoseconds from one pass to the next.
    pub time: f64,
    /// Half the width of its 95% interval (passes as independent, Student t).
    pub half_width: f64,
    /// Nanoseconds that operations of every kind take alone, one after the other.
    pub alone: [f64; Kind::ALL.len()],
    /// Rows of the busiest expert-parallel rank over the mean.
    pub imbalance: f64,
    /// Tokens of a pass.
    pub tokens: u64,
}

impl Estimate {
    /// Tokens a second of all ranks.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / (self.time * 1e-9)
    }
}

impl Forward {
    /// Draws passes until the mean time is known to `precision`, or there were too many.
    #[must_use]
    pub fn estimate(&self, mode: Mode, precision: Precision) -> Estimate {
        let mut times: Vec<f64> = Vec::new();
        let mut sum = Estimate { tokens: self.tokens(), ..Estimate::default() };
        for number in 0..precision.passes_max.max(PASSES_MIN) {
            let Passed { time, alone, imbalance, .. } = self.run(number, mode);
            times.push(time.0 as f64);
            sum.imbalance += imbalance;
            sum.alone.iter_mut().zip(alone).for_each(|(sum, own)| *sum += own);
            sum.passes += 1;
            sum.time = times.iter().sum::<f64>() / times.len() as f64;
            sum.half_width = half_width(&times).unwrap_or(f64::INFINITY);
            if sum.passes >= PASSES_MIN && sum.half_width <= precision.relative * sum.time {
                break;
            }
        }
        let passes = f64::from(sum.passes);
        sum.imbalance /= passes;
        sum.alone.iter_mut().for_each(|own| *own /= passes);
        sum
    }
}

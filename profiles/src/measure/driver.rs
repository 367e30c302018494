//! Drives a bench through a plan: warm-up, medians, resuming, stopping, and how noisy it was.

use std::fmt;
use std::ops::ControlFlow;

use super::{Kind, Plan, Point, plan};
use crate::Error;
use crate::sample::{Provenance, Sample, Samples};

#[cfg(test)]
mod tests;

/// A spread (half the inter-quartile range over the median) above this makes a point noisy.
const NOISY_ABOVE: f64 = 0.1;

/// A device that can be timed.
pub trait Bench {
    /// What it is called: the system of the samples' provenance.
    fn name(&self) -> String;

    /// What [`plan_for`](super::plan_for) must know to plan for it.
    fn kind(&self) -> Kind;

    /// Times `point`, which has the fields of its family, `repeats` times, in microseconds each;
    /// at least one repeat. Every repeat works on data that no cache still holds, where the
    /// family speaks of memory.
    ///
    /// # Errors
    /// [`TimingError::Unsupported`] when this device cannot do `point` (the run goes on),
    /// [`TimingError::Failed`] when it broke (the run stops).
    fn time(&mut self, point: &Point, repeats: u32) -> Result<Vec<f64>, TimingError>;

    /// What a reader of the samples must know about this device, one line each.
    fn flags(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Why there is no time.
#[derive(Debug, thiserror::Error)]
pub enum TimingError {
    /// This device cannot do that.
    #[error("skipped: {0}")]
    Unsupported(String),
    /// The benchmark broke.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// One point of the plan is about to be timed, or settled.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its place in the plan, from 0.
    pub index: usize,
    /// Points of the plan.
    pub points: usize,
    /// The point.
    pub point: &'a Point,
    /// How far it is.
    pub stage: Stage<'a>,
}

/// How far a point is.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// It is about to be timed.
    Starts,
    /// It was timed now: the moment to append the sample to a file.
    Measured(&'a Sample),
    /// It had been timed before.
    Reused(&'a Sample),
    /// It cannot be timed, and why.
    Skipped(&'a str),
}

/// Why a run ended.
#[derive(Debug)]
pub enum StopReason {
    /// Every point of the plan is settled.
    Finished,
    /// The progress callback said so.
    Interrupted,
    /// The bench broke; what was measured before is kept.
    Failed(Error),
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// The samples of the plan's points in the plan's order: measured now or reused.
    pub samples: Vec<Sample>,
    /// How many of them were reused.
    pub reused: usize,
    /// Points that the device cannot do, each with the reason.
    pub skipped: Vec<(Point, String)>,
    /// How noisy the samples are.
    pub noise: Noise,
    /// Why it ended.
    pub stop: StopReason,
}

impl Outcome {
    /// What goes into a samples file: the samples, where they come from, and what a reader must
    /// know of them (what the device says, noise, points that were skipped, an early end).
    #[must_use]
    pub fn to_samples(&self, bench: &dyn Bench) -> Samples {
        let provenance = Provenance {
            system: bench.name(),
            engine: "moecast".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source: "measured".to_owned(),
        };
        let mut flags = bench.flags();
        if self.noise.noisy > 0 {
            flags.push(self.noise.to_string());
        }
        let mut reasons: Vec<&str> = self.skipped.iter().map(|(_, why)| why.as_str()).collect();
        reasons.sort_unstable();
        for same in reasons.chunk_by(|a, b| a == b) {
            flags.push(format!("{} points skipped: {}", same.len(), same[0]));
        }
        match &self.stop {
            StopReason::Finished => {}
            StopReason::Interrupted => flags.push("the run was interrupted".to_owned()),
            StopReason::Failed(error) => flags.push(format!("the run failed: {error}")),
        }
        Samples { provenance, flags, samples: self.samples.clone() }
    }
}

/// How noisy samples are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noise {
    /// Samples that tell their spread.
    pub samples: usize,
    /// Those whose spread is above 10 %.
    pub noisy: usize,
    /// The widest spread, and what had it.
    pub worst: Option<(Point, f64)>,
}

impl Noise {
    /// The noise of `samples`.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut noise = Self::default();
        for sample in samples {
            let Some(spread) = sample.spread else { continue };
            noise.samples += 1;
            noise.noisy += usize::from(spread > NOISY_ABOVE);
            if noise.worst.as_ref().is_none_or(|(_, worst)| spread > *worst) {
                noise.worst = Some((Point::of(sample), spread));
            }
        }
        noise
    }

    /// The share of samples whose spread is above 10 %, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of points are small")]
    pub fn share(&self) -> f64 {
        self.noisy as f64 / self.samples.max(1) as f64
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, noisy, worst } = self;
        write!(formatter, "{noisy} of {samples} points spread by more than 10 %")?;
        match worst {
            Some((point, spread)) => {
                write!(formatter, "; the widest by {:.1} %: {point}", spread * 100.0)
            }
            None => Ok(()),
        }
    }
}

/// Times every point of `plan` that is not in `done` on `bench`.
///
/// A point is timed a few times for warm-up, which also tells how often it fits into its budget,
/// and then that often; its sample is the median, with its spread. `progress` hears of each
/// point before and after, and ends the run with [`ControlFlow::Break`]; the samples so far, given
/// as `done` to another run, make it go on where this one ended. Whether `done` is of the same
/// device (its provenance) is for the caller to check.
pub fn run(
    bench: &mut dyn Bench,
    plan: &Plan,
    done: &[Sample],
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Outcome {
    let (mut samples, mut skipped, mut reused) = (Vec::new(), Vec::new(), 0);
    let mut stop = StopReason::Finished;
    let points = plan.points.len();
    for (index, point) in plan.points.iter().enumerate() {
        let mut tell = |stage| progress(Progress { index, points, point, stage });
        let flow = if let Some(sample) = done.iter().find(|sample| point.is_of(sample)) {
            samples.push(sample.clone());
            reused += 1;
            tell(Stage::Reused(sample))
        } else if tell(Stage::Starts).is_break() {
            ControlFlow::Break(())
        } else {
            match measure(bench, point) {
                Ok(sample) => {
                    let flow = tell(Stage::Measured(&sample));
                    samples.push(sample);
                    flow
                }
                Err(TimingError::Unsupported(why)) => {
                    let flow = tell(Stage::Skipped(&why));
                    skipped.push((point.clone(), why));
                    flow
                }
                Err(TimingError::Failed(error)) => {
                    stop = StopReason::Failed(error);
                    break;
                }
            }
        };
        if flow.is_break() {
            stop = StopReason::Interrupted;
            break;
        }
    }
    let noise = Noise::of(&samples);
    Outcome { samples, reused, skipped, noise, stop }
}

/// The sample of `point`.
fn measure(bench: &mut dyn Bench, point: &Point) -> Result<Sample, TimingError> {
    if !point.is_complete() {
        return Err(TimingError::Unsupported("its fields are not those of its family".to_owned()));
    }
    let warm_up = bench.time(point, plan::WARM_UP)?;
    let fastest = warm_up.into_iter().fold(f64::INFINITY, f64::min);
    let mut times = bench.time(point, plan::repeats(fastest))?;
    times.sort_unstable_by(f64::total_cmp);
    let time_us = quantile(&times, 2);
    if !(time_us.is_finite() && time_us > 0.0) {
        let found = format!("a median of {time_us} us");
        return Err(Error::Measure { what: point.to_string(), found }.into());
    }
    let spread = (quantile(&times, 3) - quantile(&times, 1)) / 2.0 / time_us;
    Ok(point.sample(time_us, Some(spread)))
}

/// The `quarters`th quartile of sorted times, between the two nearest where none is exact.
#[expect(clippy::cast_precision_loss, reason = "repeats are few")]
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let quarter_steps = (sorted.len() - 1) * quarters;
    let (below, rest) = (quarter_steps / 4, (quarter_steps % 4) as f64 / 4.0);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * rest
}

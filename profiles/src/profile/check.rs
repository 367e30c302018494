//! A profile held against samples: errors per table and the worst points.

use super::Profile;
use crate::kernel::loads;
use crate::sample::{Family, Sample};
use crate::table::{ErrorSummary, Source};

/// Worst points that are kept per table.
const WORST: usize = 5;

/// Errors of one kernel implementation against samples.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What was timed.
    pub family: Family,
    /// Which implementation; the one asked for.
    pub variant: String,
    /// Errors of all samples that the profile answers.
    pub errors: ErrorSummary,
    /// Relative errors of at most some thousand of them, above 0 where the profile is too slow.
    pub points: Vec<f32>,
    /// Number of the answers whose very point was measured, interpolated, extrapolated.
    pub sources: [u64; 3],
    /// Samples that the profile has no table for.
    pub unanswered: u64,
    /// The worst points, worst first.
    pub worst: Vec<Worst>,
}

/// Errors that are kept one by one.
const POINTS_MAX: usize = 4_000;

/// One point and how far off the profile is.
#[derive(Clone, Debug)]
pub struct Worst {
    /// The sample.
    pub sample: Sample,
    /// The profile's answer, microseconds.
    pub answer_us: f64,
}

impl Worst {
    /// Relative error, above 0 where the profile is too slow.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.answer_us / self.sample.time_us - 1.0
    }
}

impl Profile {
    /// Holds the profile against `samples`, which should not be the ones it was made from.
    #[must_use]
    pub fn check(&self, samples: &[Sample]) -> Vec<Checked> {
        let mut keys: Vec<(Family, &str)> =
            samples.iter().map(|sample| (sample.family, sample.variant.as_str())).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut cache = loads::Cache::default();
        keys.into_iter()
            .map(|(family, variant)| {
                let of_key =
                    |sample: &&Sample| sample.family == family && sample.variant == variant;
                self.check_one(samples.iter().filter(of_key), family, variant, &mut cache)
            })
            .collect()
    }

    fn check_one<'a>(
        &self,
        samples: impl Iterator<Item = &'a Sample>,
        family: Family,
        variant: &str,
        cache: &mut loads::Cache,
    ) -> Checked {
        let mut points = Vec::new();
        let mut errors = Vec::new();
        let mut sources = [0; 3];
        let mut unanswered = 0;
        let mut worst: Vec<Worst> = Vec::new();
        for sample in samples {
            let Some(table) = self.table(family, variant, &sample.shape) else {
                unanswered += 1;
                continue;
            };
            let answer = table.answer(sample, self.machine, cache);
            sources[match answer.source {
                Source::Measured => 0,
                Source::Interpolated => 1,
                Source::Extrapolated | Source::Assumed => 2,
            }] += 1;
            let found = Worst { sample: sample.clone(), answer_us: answer.time_us };
            points.push(found.error() as f32);
            errors.push(found.error().abs());
            let place = worst.partition_point(|other| other.error().abs() >= found.error().abs());
            if place < WORST {
                worst.insert(place, found);
                worst.truncate(WORST);
            }
        }
        let errors = ErrorSummary::of(errors);
        let step = points.len().div_ceil(POINTS_MAX).max(1);
        let points = points.into_iter().step_by(step).collect();
        let variant = variant.to_owned();
        Checked { family, variant, errors, points, sources, unanswered, worst }
    }
}

//! How far a table is off on points that it did not see.

use serde::{Deserialize, Serialize};

use super::Source;

/// Relative errors of a set of predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSummary {
    /// Median of the absolute relative error.
    pub median: f64,
    /// 90th percentile of it.
    pub p90: f64,
    /// Points judged.
    pub points: u64,
}

impl ErrorSummary {
    /// The summary of absolute relative errors.
    #[must_use]
    pub fn of(mut errors: Vec<f64>) -> Self {
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (errors.len() as f64 * share) as usize;
            errors.get(index.min(errors.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        let round = |error: f64| (error * 1e5).round() / 1e5;
        Self { median: round(at(0.5)), p90: round(at(0.9)), points: errors.len() as u64 }
    }
}

/// Errors of one table. Each part is judged on points that its fit and residuals did not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// 30% of the grid's points, held out.
    pub grid: ErrorSummary,
    /// Whole models (or matrix shapes) left out, form refitted without them.
    pub shape: ErrorSummary,
    /// The closed form alone, on the held-out points.
    pub form: ErrorSummary,
    /// The stored table on its own points: rounding, and settings that share a cell.
    pub stored: ErrorSummary,
}

impl ErrorSummary {
    /// The mean of several summaries, weighted by their points.
    fn pooled(parts: &[Self]) -> Self {
        let points: u64 = parts.iter().map(|part| part.points).sum();
        let mean = |value: fn(&Self) -> f64| {
            let sum: f64 = parts.iter().map(|part| value(part) * part.points as f64).sum();
            if points > 0 { sum / points as f64 } else { 0.0 }
        };
        Self { median: mean(|part| part.median), p90: mean(|part| part.p90), points }
    }
}

impl Errors {
    /// Errors of several tables together: means weighted by points.
    pub(crate) fn pooled(parts: impl Iterator<Item = Self> + Clone) -> Self {
        let pool = |part: fn(&Self) -> ErrorSummary| {
            ErrorSummary::pooled(&parts.clone().map(|errors| part(&errors)).collect::<Vec<_>>())
        };
        Self {
            grid: pool(|errors| errors.grid),
            shape: pool(|errors| errors.shape),
            form: pool(|errors| errors.form),
            stored: pool(|errors| errors.stored),
        }
    }

    /// Expected relative error of an answer.
    pub(crate) fn expected(&self, source: Source) -> f64 {
        let first = |choices: [ErrorSummary; 2]| {
            choices.iter().find(|choice| choice.points > 0).map_or(0.3, |choice| choice.median)
        };
        match source {
            Source::Measured => self.stored.median,
            Source::Interpolated => first([self.grid, self.form]),
            Source::Extrapolated => first([self.shape, self.form]),
            Source::Assumed => 0.3,
        }
    }
}

//! `moecast validate`: published measurements, simulated.

mod runs;
mod suites;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cli::{self, Global};
use crate::output::Output;

pub(crate) fn run(arguments: &cli::Validate, global: &Global, output: &Output) -> Result<()> {
    match &arguments.runs {
        Some(path) => runs::run(path, arguments, global, output),
        None => suites::run(arguments, global, output),
    }
}

/// Absolute errors of a figure, as shares of what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Errors {
    /// Figures compared.
    count: usize,
    /// Half of the errors are below.
    median_ape: f64,
    /// Nine of ten errors are below.
    p90_ape: f64,
    /// Share of the errors below 0.2.
    within_20: f64,
    /// Median of predicted over measured, less 1.
    bias: f64,
}

impl Errors {
    /// Of errors with their signs.
    fn of(errors: impl Iterator<Item = f64>) -> Self {
        let mut signed: Vec<f64> = errors.collect();
        if signed.is_empty() {
            return Self::default();
        }
        let mut sizes: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        signed.sort_by(f64::total_cmp);
        let within = sizes.iter().filter(|size| **size < 0.2).count();
        Self {
            count: sizes.len(),
            median_ape: quantile(&sizes, 0.5),
            p90_ape: quantile(&sizes, 0.9),
            within_20: within as f64 / sizes.len() as f64,
            bias: quantile(&signed, 0.5),
        }
    }
}

/// Between the two values that are nearest, linearly; `sorted` is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_size_and_biased_by_sign() {
        let errors = Errors::of([-0.1, 0.3, 0.1, -0.2, 0.0].into_iter());
        assert_eq!((errors.count, errors.median_ape, errors.bias), (5, 0.1, 0.0));
        assert!((errors.p90_ape - 0.26).abs() < 1e-12 && (errors.within_20 - 0.6).abs() < 1e-12);
        assert_eq!(Errors::of(std::iter::empty()), Errors::default());
    }
}

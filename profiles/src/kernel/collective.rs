//! Collectives: a start, and a transfer whose bandwidth is reached slowly.
//!
//! `start + hypot(bytes / bandwidth, c sqrt(megabytes))`, one set of constants per number of
//! GPUs.

use super::loads::Cache;
use super::{Axis, Features, Group, Kernel, no_place, parameter};
use crate::fit::Parameter;
use crate::sample::Sample;

macro_rules! kernel {
    () => {
        Kernel {
            split: &[0],
            shape: &[],
            axes: &[Axis::At(0)],
            model: &[],
            forms: &["hypot"],
            parameters,
            features,
            time,
            place: no_place,
        }
    };
}

pub(super) static ALL_GATHER: Kernel = kernel!();
pub(super) static ALL_REDUCE: Kernel = kernel!();
pub(super) static ALL_TO_ALL: Kernel = kernel!();
pub(super) static REDUCE_SCATTER: Kernel = kernel!();

fn parameters(_: &Group) -> Vec<Parameter> {
    vec![
        parameter("start_us", 0.5, 10.0, 400.0),
        parameter("bandwidth_gb_s", 0.5, 200.0, 3000.0),
        parameter("sqrt_us", 1e-3, 10.0, 3000.0),
    ]
}

fn features(sample: &Sample, _: &Group, _: &mut Cache) -> Features {
    let mut features = [0.0; 16];
    features[0] = sample.at[0] as f64 * 1e-6;
    features
}

fn time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, bandwidth, sqrt] = parameters else {
        panic!("three parameters, not {}", parameters.len());
    };
    let megabytes = features[0];
    t0 + (megabytes * 1e3 / bandwidth).hypot(sqrt * megabytes.sqrt())
}

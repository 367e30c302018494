//! Copies, reads, launches and experts on the processor: a start, and bytes over a bandwidth.

use super::loads::Cache;
use super::{Axis, Features, Group, Kernel, ln, no_place, parameter, smooth_max, weight_bytes};
use crate::fit::Parameter;
use crate::sample::Sample;

macro_rules! kernel {
    ($axes:expr, $features:ident) => {
        Kernel {
            split: &[],
            shape: &[],
            axes: &$axes,
            model: &[],
            forms: &["line"],
            parameters,
            features: $features,
            time,
            place: no_place,
        }
    };
}

pub(super) static DEVICE_COPY: Kernel = kernel!([Axis::At(0)], bytes);
pub(super) static HOST_COPY: Kernel = kernel!([Axis::Shape(0), Axis::At(0)], shared);
pub(super) static STORAGE_READ: Kernel = kernel!([Axis::Shape(0), Axis::At(0)], shared);
pub(super) static LAUNCH: Kernel = kernel!([Axis::At(0)], launches);

pub(super) static CPU_EXPERT: Kernel = Kernel {
    split: &[],
    shape: &[1, 2],
    axes: &[Axis::Shape(0), Axis::At(0)],
    model: &[1, 2],
    forms: &["threads"],
    parameters: cpu_parameters,
    features: cpu_features,
    time: cpu_time,
    place: |shape| [ln(shape[1]), ln(shape[2]), 0.0, 0.0, 0.0, 0.0],
};

fn parameters(_: &Group) -> Vec<Parameter> {
    vec![parameter("start_us", 1e-2, 5.0, 1e4), parameter("unit_per_us", 1e-6, 0.05, 100.0)]
}

fn bytes(sample: &Sample, _: &Group, _: &mut Cache) -> Features {
    let mut features = [0.0; 16];
    // Megabytes: over the unit rate, in TB/s, they are microseconds.
    features[0] = sample.at[0] as f64 * 1e-6;
    features
}

/// Transfers in flight share one bandwidth: each takes as long as all their bytes.
fn shared(sample: &Sample, _: &Group, _: &mut Cache) -> Features {
    let mut features = [0.0; 16];
    features[0] = sample.at[0] as f64 * f64::from(sample.shape[0].max(1)) * 1e-6;
    features
}

fn launches(sample: &Sample, _: &Group, _: &mut Cache) -> Features {
    let mut features = [0.0; 16];
    features[0] = sample.at[0] as f64;
    features
}

fn time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    parameters[0] + features[0] / parameters[1]
}

fn cpu_parameters(_: &Group) -> Vec<Parameter> {
    vec![
        parameter("start_us", 0.1, 10.0, 5000.0),
        parameter("thread_us", 1e-3, 1.0, 500.0),
        parameter("bandwidth_tb_s", 1e-3, 0.02, 5.0),
        parameter("thread_tb_s", 1e-4, 0.01, 1.0),
        parameter("thread_tflop_s", 1e-4, 0.02, 20.0),
        parameter("overlap", 1.0, 2.0, 8.0),
    ]
}

fn cpu_features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let &[threads, hidden, inter] = &*sample.shape else {
        panic!("a CPU expert has three fields, not {}", sample.shape.len());
    };
    let values = 3.0 * f64::from(hidden) * f64::from(inter);
    let data_type = group.variant.split('/').next().unwrap_or("");
    let mut features = [0.0; 16];
    features[..3].copy_from_slice(&[
        f64::from(threads),
        weight_bytes(data_type) * values * 1e-6,
        2.0 * values * sample.at[0] as f64 * 1e-6,
    ]);
    features
}

fn cpu_time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[start, thread_us, bandwidth, thread_tb_s, thread_tflop_s, p] = parameters else {
        panic!("six parameters, not {}", parameters.len());
    };
    let &[threads, megabytes, operations, ..] = features;
    let memory = megabytes / bandwidth.min(thread_tb_s * threads);
    start + thread_us * threads + smooth_max(memory, operations / (thread_tflop_s * threads), p)
}

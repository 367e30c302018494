//! Dense matrix products: bytes against operations, and quantisation to waves of tiles.

use super::loads::Cache;
use super::{
    Axis, Features, Group, Kernel, activation_bytes, no_place, parameter, smooth_max, weight_bytes,
};
use crate::fit::Parameter;
use crate::sample::Sample;

/// Tiles of rows and columns that libraries choose among.
const TILES: [(f64, f64); 4] = [(64.0, 64.0), (64.0, 128.0), (128.0, 128.0), (128.0, 256.0)];

pub(super) static KERNEL: Kernel = Kernel {
    split: &[],
    shape: &[],
    axes: &[Axis::Shape(0), Axis::Shape(1), Axis::At(0)],
    model: &[0, 1],
    forms: &["operations", "waves"],
    parameters,
    features,
    time,
    place: no_place,
};

fn parameters(group: &Group) -> Vec<Parameter> {
    let (bandwidth, rate) = (group.machine.bandwidth, group.rate(group.type_at(0)));
    vec![
        parameter("start_us", 0.5, 4.0, 400.0),
        parameter("bandwidth_tb_s", bandwidth * 0.3, bandwidth * 0.8, bandwidth * 1.05),
        parameter("rate_tflop_s", rate * 0.2, rate * 0.7, rate * 1.05),
        parameter("overlap", 1.0, 2.0, 6.0),
        parameter("k_ns", 1e-3, 1.0, 40.0),
        parameter("k_extra", 1e-2, 50.0, 2000.0),
        parameter("tile_extra", 1e-2, 8.0, 200.0),
        parameter("wave", 1e-2, 0.1, 1.0),
    ]
}

fn features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let (n, k) = (f64::from(sample.shape[0]), f64::from(sample.shape[1]));
    let m = sample.at[0] as f64;
    let data_type = group.type_at(0);
    let bytes = weight_bytes(data_type) * n * k + activation_bytes(data_type) * m * k + 2.0 * m * n;
    let mut features = [0.0; 16];
    features[..5].copy_from_slice(&[m, n, k, bytes * 1e-6, group.machine.multiprocessors]);
    features
}

fn time(form: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, bandwidth, rate, p, k_ns, k_extra, tile_extra, wave] = parameters else {
        panic!("eight parameters, not {}", parameters.len());
    };
    let &[m, n, k, megabytes, multiprocessors, ..] = features;
    let area = if form == 0 { m * n } else { waves(m, n, multiprocessors, tile_extra, wave) };
    let compute = 2.0 * area * (k + k_extra) * 1e-6 / rate;
    t0 + k_ns * k * 1e-3 + smooth_max(megabytes / bandwidth, compute, p)
}

/// Output elements that `m x n` costs as, in whole or part waves of the best tile.
fn waves(m: f64, n: f64, multiprocessors: f64, tile_extra: f64, share: f64) -> f64 {
    let mut best = f64::INFINITY;
    for (rows, columns) in TILES {
        let tiles = (m / rows).ceil() * (n / columns).ceil() / multiprocessors;
        let waves = share * tiles.ceil().max(1.0) + (1.0 - share) * tiles;
        let edge = 1.0 + tile_extra * (1.0 / rows + 1.0 / columns);
        best = best.min(waves * rows * columns * multiprocessors * edge);
    }
    best.max(m * n)
}

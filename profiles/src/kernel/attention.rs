//! Attention kernels with grouped queries, with and without a sliding window.

use super::loads::Cache;
use super::{Axis, Features, Group, Kernel, ln, parameter, smooth_max};
use crate::fit::Parameter;
use crate::sample::Sample;

/// Rows and columns of the tiles that prefill kernels work in.
const TILE: f64 = 128.0;

pub(super) static DECODE: Kernel = Kernel {
    split: &[2, 3],
    shape: &[0, 1],
    axes: &[Axis::At(0), Axis::At(1)],
    model: &[0, 1],
    forms: &["smooth"],
    parameters: decode_parameters,
    features: decode_features,
    time: decode_time,
    place,
};

pub(super) static PREFILL: Kernel = Kernel {
    split: &[2, 3],
    shape: &[0, 1],
    axes: &[Axis::At(0), Axis::At(1)],
    model: &[0, 1],
    forms: &["tiles"],
    parameters: prefill_parameters,
    features: prefill_features,
    time: prefill_time,
    place,
};

/// Bytes of one cached value.
pub(super) fn cache_bytes(data_type: &str) -> f64 {
    if data_type == "fp8" { 1.0 } else { 2.0 }
}

/// Query-key pairs that a prompt of `tokens` after `prefix` tokens looks at, in whole tiles, and
/// those of its longest row of tiles. `window` 0 is none.
pub(crate) fn tiled_area(tokens: f64, prefix: f64, window: f64) -> (f64, f64) {
    let (rows, before) = ((tokens / TILE).ceil(), (prefix / TILE).ceil());
    let mut area = rows * (rows + 1.0) / 2.0 + rows * before;
    let mut longest = rows + before;
    if window > 0.0 {
        let width = window / TILE + 1.0;
        let growing = (width - before).clamp(0.0, rows);
        area = growing * (growing + 1.0) / 2.0
            + growing * before
            + (rows - growing) * width.min(longest);
        longest = longest.min(width);
    }
    (area * TILE * TILE, longest * TILE * TILE)
}

fn decode_parameters(group: &Group) -> Vec<Parameter> {
    let machine = group.machine;
    vec![
        parameter("start_us", 1.0, 8.0, 200.0),
        parameter("bandwidth_tb_s", 0.1, machine.bandwidth * 0.7, machine.bandwidth * 2.0),
        parameter("context_ns", 1e-4, 0.3, 20.0),
        parameter("overlap", 1.0, 2.0, 8.0),
        parameter("head_ns", 1e-4, 2.0, 100.0),
        parameter("rate_tflop_s", 5.0, 500.0, 5000.0),
    ]
}

fn decode_features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let &[heads, kv_heads, head_dim, window] = &*sample.shape else {
        panic!("an attention shape has four fields, not {}", sample.shape.len());
    };
    let (batch, mut context) = (sample.at[0] as f64, sample.at[1] as f64);
    if window > 0 {
        context = context.min(f64::from(window));
    }
    let width = context * f64::from(head_dim) * batch;
    let megabytes = width * f64::from(kv_heads) * 2.0 * cache_bytes(group.type_at(1)) * 1e-6;
    let operations = 4.0 * width * f64::from(heads) * 1e-6;
    let mut features = [0.0; 16];
    features[..4].copy_from_slice(&[
        megabytes,
        operations,
        context * 1e-3,
        batch * f64::from(heads) * 1e-3,
    ]);
    features
}

fn decode_time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, bandwidth, context_ns, p, head_ns, rate] = parameters else {
        panic!("six parameters, not {}", parameters.len());
    };
    let &[megabytes, operations, context, heads, ..] = features;
    let stream = megabytes / bandwidth + operations / rate;
    t0 + smooth_max(stream, context_ns * context, p) + head_ns * heads
}

pub(super) fn prefill_parameters(group: &Group) -> Vec<Parameter> {
    let machine = group.machine;
    let rate = machine.rate_fp8 * 1.5;
    vec![
        parameter("start_us", 1.0, 8.0, 300.0),
        parameter("rate_tflop_s", machine.rate_bf16 * 0.02, machine.rate_bf16 * 0.5, rate),
        parameter("bandwidth_tb_s", 0.1, machine.bandwidth * 0.5, machine.bandwidth * 2.0),
        parameter("overlap", 1.0, 3.0, 8.0),
        parameter("value_ps", 1e-4, 1.0, 1000.0),
        parameter("row_share", 1e-3, 0.5, 3.0),
    ]
}

fn prefill_features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let &[heads, kv_heads, head_dim, window] = &*sample.shape else {
        panic!("an attention shape has four fields, not {}", sample.shape.len());
    };
    let (batch, tokens) = (sample.at[0] as f64, sample.at[1] as f64);
    let (area, row) = tiled_area(tokens, 0.0, f64::from(window));
    let (heads, head_dim) = (f64::from(heads), f64::from(head_dim));
    let cached = 2.0 * f64::from(kv_heads) * cache_bytes(group.type_at(1));
    let mut features = [0.0; 16];
    features[..4].copy_from_slice(&[
        4.0 * batch * heads * head_dim * area * 1e-6,
        4.0 * head_dim * row * group.machine.multiprocessors * 1e-6,
        batch * tokens * head_dim * (2.0 * heads * 2.0 + cached) * 1e-6,
        batch * tokens * heads * head_dim * 1e-6,
    ]);
    features
}

/// Also of latent attention: operations, operations were every row the longest, megabytes,
/// values.
pub(super) fn prefill_time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, rate, bandwidth, p, value_ps, row_share] = parameters else {
        panic!("six parameters, not {}", parameters.len());
    };
    let &[operations, longest, megabytes, values, ..] = features;
    let compute = smooth_max(operations / rate, row_share * longest / rate, 4.0);
    t0 + smooth_max(compute, megabytes / bandwidth, p) + value_ps * values
}

fn place(shape: &[u32]) -> [f64; 6] {
    let (heads, kv_heads) = (ln(shape[0]), ln(shape[1]));
    [heads, heads - kv_heads, 0.0, 0.0, 0.0, 0.0]
}

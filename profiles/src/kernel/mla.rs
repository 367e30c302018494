//! Multi-head latent attention (DeepSeek): the kernel alone, and the module with its projections.
//!
//! Widths are DeepSeek-V3's: 128 values a head without and 64 with rotary embedding, a latent
//! cache of 512 + 64 values a token.

use super::attention::{cache_bytes, prefill_parameters, prefill_time, tiled_area};
use super::loads::Cache;
use super::{Axis, Features, Group, Kernel, no_place, parameter, smooth_max, weight_bytes};
use crate::fit::Parameter;
use crate::sample::Sample;

/// Widths of queries and keys, and of values, in prefill.
const PREFILL_WIDTHS: f64 = 192.0 + 128.0;
/// Widths of the absorbed form in decode: 576 with rotary embedding and 512 without.
const DECODE_WIDTHS: f64 = 576.0 + 512.0;
/// Values of one token in the cache.
const CACHED: f64 = 576.0;
/// Width of DeepSeek-V3's residual stream, and of its compressed queries.
const HIDDEN: f64 = 7168.0;
const QUERY_RANK: f64 = 1536.0;

const AXES: &[Axis] = &[Axis::Shape(0), Axis::At(0), Axis::At(1)];

macro_rules! kernel {
    ($parameters:ident, $features:ident, $time:ident) => {
        Kernel {
            split: &[],
            shape: &[],
            axes: AXES,
            model: &[0],
            forms: &["latent"],
            parameters: $parameters,
            features: $features,
            time: $time,
            place: no_place,
        }
    };
}

pub(super) static PREFILL: Kernel = kernel!(prefill_parameters, prefill_features, prefill_time);
pub(super) static DECODE: Kernel = kernel!(decode_parameters, decode_features, decode_time);
pub(super) static PREFILL_MODULE: Kernel =
    kernel!(prefill_module_parameters, prefill_features, prefill_module_time);
pub(super) static DECODE_MODULE: Kernel =
    kernel!(decode_module_parameters, decode_features, decode_module_time);

/// Where the features of the projections begin.
const PROJECTIONS: usize = 4;

/// Megabytes of the projections' weights, their operations and the tokens.
fn projections(heads: f64, tokens: f64, data_type: &str) -> [f64; 3] {
    let weights = HIDDEN * QUERY_RANK
        + QUERY_RANK * heads * 192.0
        + HIDDEN * CACHED
        + 512.0 * heads * 256.0
        + heads * 128.0 * HIDDEN;
    [weight_bytes(data_type) * weights * 1e-6, 2.0 * tokens * weights * 1e-6, tokens * 1e-3]
}

fn prefill_features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let heads = f64::from(sample.shape[0]);
    let (batch, tokens) = (sample.at[0] as f64, sample.at[1] as f64);
    let (area, row) = tiled_area(tokens, 0.0, 0.0);
    let mut features = [0.0; 16];
    features[..PROJECTIONS].copy_from_slice(&[
        2.0 * batch * heads * area * PREFILL_WIDTHS * 1e-6,
        2.0 * row * PREFILL_WIDTHS * group.machine.multiprocessors * 1e-6,
        batch * tokens * heads * (192.0 * 4.0 + 128.0 * 4.0) * 1e-6,
        batch * tokens * heads * 128.0 * 1e-6,
    ]);
    features[PROJECTIONS..PROJECTIONS + 3].copy_from_slice(&projections(
        heads,
        batch * tokens,
        group.type_at(2),
    ));
    features
}

fn decode_features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let heads = f64::from(sample.shape[0]);
    let (batch, context) = (sample.at[0] as f64, sample.at[1] as f64);
    let mut features = [0.0; 16];
    features[..PROJECTIONS].copy_from_slice(&[
        batch * context * CACHED * cache_bytes(group.type_at(1)) * 1e-6,
        2.0 * batch * heads * context * DECODE_WIDTHS * 1e-6,
        context * 1e-3,
        batch * heads * 1e-3,
    ]);
    features[PROJECTIONS..PROJECTIONS + 3].copy_from_slice(&projections(
        heads,
        batch,
        group.type_at(2),
    ));
    features
}

fn decode_parameters(group: &Group) -> Vec<Parameter> {
    let machine = group.machine;
    vec![
        parameter("start_us", 1.0, 8.0, 300.0),
        parameter("rate_tflop_s", 5.0, machine.rate_bf16 * 0.5, machine.rate_fp8 * 1.5),
        parameter("bandwidth_tb_s", 0.1, machine.bandwidth * 0.7, machine.bandwidth * 2.0),
        parameter("overlap", 1.0, 2.0, 8.0),
        parameter("context_ns", 1e-4, 0.3, 20.0),
        parameter("head_ns", 1e-4, 2.0, 500.0),
    ]
}

fn decode_time(_: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, rate, bandwidth, p, context_ns, head_ns] = parameters else {
        panic!("six parameters, not {}", parameters.len());
    };
    let &[megabytes, operations, context, heads, ..] = features;
    let stream = smooth_max(megabytes / bandwidth, operations / rate, 2.0);
    t0 + smooth_max(stream, context_ns * context, p) + head_ns * heads
}

fn with_projections(mut parameters: Vec<Parameter>, group: &Group) -> Vec<Parameter> {
    let machine = group.machine;
    parameters.extend([
        parameter("projection_tflop_s", 20.0, machine.rate_bf16 * 0.6, machine.rate_fp8 * 3.0),
        parameter("projection_tb_s", 0.1, machine.bandwidth * 0.6, machine.bandwidth * 2.0),
        parameter("token_ns", 1e-4, 1.0, 200.0),
    ]);
    parameters
}

fn prefill_module_parameters(group: &Group) -> Vec<Parameter> {
    with_projections(prefill_parameters(group), group)
}

fn decode_module_parameters(group: &Group) -> Vec<Parameter> {
    with_projections(decode_parameters(group), group)
}

fn projection_time(parameters: &[f64], features: &Features) -> f64 {
    let &[rate, bandwidth, token_ns] = parameters else {
        panic!("three parameters, not {}", parameters.len());
    };
    let &[megabytes, operations, tokens] = &features[PROJECTIONS..PROJECTIONS + 3] else {
        unreachable!("three features were asked for");
    };
    smooth_max(megabytes / bandwidth, operations / rate, 2.5) + token_ns * tokens
}

fn prefill_module_time(form: usize, parameters: &[f64], features: &Features) -> f64 {
    let (attention, projection) = parameters.split_at(6);
    prefill_time(form, attention, features) + projection_time(projection, features)
}

fn decode_module_time(form: usize, parameters: &[f64], features: &Features) -> f64 {
    let (attention, projection) = parameters.split_at(6);
    decode_time(form, attention, features) + projection_time(projection, features)
}

//! Grouped GEMMs of routed experts: gate, up and down projections of the experts of one rank.
//!
//! Time is a smooth maximum of the weight bytes of active experts and of tile-padded operations,
//! plus costs per active expert, per row and per token of the batch (sorting, permutation).
//! The structure was found on the AIConfigurator 0.12 tables of SGLang, vLLM and TensorRT-LLM.

use super::loads::{Cache, Statistics};
use super::{Axis, Features, Group, Kernel, ln, parameter, smooth_max, weight_bytes};
use crate::fit::Parameter;
use crate::sample::Sample;

pub(super) static KERNEL: Kernel = Kernel {
    split: &[],
    shape: &[0, 1, 2, 3, 4, 5, 6],
    axes: &[Axis::Class(0), Axis::At(1)],
    model: &[0, 1, 2, 3],
    forms: &["rows", "tiles-16", "tiles-64", "tiles-128", "tiles-by-batch"],
    parameters,
    features,
    time,
    place,
};

fn parameters(group: &Group) -> Vec<Parameter> {
    let data_type = group.type_at(0);
    let (bandwidth, rate) = (group.machine.bandwidth, group.rate(data_type));
    vec![
        parameter("start_us", 1.0, 20.0, 300.0),
        parameter("bandwidth_tb_s", bandwidth * 0.2, bandwidth * 0.8, bandwidth * 1.1),
        parameter("rate_tflop_s", rate * 0.05, rate * 0.5, rate),
        parameter("overlap", 0.2, 1.5, 8.0),
        parameter("expert_us", 1e-4, 0.2, 5.0),
        parameter("row_hidden_ps", 1e-3, 2.0, 30.0),
        parameter("row_inter_ps", 1e-3, 2.0, 60.0),
        parameter("token_hidden_ps", 1e-3, 2.0, 60.0),
        parameter("pick_width_ps", 1e-4, 0.01, 10.0),
        parameter("width_ns", 1e-4, 0.5, 20.0),
        parameter("inter_extra", 0.1, 20.0, 500.0),
        parameter("unaligned", 1.0, 2.0, 5.0),
        parameter("small_batch", 0.3, 1.5, 8.0),
    ]
}

fn features(sample: &Sample, group: &Group, cache: &mut Cache) -> Features {
    let statistics = cache.statistics(&sample.shape, &sample.at);
    features_of(&sample.shape, sample.at[1] as f64, &statistics, weight_bytes(group.type_at(0)))
}

/// Features of a known load: `shape` as in samples, `tokens` of the batch.
pub(crate) fn features_of(
    shape: &[u32],
    tokens: f64,
    statistics: &Statistics,
    weight_bytes: f64,
) -> Features {
    let &[hidden, inter, topk, experts, tp, ep, matrices, _] = shape else {
        panic!("an expert shape has eight fields, not {}", shape.len());
    };
    let width = f64::from(inter) / f64::from(tp);
    let local = f64::from(experts) / f64::from(ep);
    let unaligned = f64::from(u8::from(width % 16.0 != 0.0));
    let hidden = f64::from(hidden);
    let matrices = f64::from(matrices);
    [
        statistics.active,
        statistics.rows,
        statistics.tiles_16,
        statistics.tiles_64,
        statistics.tiles_128,
        tokens,
        tokens * f64::from(topk),
        f64::from(u8::from(tokens <= local)),
        hidden,
        width,
        matrices * hidden * width * weight_bytes * 1e-6,
        2.0 * matrices * hidden * 1e-6,
        unaligned,
        0.0,
        0.0,
        0.0,
    ]
}

fn time(form: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[t0, bandwidth, rate, p, expert, row_h, row_i, token_h, pick, width_ns, extra, un, small] =
        parameters
    else {
        panic!("thirteen parameters, not {}", parameters.len());
    };
    let &[active, rows, tiles_16, tiles_64, tiles_128, tokens, picks, few, hidden, width, ..] =
        features;
    let unaligned = 1.0 + features[12] * (un - 1.0);
    let padded = match form {
        0 => rows,
        1 => tiles_16,
        2 => tiles_64,
        3 => tiles_128,
        _ if few > 0.0 => tiles_16 * small,
        _ => tiles_64,
    };
    let memory = active * features[10] / bandwidth * unaligned;
    let compute = features[11] * (width + extra) * padded / rate * unaligned;
    t0 + smooth_max(memory, compute, 1.0 + p)
        + expert * active
        + (rows * (row_h * hidden + row_i * width)
            + tokens * token_h * hidden
            + picks * pick * (hidden + width))
            * 1e-6
        + width_ns * (hidden + width) * 1e-3
}

fn place(shape: &[u32]) -> [f64; 6] {
    let &[hidden, inter, topk, experts, tp, ep, matrices, ..] = shape else {
        panic!("an expert shape has eight fields, not {}", shape.len());
    };
    let width = f64::from(inter) / f64::from(tp);
    [
        ln(hidden),
        width.ln(),
        (f64::from(experts) / f64::from(ep)).max(1e-3).ln(),
        0.5 * ln(topk),
        2.0 * f64::from(u8::from(width % 16.0 != 0.0)),
        2.0 * f64::from(u8::from(matrices == 2)),
    ]
}

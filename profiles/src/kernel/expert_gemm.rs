//! Grouped GEMMs of routed experts: gate, up and down projections of the experts of one rank.
//!
//! Time is a smooth maximum of the weight bytes of active experts and of tile-padded operations,
//! plus costs per active expert, per row and per token of the batch (sorting, permutation).
//! The structure was found on the AIConfigurator 0.12 tables of SGLang, vLLM and TensorRT-LLM.

mod bound;

pub(crate) use bound::Bound;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::routing;

    /// DeepSeek-V3's experts in 8 bits.
    const SHAPE: [u32; 4] = [7168, 2048, 8, 256];
    const SKEWS: [u64; 5] = [0, 60, 80, 101, 120];
    /// Times of the most loaded rank (us) on H200, DeepEP MoE of SGLang 0.5.6: ranks, tokens, and
    /// a time per skew. Source: `wideep_generation_moe_perf` of aiconfigurator-core 0.12.0.
    const PUBLISHED: [(u32, u64, [f64; 5]); 4] = [
        (32, 512, [116.5, 113.9, 109.5, 128.5, 126.2]),
        (32, 4096, [126.5, 196.9, 209.1, 221.8, 320.7]),
        (64, 4096, [73.5, 116.4, 152.6, 175.2, 247.1]),
        (128, 4096, [48.4, 89.1, 101.4, 129.8, 169.4]),
    ];
    /// Constants of the form, fitted on the table's uniform rows alone: what skew costs follows
    /// from the load vectors and was never fitted.
    const UNIFORM: [f64; 13] =
        [21.2, 5.28, 1408.0, 0.95, 1e-4, 0.326, 0.978, 1e-3, 1e-4, 1e-4, 0.1, 1.0, 1.0];

    #[test]
    fn skew_costs_what_the_load_vector_says() {
        let mut cache = Cache::default();
        let mut errors = Vec::new();
        for (ep, tokens, times) in PUBLISHED {
            for (skew, published) in SKEWS.into_iter().zip(times) {
                let [hidden, inter, topk, experts] = SHAPE;
                let shape = [hidden, inter, topk, experts, 1, ep, 3, routing::EVEN];
                let statistics = cache.statistics(&shape, &[skew, tokens]);
                let features = features_of(&shape, tokens as f64, &statistics, 1.0);
                let error = time(3, &UNIFORM, &features) / published - 1.0;
                if skew > 0 {
                    errors.push(error.abs());
                }
            }
        }
        errors.sort_by(f64::total_cmp);
        assert!(errors[errors.len() / 2] < 0.10, "median of {errors:?}");
        assert!(errors.iter().all(|error| *error < 0.25), "{errors:?}");
    }

    #[test]
    fn more_rows_on_any_expert_never_take_less_time() {
        let mut rows = vec![0_u32; 32];
        let shape = [7168, 2048, 8, 256, 1, 8, 3, 0];
        for form in 0..KERNEL.forms.len() {
            let mut before = 0.0;
            for step in 0..2_000_usize {
                rows[step * 7 % 32] += 1 + (step as u32 % 5);
                let statistics = Statistics::of(&rows);
                // A batch that does not change sides of "few tokens" while it grows.
                let now = time(form, &UNIFORM, &features_of(&shape, 4096.0, &statistics, 1.0));
                assert!(now >= before, "{}", KERNEL.forms[form]);
                before = now;
            }
            rows.fill(0);
        }
    }
}

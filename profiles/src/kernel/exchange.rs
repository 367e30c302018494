//! Dispatch of tokens to experts on other ranks, and the way back: DeepEP and its relatives.
//!
//! A start and the bytes of the busiest port over a bandwidth, one set of constants per number
//! of nodes. Low-latency kernels send one copy per pick, all others one per destination rank (or
//! node); dispatch travels in 8 bits with a scale per 128 values where the variant says `fp8` or
//! is DeepEP's own benchmark, else in 16.

use super::loads::Cache;
use super::{Axis, Features, Group, Kernel, ln, parameter};
use crate::fit::Parameter;
use crate::sample::{Family, Sample};

macro_rules! kernel {
    () => {
        Kernel {
            split: &[0, 1],
            shape: &[2, 3, 4, 5],
            axes: &[Axis::At(0)],
            model: &[2, 3, 4],
            forms: &["line", "hypot"],
            parameters,
            features,
            time,
            place,
        }
    };
}

pub(super) static DISPATCH: Kernel = kernel!();
pub(super) static COMBINE: Kernel = kernel!();

fn parameters(_: &Group) -> Vec<Parameter> {
    vec![
        parameter("start_us", 1.0, 20.0, 400.0),
        parameter("bandwidth_gb_s", 1.0, 200.0, 3000.0),
        parameter("expert_ns", 1e-3, 1.0, 500.0),
        parameter("block_ns", 1e-3, 1.0, 1e5),
        parameter("block_gb_s", 0.1, 100.0, 3000.0),
    ]
}

/// Bytes of one token on its way.
fn token_bytes(sample: &Sample, variant: &str) -> f64 {
    let hidden = f64::from(sample.shape[2]);
    let own = variant.starts_with("deepep-");
    let narrow = sample.family == Family::Dispatch && (own || variant.ends_with("/fp8"));
    if variant.ends_with("/nvfp4") && sample.family == Family::Dispatch {
        hidden * 0.5625
    } else if narrow {
        // DeepEP: a 32-bit scale per 128 values and a 16-byte header.
        hidden * (1.0 + 4.0 / 128.0) + 16.0
    } else {
        hidden * 2.0
    }
}

/// Expected number of distinct ranks among the picks of a token that chooses evenly.
pub(crate) fn distinct_ranks(ranks: f64, topk: f64, experts: f64) -> f64 {
    let local = experts / ranks;
    let mut none = 1.0;
    let mut pick = 0.0;
    while pick < topk {
        none *= ((experts - local - pick) / (experts - pick)).max(0.0);
        pick += 1.0;
    }
    ranks * (1.0 - none)
}

fn features(sample: &Sample, group: &Group, _: &mut Cache) -> Features {
    let &[_, ranks, _, topk, experts, sms] = &*sample.shape else {
        panic!("an exchange shape has six fields, not {}", sample.shape.len());
    };
    let tokens = sample.at[0] as f64;
    let (topk, experts) = (f64::from(topk), f64::from(experts));
    let low_latency = group.variant.contains("low-latency") || group.variant.contains("_ll");
    let copies =
        if low_latency { topk } else { distinct_ranks(f64::from(ranks), topk, experts.max(topk)) };
    let kilobytes = tokens * copies * token_bytes(sample, group.variant) * 1e-3;
    let blocks = if sms > 0 { f64::from(sms) } else { 1e6 };
    let mut features = [0.0; 16];
    features[..3].copy_from_slice(&[kilobytes, experts * 1e-3, blocks]);
    features
}

fn time(form: usize, parameters: &[f64], features: &Features) -> f64 {
    let &[start, bandwidth, expert_ns, block_ns, block_gb_s] = parameters else {
        panic!("five parameters, not {}", parameters.len());
    };
    let &[kilobytes, experts, blocks, ..] = features;
    let transfer = kilobytes / bandwidth.min(block_gb_s * blocks);
    let fixed = start + expert_ns * experts + block_ns * 1e-3 / blocks;
    if form == 0 { fixed + transfer } else { fixed.hypot(transfer) }
}

fn place(shape: &[u32]) -> [f64; 6] {
    [ln(shape[2]), ln(shape[3]), 0.5 * ln(shape[4]), 2.0 * ln(shape[5]), 0.0, 0.0]
}

//! Exchanges that others measured, from the byte matrix of evenly routed tokens: the median error
//! of every table stays within [`MEDIAN`].
//!
//! Which cells the constants were fitted on stands beside every table: for those it is shown that
//! the form and the counting carry them, not that they predict. What no constant was fitted on,
//! and predicts: the larger numbers of ranks on H800, `H800_LOW_LATENCY_FAR` and `H800_NORMAL_FAR`.

use super::*;
use crate::sample::Family;

/// The H100 with the NVLink that H800 was sold with: 400 GB/s in both directions together.
fn h800(nodes: u16) -> Hardware {
    let mut device = builtin::device("h100-sxm").unwrap();
    "h800-sxm".clone_into(&mut device.name);
    device.domain_bandwidth.value = Bandwidth(200_000_000_000);
    Hardware::new(device, nodes, 8).unwrap()
}

fn micros(model: &dyn ExchangeModel, traffic: &Traffic) -> [f64; 2] {
    Way::ALL.map(|way| model.time(way, traffic).as_micros())
}

/// Most that the median error of a published table may be.
const MEDIAN: f64 = 0.08;

/// The median relative error of a table of `(cell, found, published)`.
fn median(cells: impl IntoIterator<Item = (String, [f64; 2], [f64; 2])>) -> f64 {
    let error = |(found, published): (f64, f64)| (found / published - 1.0).abs();
    let mut errors: Vec<f64> = cells
        .into_iter()
        .flat_map(|(_, found, published)| found.into_iter().zip(published))
        .map(error)
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    let middle = errors.len() / 2;
    if errors.len().is_multiple_of(2) {
        return f64::midpoint(errors[middle - 1], errors[middle]);
    }
    errors[middle]
}

/// The largest relative error of `found` against `published`; each must be below `bar`.
fn worst(cells: impl IntoIterator<Item = (String, [f64; 2], [f64; 2])>, bar: f64) -> f64 {
    let mut worst = 0.0_f64;
    for (cell, found, published) in cells {
        for (found, published) in found.into_iter().zip(published) {
            let error = found / published - 1.0;
            assert!(error.abs() < bar, "{cell}: {found} us, published {published}: {error:.3}");
            worst = worst.max(error.abs());
        }
    }
    worst
}

/// 128 tokens a rank, hidden 7168, top-8, FP8 dispatch, BF16 combine: nodes of 8, microseconds of
/// dispatch and combine. Source: deepseek-ai/DeepEP, docs/legacy.md, "low-latency kernels", EP8 to
/// EP64. Two constants a way were fitted on these cells.
const H800_LOW_LATENCY: [(u16, [f64; 2]); 4] =
    [(1, [77.0, 114.0]), (2, [118.0, 195.0]), (4, [155.0, 273.0]), (8, [173.0, 314.0])];

/// The same with more ranks: EP128 and EP256. No constant was fitted on them.
const H800_LOW_LATENCY_FAR: [(u16, [f64; 2]); 2] = [(16, [192.0, 369.0]), (32, [194.0, 360.0])];

#[test]
fn deepep_low_latency_on_h800_at_ranks_that_were_not_fitted() {
    let cells = H800_LOW_LATENCY_FAR.map(|(nodes, published)| {
        let hardware = h800(nodes);
        let model = build("deepep-low-latency", &hardware).unwrap();
        let traffic = even(&hardware, 128).traffic();
        (format!("{nodes} nodes"), micros(model.as_ref(), &traffic), published)
    });
    let error = median(cells.clone());
    assert!(error < MEDIAN, "{error}");
    worst(cells, 0.15);
}

#[test]
fn deepep_low_latency_on_h800() {
    let cells = H800_LOW_LATENCY.map(|(nodes, published)| {
        let hardware = h800(nodes);
        let model = build("deepep-low-latency", &hardware).unwrap();
        let traffic = even(&hardware, 128).traffic();
        // Every pair of ranks exchanges 128 x 8 / R copies.
        let inside = 1024 / u64::from(hardware.ranks()) * 7;
        assert_eq!(traffic.per_pick.domain.busiest, inside, "{nodes} nodes");
        (format!("{nodes} nodes"), micros(model.as_ref(), &traffic), published)
    });
    let error = median(cells.clone());
    assert!(error < MEDIAN, "{error}");
    assert!(worst(cells, 0.08) < 0.025);
}

/// 256 experts, hidden 7168, top-8: nodes of 8, and dispatch and combine at 32, 128 and 256
/// tokens a rank. Source: aiconfigurator-core 0.12.0, `wideep_deepep_ll_perf`, H200 (the file of
/// H100 is the same). A share of bandwidth a way and a start a way and number of nodes were fitted
/// on these cells.
const H200_LOW_LATENCY: [(u16, [[f64; 2]; 3]); 4] = [
    (1, [[20.5, 24.6], [39.8, 72.4], [67.0, 136.1]]),
    (2, [[40.1, 60.9], [102.1, 186.2], [183.0, 337.4]]),
    (4, [[55.2, 85.6], [143.0, 263.2], [264.5, 500.2]]),
    (8, [[62.8, 95.6], [166.8, 304.7], [301.1, 579.5]]),
];

#[test]
fn deepep_low_latency_on_h200_by_the_closed_form() {
    let cells = H200_LOW_LATENCY.into_iter().flat_map(|(nodes, rows)| {
        [32, 128, 256].into_iter().zip(rows).map(move |(tokens, published)| {
            let hardware = cluster(&format!("h200-sxm:{nodes}x8"));
            let model = build("deepep-low-latency", &hardware).unwrap();
            let traffic = even(&hardware, tokens).traffic();
            (format!("{nodes} nodes, {tokens}"), micros(model.as_ref(), &traffic), published)
        })
    });
    let cells: Vec<_> = cells.collect();
    let error = median(cells.clone());
    assert!(error < MEDIAN, "{error}");
    assert!(worst(cells, 0.08) < 0.025);
}

#[test]
fn deepep_on_h200_by_the_tables_of_a_profile() {
    // Between nodes the shipped profile holds the published table; within one it holds a newer
    // measurement, up to 20% faster. Even traffic gives back what was measured.
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    let cells = H200_LOW_LATENCY.into_iter().skip(1).flat_map(|(nodes, rows)| {
        let profile = &profile;
        [32, 128, 256].into_iter().zip(rows).map(move |(tokens, published)| {
            let hardware = cluster(&format!("h200-sxm:{nodes}x8"));
            let types = [DataType::Fp8, DataType::Bf16];
            let model = build_with("deepep-low-latency", &hardware, types, Some(profile)).unwrap();
            let traffic = even(&hardware, tokens).traffic();
            (format!("{nodes} nodes, {tokens}"), micros(model.as_ref(), &traffic), published)
        })
    });
    assert!(worst(cells, 0.01) < 0.01);
}

#[test]
fn a_port_twice_as_busy_takes_the_time_of_twice_the_tokens() {
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    let hardware = cluster("h200-sxm:1x8");
    let types = [DataType::Fp8, DataType::Bf16];
    let model = build_with("deepep-low-latency", &hardware, types, Some(&profile)).unwrap();
    let mut traffic = even(&hardware, 64).traffic();
    traffic.per_pick.domain.busiest *= 2;
    for (way, family) in Way::ALL.into_iter().zip([Family::Dispatch, Family::Combine]) {
        let shape = [1, 8, 7168, 8, 256, 0];
        let asked = profile.ask(family, "deepep-low-latency", &shape, &[128]).unwrap();
        let found = model.time(way, &traffic).as_micros();
        assert!((found / asked.time_us - 1.0).abs() < 1e-3, "{found} {}", asked.time_us);
    }
}

/// 4096 tokens a rank, hidden 7168, top-8 of 256: nodes of 8, and GB/s of dispatch and combine,
/// over NVLink in one node (a token counts once per rank that it reaches) and over the network
/// cards between nodes (once per node, its own counts too). Source: deepseek-ai/DeepEP,
/// docs/legacy.md, "normal kernels", EP8, 16 and 32. A share of either link's bandwidth a way was
/// fitted on these cells; the starts are those of other tables.
const H800_NORMAL: [(u16, [f64; 2]); 3] =
    [(1, [153.0, 158.0]), (2, [43.0, 43.0]), (4, [58.0, 57.0])];

/// The same with 8 nodes, EP64. No constant was fitted on it.
const H800_NORMAL_FAR: [(u16, [f64; 2]); 1] = [(8, [51.0, 50.0])];

/// What the model takes for a table's bandwidths, and what these amount to.
fn normal_cell((nodes, published): (u16, [f64; 2])) -> (String, [f64; 2], [f64; 2]) {
    let hardware = h800(nodes);
    let model = build("deepep-normal", &hardware).unwrap();
    let ranks = f64::from(hardware.ranks());
    let tokens = 4096.0;
    // Expected copies of a token that picks 8 of 256 experts evenly.
    let reached = crate::kernel::distinct_ranks(ranks, 8.0, 256.0);
    let crossed = crate::kernel::distinct_ranks(f64::from(nodes), 8.0, 256.0);
    let port = |copies: f64| Port { busiest: (tokens * copies) as u64, total: 1 };
    let per_node = Ports {
        domain: port(reached * 7.0 / 8.0),
        network: port(crossed * (1.0 - 1.0 / f64::from(nodes))),
        local: 0,
    };
    let found = micros(model.as_ref(), &Traffic { per_node, ..Traffic::default() });
    let counted = if nodes == 1 { reached } else { crossed };
    let gb = [7392.0, 14_336.0].map(|bytes| tokens * counted * bytes * 1e-3);
    (format!("{nodes} nodes"), found, [gb[0] / published[0], gb[1] / published[1]])
}

#[test]
fn deepep_normal_on_h800() {
    let cells = H800_NORMAL.map(normal_cell);
    let error = median(cells.clone());
    assert!(error < MEDIAN, "{error}");
    assert!(worst(cells, 0.08) < 0.07);
    assert!(worst(H800_NORMAL_FAR.map(normal_cell), 0.05) < 0.03);
}

/// DeepSeek-V3's width, BF16 both ways, one copy per token and destination rank: tokens a rank,
/// and microseconds of dispatch and combine at EP8 and EP32. Source: TensorRT-LLM blog 18, GB200
/// NVL72. Two constants a way were fitted on these cells, a third is the share of the start that a
/// transfer hides.
const GB200: [(u16, [[f64; 2]; 2]); 5] = [
    (1, [[18.9, 31.0], [19.8, 31.4]]),
    (32, [[18.2, 32.7], [21.1, 34.6]]),
    (128, [[31.7, 38.1], [37.8, 41.1]]),
    (512, [[89.5, 91.7], [109.6, 102.5]]),
    (2048, [[311.8, 322.6], [373.7, 369.5]]),
];

#[test]
fn one_sided_stores_on_gb200() {
    let cells = GB200.into_iter().flat_map(|(tokens, rows)| {
        [8_u16, 32].into_iter().zip(rows).map(move |(ranks, published)| {
            let hardware = cluster(&format!("gb200-nvl72:{ranks}"));
            let types = [DataType::Bf16; 2];
            let model = build_with("one-sided-nvlink", &hardware, types, None).unwrap();
            // The benchmark's picks go to 8 different ranks each.
            let traffic = even(&hardware, tokens).traffic();
            (format!("EP{ranks}, {tokens}"), micros(model.as_ref(), &traffic), published)
        })
    });
    let cells: Vec<_> = cells.collect();
    let error = median(cells.clone());
    assert!(error < MEDIAN, "{error}");
    assert!(worst(cells, 0.10) < 0.085);
}

#[test]
fn nccl_takes_the_curve_or_comes_near_it() {
    // One node of H200: the closed form against the profile's own curves, 1 MB to 59 MB a rank.
    // Alone it misses the step between NCCL's protocols.
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    let hardware = cluster("h200-sxm:8");
    for name in ["nccl-all-to-all", "all-gather-reduce-scatter"] {
        let types = [DataType::Bf16; 2];
        let curve = build_with(name, &hardware, types, Some(&profile)).unwrap();
        let form = build_with(name, &hardware, types, None).unwrap();
        for tokens in [8, 32, 128, 512] {
            let traffic = even(&hardware, tokens).traffic();
            let cell = format!("{name}, {tokens}");
            worst(
                [(cell, micros(form.as_ref(), &traffic), micros(curve.as_ref(), &traffic))],
                0.25,
            );
        }
    }
}

#[test]
fn the_nccl_curve_is_asked_for_the_whole_buffer() {
    // 8 ranks send 32 copies of 14,336 bytes to each, themselves too: a buffer of 3,670,016.
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    let hardware = cluster("h200-sxm:8");
    let model =
        build_with("nccl-all-to-all", &hardware, [DataType::Bf16; 2], Some(&profile)).unwrap();
    let traffic = even(&hardware, 32).traffic();
    let asked = profile.ask(Family::AllToAll, "nccl/half", &[8], &[3_670_016]).unwrap();
    let found = model.time(Way::Dispatch, &traffic).as_micros();
    assert!((found / asked.time_us - 1.0).abs() < 0.01, "{found} {}", asked.time_us);
}

//! The columns that these tests write are those of the wheel; their figures are made up.

mod damage;
mod tables;
mod wheel;
mod writer;

use std::path::Path;

use super::available;
use super::read::read;
use crate::Result;
use crate::import::Options;
use crate::sample::{Family, Samples};
use writer::{Column, Column::*, write};

const DATASHEET: &str = "gpu:\n  mem_bw: 4800000000000 # 4800GB/s\nnode:\n  num_gpus_per_node: 8\n";

/// A folder `systems` with a datasheet of h200_sxm.
fn systems() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("systems/data")).unwrap();
    std::fs::write(folder.path().join("systems/h200_sxm.yaml"), DATASHEET).unwrap();
    folder
}

/// Puts a table at `place`: `moe/sglang/0.5.14/moe_perf` of h200_sxm.
fn put(folder: &Path, place: &str, columns: &[(&str, Column)]) {
    let path = folder.join(format!("systems/data/h200_sxm/{place}.parquet"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, write(columns)).unwrap();
}

fn options(engine: &str, version: Option<&str>) -> Options {
    Options {
        system: Some("h200_sxm".to_owned()),
        engine: Some(engine.to_owned()),
        version: version.map(str::to_owned),
    }
}

/// A table of experts: rows of tokens, expert-parallel ranks and milliseconds.
fn moe(rows: &[(i64, i64, f64)]) -> Vec<(&'static str, Column)> {
    let all = |value: i64| Counts(vec![value; rows.len()]);
    let text = |value: &str| Texts(vec![value.to_owned(); rows.len()]);
    vec![
        ("framework", text("SGLang")),
        ("kernel_source", text("sglang_fused_moe_triton")),
        ("moe_dtype", text("fp8_block")),
        ("num_tokens", Counts(rows.iter().map(|row| row.0).collect())),
        ("hidden_size", all(7168)),
        ("inter_size", all(2048)),
        ("topk", all(8)),
        ("num_experts", all(256)),
        ("moe_tp_size", all(1)),
        ("moe_ep_size", Counts(rows.iter().map(|row| row.1).collect())),
        ("distribution", text("power_law_1.01")),
        ("latency", Times(rows.iter().map(|row| row.2).collect())),
    ]
}

/// Dense products, one row at each time.
fn gemm(dtype: &str, times_ms: &[f64]) -> Vec<(&'static str, Column)> {
    let all = |value: i64| Counts(vec![value; times_ms.len()]);
    let text = |value: &str| Texts(vec![value.to_owned(); times_ms.len()]);
    vec![
        ("kernel_source", text("deepgemm")),
        ("gemm_dtype", text(dtype)),
        ("m", Counts((0..times_ms.len()).map(|power| 1 << power).collect())),
        ("n", all(1024)),
        ("k", all(1024)),
        ("latency", Times(times_ms.to_vec())),
    ]
}

/// Column `name` of `columns` replaced.
fn with(
    mut columns: Vec<(&'static str, Column)>,
    name: &str,
    column: Column,
) -> Vec<(&'static str, Column)> {
    let found = columns.iter_mut().find(|(known, _)| *known == name);
    found.unwrap().1 = column;
    columns
}

#[test]
fn the_newest_version_with_dense_products_is_read() {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.9/moe_perf", &moe(&[(1, 1, 0.1)]));
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &moe(&[(1, 1, 0.1), (2, 1, 0.2)]));
    put(folder.path(), "moe/sglang/0.5.15/moe_perf", &moe(&[(1, 1, 0.1)]));
    put(folder.path(), "gemm/sglang/0.5.14/gemm_perf", &gemm("bfloat16", &[0.005, 0.005]));
    let samples = read(folder.path(), &options("sglang", None)).unwrap();
    assert_eq!(samples.provenance.system, "h200-sxm");
    assert_eq!(samples.provenance.version, "0.5.14");
    assert_eq!(samples.provenance.source, "aiconfigurator-core (Apache-2.0)");
    assert_eq!(samples.samples.len(), 4);
    assert_eq!(samples.flags, [""; 0]);
    // Asked for another: its own experts, and the nearest products.
    let samples = read(folder.path(), &options("sglang", Some("0.5.15"))).unwrap();
    assert_eq!(samples.samples.len(), 3);
    assert!(samples.flags[0].contains("no gemm_perf of 0.5.15"), "{:?}", samples.flags);
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.9/moe_perf", &moe(&[(1, 1, 0.1)]));
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &moe(&[(1, 1, 0.1)]));
    let fails = |options: &Options, part: &str| {
        let error = read(folder.path(), options).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    };
    fails(&options("sglang", Some("0.5.1")), "version: 0.5.1; expected one of 0.5.9, 0.5.14");
    fails(&options("vllm", None), "engine: vllm; expected one of sglang");
    fails(&Options::default(), "system: none asked for; expected one of h200_sxm");
    let versions = available(folder.path()).unwrap();
    let versions: Vec<&str> = versions.iter().map(|entry| entry.version.as_str()).collect();
    assert_eq!(versions, ["0.5.9", "0.5.14"]);
}

#[test]
fn a_folder_is_found_from_above_and_from_within() {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &moe(&[(1, 1, 0.1)]));
    let outer = tempfile::tempdir().unwrap();
    let package = outer.path().join("site-packages/aiconfigurator_core");
    std::fs::create_dir_all(package.parent().unwrap()).unwrap();
    std::fs::rename(folder.path(), &package).unwrap();
    std::fs::create_dir(outer.path().join("site-packages/aiconfigurator_core-0.12.0.dist-info"))
        .unwrap();
    for path in
        [outer.path(), &outer.path().join("site-packages"), &package, &package.join("systems")]
    {
        let samples = read(path, &options("sglang", None)).unwrap();
        assert_eq!(samples.provenance.source, "aiconfigurator-core 0.12.0 (Apache-2.0)");
    }
}

#[test]
fn launch_bound_products_are_flagged() {
    let folder = systems();
    put(folder.path(), "moe/vllm/0.24.0/moe_perf", &moe(&[(1, 1, 0.1)]));
    // A mebibyte of weights takes 0.2 us to read.
    put(folder.path(), "gemm/vllm/0.24.0/gemm_perf", &gemm("fp8_block", &[0.056, 0.056]));
    let samples = read(folder.path(), &options("vllm", None)).unwrap();
    assert_eq!(samples.flags.len(), 1);
    assert!(
        samples.flags[0].contains("deepgemm/fp8_block is bound by launches"),
        "{:?}",
        samples.flags
    );
}

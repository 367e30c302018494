//! Tables that are damaged, incomplete or in the wrong unit.

use parquet::basic::{Compression, ZstdLevel};

use super::*;

fn fails(columns: &[(&str, Column)], part: &str) {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", columns);
    let error = read(folder.path(), &options("sglang", None)).unwrap_err().to_string();
    assert!(error.contains("moe_perf.parquet"), "{error}");
    assert!(error.contains(part) && !error.contains('\n'), "{error}");
}

fn good() -> Vec<(&'static str, Column)> {
    moe(&[(1, 1, 0.1), (2, 1, 0.2), (4, 1, 0.3)])
}

#[test]
fn wrong_columns_are_named() {
    let without: Vec<_> = good().into_iter().filter(|(name, _)| *name != "topk").collect();
    fails(&without, "topk: no such column; expected a column of that name beside framework");
    fails(
        &with(good(), "topk", Times(vec![8.0; 3])),
        "topk: a column of DOUBLE; expected one INT64",
    );
    fails(&with(good(), "latency", Counts(vec![8; 3])), "latency: a column of INT64");
}

#[test]
fn wrong_rows_are_located() {
    let times = |times: [f64; 3]| with(good(), "latency", Times(times.to_vec()));
    fails(&times([0.1, f64::NAN, 0.3]), "row 2, latency: NaN");
    fails(&times([0.1, -0.2, 0.3]), "row 2, latency: -0.2");
    fails(&times([0.1, 0.0, 0.3]), "row 2: a time of 0 us");
    fails(
        &times([0.1, 200.0, 0.3]),
        "row 2: 200000 us at tokens 2 beside 100 us at tokens 1 (row 1)",
    );
    fails(&times([0.1, 0.2, 0.0003]), "row 3: 0.3");
    fails(&with(good(), "topk", Counts(vec![8, 8, -1])), "row 3, topk: -1");
    fails(&with(good(), "topk", Counts(vec![8, 8, 1 << 40])), "row 3, topk: 1099511627776");
    fails(&with(good(), "topk", Gaps(vec![Some(8), None, Some(8)])), "topk: no value in row 2");
    let names = ["balanced", "zipf", "balanced"].map(str::to_owned).to_vec();
    fails(&with(good(), "distribution", Texts(names)), "row 2, distribution: zipf");
    let folder = systems();
    std::fs::write(folder.path().join("systems/h200_sxm.yaml"), "gpu:\n  mem_bw: fast\n").unwrap();
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &good());
    let error = read(folder.path(), &options("sglang", None)).unwrap_err().to_string();
    assert!(error.contains("h200_sxm.yaml: num_gpus_per_node: no number"), "{error}");
}

#[test]
fn a_whole_table_in_another_unit_is_an_error() {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &good());
    // Seconds: 14 doublings of 1024 x 1024 in a few nanoseconds.
    let times: Vec<f64> = (0..14).map(|power| 5e-6 * 1.1_f64.powi(power)).collect();
    put(folder.path(), "gemm/sglang/0.5.14/gemm_perf", &gemm("bfloat16", &times));
    let error = read(folder.path(), &options("sglang", None)).unwrap_err().to_string();
    assert!(error.contains("a time in milliseconds that a GPU can reach"), "{error}");
}

/// Reads `bytes` as a table, all columns of a moe table.
fn decode(bytes: &[u8]) -> Result<Vec<crate::import::check::Row>> {
    use super::super::columns::Table;
    use super::super::tables::{Context, SPECS};
    use super::super::version::Version;
    let table = Table::open(bytes.to_vec(), "x".to_owned())?;
    let spec = SPECS.iter().find(|spec| spec.table == "moe_perf").unwrap();
    let version = Version::new("0.5.14");
    (spec.read)(&table, &Context { engine: "sglang", version: &version, gpus_per_node: 8 })
}

#[test]
fn a_truncated_table_is_an_error() {
    let bytes = write(&good());
    assert_eq!(decode(&bytes).unwrap().len(), 3);
    for end in 0..bytes.len() {
        let error = decode(&bytes[..end]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| !error.contains('\n')), "cut off at {end}");
    }
}

/// A flipped bit is an error or other figures, never a panic or an allocation of gigabytes.
#[test]
fn a_flipped_bit_is_no_panic() {
    let rows: Vec<(i64, i64, f64)> = (1..60).map(|m| (m, 1, 0.1 + 0.001 * m as f64)).collect();
    for packed in [Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
        let bytes = writer::write_packed(&moe(&rows), packed);
        assert_eq!(decode(&bytes).unwrap().len(), 59);
        for at in 0..bytes.len() {
            for bit in [at % 8, (at + 3) % 8] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(rows) = decode(&flipped) {
                    assert!(rows.len() <= bytes.len() * 8, "byte {at}, bit {bit}");
                }
            }
        }
    }
}

//! Wheels: one that is made here, and the real one where it is at hand.

use std::io::Write;
use std::path::PathBuf;

use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;
use crate::import::Available;

fn wheel() -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let table = write(&moe(&[(1, 1, 0.1), (2, 1, 0.2)]));
    let files: [(&str, &[u8]); 3] = [
        ("aiconfigurator_core/systems/h200_sxm.yaml", DATASHEET.as_bytes()),
        ("aiconfigurator_core/systems/data/h200_sxm/moe/sglang/0.5.14/moe_perf.parquet", &table),
        ("aiconfigurator_core-0.12.0.dist-info/METADATA", b"Name: x\nVersion: 0.12.0\n\nText\n"),
    ];
    for (name, bytes) in files {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_wheel_is_read_without_unpacking() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.whl");
    std::fs::write(&path, wheel()).unwrap();
    let samples = read(&path, &options("sglang", None)).unwrap();
    assert_eq!(samples.samples.len(), 2);
    assert_eq!(samples.provenance.source, "aiconfigurator-core 0.12.0 (Apache-2.0)");
    assert_eq!(available(&path).unwrap().len(), 1);
}

#[test]
fn a_damaged_wheel_is_an_error_or_the_same() {
    let whole = wheel();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.whl");
    let read_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(&path, &options("sglang", None))
    };
    let expected = read_bytes(&whole).unwrap();
    for end in (0..whole.len()).step_by(7) {
        assert!(read_bytes(&whole[..end]).is_err(), "cut off at {end}");
    }
    for at in (0..whole.len()).step_by(3) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        // Entries have checksums: figures are right or refused. Their names have none, and the
        // version in a name tells how tokens were routed.
        if let Ok(samples) = read_bytes(&flipped) {
            let times = |samples: &Samples| -> Vec<f64> {
                samples.samples.iter().map(|sample| sample.time_us).collect()
            };
            assert_eq!(times(&samples), times(&expected), "byte {at}");
        }
    }
}

/// The real wheel or folder, where the environment says where it is.
fn real() -> Option<PathBuf> {
    std::env::var_os("MOECAST_AICONFIGURATOR").map(PathBuf::from)
}

#[test]
fn the_real_tables_are_read() {
    let Some(path) = real() else { return };
    let known = ["a100_sxm", "b200_sxm", "gb200", "h100_sxm", "h200_sxm", "l40s"];
    let mut all = available(&path).unwrap();
    all.retain(|entry| known.contains(&entry.system.as_str()));
    all.dedup_by(|a, b| a.system == b.system && a.engine == b.engine);
    assert_eq!(all.len(), 18);
    for Available { system, engine, .. } in all {
        let asked = Options { system: Some(system.clone()), engine: Some(engine), version: None };
        let samples = read(&path, &asked).unwrap();
        assert!(samples.samples.len() > 20_000, "{asked:?}: {}", samples.samples.len());
        let experts = samples.samples.iter().filter(|s| s.family == Family::ExpertGemm).count();
        assert!(experts > 5_000, "{asked:?}: {experts}");
    }
}

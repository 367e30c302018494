//! Damaged files: every prefix and every flipped byte of a good file is read or refused, never a
//! panic, and never more memory than a small constant.

use proptest::prelude::*;

use super::super::torch::write::{per_pass, stat};
use super::{ALL, import, import_one, smallest};

/// Formats that a cut or a flip must not get past: their entries carry checksums.
const SGLANG: [&str; 3] = ["sglang-per-pass", "sglang-per-token", "sglang-stat"];

#[test]
fn every_prefix_of_a_pt_is_refused() {
    let real = include_bytes!("../../../tests-data/sglang_stat.pt").to_vec();
    let examples = SGLANG.map(|format| (format, smallest(format).1));
    for (format, bytes) in [("sglang-stat", real)].into_iter().chain(examples) {
        let name = "a.pt";
        for end in 0..bytes.len() {
            let found = import(format, None, &[(name, &bytes[..end])]);
            assert!(found.is_err(), "{format}: {end} of {} bytes were read", bytes.len());
        }
    }
}

#[test]
fn every_prefix_of_a_text_recording_is_read_or_refused() {
    for entry in ALL.iter().filter(|entry| !SGLANG.contains(&entry.name)) {
        let (name, bytes) = smallest(entry.name);
        for end in 0..bytes.len() {
            let _ = import_one(entry.name, (name, &bytes[..end]));
        }
    }
}

/// Changes every byte in three ways. A flip in unused bytes of the zip may leave the same trace.
fn flip_every_byte() {
    for entry in ALL {
        let (name, mut bytes) = smallest(entry.name);
        let good = import_one(entry.name, (name, &bytes)).unwrap();
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                bytes[at] ^= mask;
                let found = import_one(entry.name, (name, &bytes));
                bytes[at] ^= mask;
                if let (Ok(trace), true) = (found, SGLANG.contains(&entry.name)) {
                    assert_eq!(trace.events(), good.events(), "{} byte {at}", entry.name);
                }
            }
        }
    }
}

#[test]
#[ignore = "run by the next test, in a process of its own with little memory"]
fn flips_alone() {
    flip_every_byte();
}

/// Runs the flips in a process that may map 512 MiB: a size that is believed before it is checked
/// ends it.
#[test]
#[cfg(target_os = "linux")]
fn no_flipped_byte_panics_or_reserves_much_memory() {
    let binary = std::env::current_exe().unwrap();
    let test = concat!(module_path!(), "::flips_alone");
    let test = test.split_once("::").unwrap().1;
    let limited = "ulimit -v 524288 && exec \"$0\" --exact \"$1\" --ignored --test-threads=1";
    let run = std::process::Command::new("sh")
        .args(["-c", limited, binary.to_str().unwrap(), test])
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}\n{run:?}");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let marker = 1_234_567_890;
    let mut bytes = stat(0, [1, 1, 2], &[marker, 2]).file();
    let needle = marker.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    assert_eq!(
        import("sglang-stat", None, &[("a.pt", &bytes)]).unwrap_err(),
        "a.pt: entry `archive/data/0`: Invalid checksum; \
         expected bytes that match their size and CRC-32"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let broken = b"{\"tok\": 1, \"layers\": [[0]]}\n{\"tok\": 2, \xff\xfe}\n";
    assert_eq!(
        import("jsonl-layers", None, &[("a.jsonl", broken)]).unwrap_err(),
        "a.jsonl: line 2: a byte that is not UTF-8 at column 12; expected text"
    );
    let long = [b"layer,expert,count\n".as_slice(), &vec![b'1'; 5 << 20]].concat();
    assert_eq!(
        import("counts-csv", None, &[("a.csv", &long)]).unwrap_err(),
        "a.csv: line 2: more than 4194304 bytes; expected a shorter line"
    );
}

/// One stray id must not cost a table of gigabytes.
#[test]
fn almost_empty_tables_are_refused() {
    let layers: String = (0..60_000).map(|layer| format!("{layer},0,1\n")).collect();
    let rows = format!("layer,expert,count\n{layers}0,60000,1\n");
    let error = import("counts-csv", None, &[("a.csv", rows.as_bytes())]).unwrap_err();
    assert!(error.contains("expected a table that is not almost empty"), "{error}");
    let wide = "# route_trace v1\n\
                # model=a arch=b n_layer=65535 n_expert=65000 n_expert_used=65000\n\
                turn,phase,step,layer,slot,expert\n0,0,0,0,0,0\n";
    let error = import("route-trace-csv", None, &[("a.csv", wide.as_bytes())]).unwrap_err();
    assert!(error.contains("expected a table that is not almost empty"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_an_importer_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for entry in ALL {
            let (name, good) = smallest(entry.name);
            let _ = import_one(entry.name, (name, &bytes));
            let _ = import_one(entry.name, (name, &[good, bytes.clone()].concat()));
        }
    }

    /// What was counted is what is read: no token is lost or made up.
    #[test]
    fn counts_are_conserved(
        counts in prop::collection::vec(0..1000, 12),
        map in prop::collection::vec(0..3_i64, 3),
    ) {
        prop_assume!(counts.iter().any(|&count| count > 0));
        let total: i64 = counts.iter().map(|&count| i64::from(count)).sum();
        let stat = import("sglang-stat", None, &[("a.pt", &stat(0, [2, 2, 3], &counts).file())]);
        let map = [map.as_slice(), &map].concat();
        let passes = [(1, 0, &counts[..6]), (2, 0, &counts[6..])];
        let passes = per_pass([2, 3], &map, &passes).file();
        let passes = import("sglang-per-pass", None, &[("a.pt", &passes)]);
        for trace in [stat, passes] {
            let counts = super::counts(trace.as_ref().unwrap()).iter();
            let sum: i64 = counts.map(|&count| i64::from(count)).sum();
            prop_assert_eq!(sum, total);
        }
    }
}

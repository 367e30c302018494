//! What holds for every reader, and the helpers of its tests.

use moecast_profiles::units::SimTime;

use super::*;

mod formats;
mod malformed;
mod measured;

/// Made by hand to the formats' rules; a new reader adds its own here.
const FIXTURES: [(&str, &str, &[u8]); 7] = [
    ("azure-csv", "a.csv", include_bytes!("../../tests-data/requests/azure-2023.csv")),
    ("azure-csv", "a.csv", include_bytes!("../../tests-data/requests/azure-2024.csv")),
    ("burstgpt-csv", "a.csv", include_bytes!("../../tests-data/requests/burstgpt-1.csv")),
    ("burstgpt-csv", "a.csv", include_bytes!("../../tests-data/requests/burstgpt-2.csv")),
    ("lengths-jsonl", "a.jsonl", include_bytes!("../../tests-data/requests/lengths.jsonl")),
    ("lengths-jsonl", "a.jsonl", include_bytes!("../../tests-data/requests/lengths-arrival.jsonl")),
    ("mooncake-jsonl", "a.jsonl", include_bytes!("../../tests-data/requests/mooncake.jsonl")),
];

/// Reads files of the given names and contents; errors name them without their folder.
fn read_files(format: &str, files: &[(&str, &[u8])]) -> std::result::Result<RequestTrace, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, bytes)) in paths.iter().zip(files) {
        std::fs::write(path, bytes).unwrap();
    }
    read(format, &paths)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

fn read_text(format: &str, text: &str) -> std::result::Result<RequestTrace, String> {
    read_files(format, &[("a", text.as_bytes())])
}

/// Arrival in nanoseconds, lengths and prefix of every request.
fn rows(trace: &RequestTrace) -> Vec<(u64, u32, u32, &[u32])> {
    let row = |index| {
        let request = trace.get(index);
        (request.arrival.0, request.input_tokens, request.output_tokens, request.prefix)
    };
    (0..trace.count()).map(row).collect()
}

#[test]
fn names_are_alphabetical_described_and_have_a_fixture() {
    assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
    for entry in ALL {
        assert!(!entry.about.is_empty() && !entry.about.contains('\n'), "{}", entry.name);
        assert!(FIXTURES.iter().any(|(format, _, _)| *format == entry.name), "{}", entry.name);
    }
}

#[test]
fn auto_finds_every_format_and_no_two_claim_one_file() {
    for (format, name, bytes) in FIXTURES {
        let line = std::str::from_utf8(bytes).unwrap().lines().next().unwrap();
        let claims: Vec<&str> =
            ALL.iter().filter(|entry| (entry.recognise)(line)).map(|entry| entry.name).collect();
        assert_eq!(claims, [format]);
        let found = read_files("auto", &[(name, bytes)]).unwrap();
        assert_eq!(found, read_files(format, &[(name, bytes)]).unwrap());
        let header = found.header();
        assert_eq!(header.source, format);
        assert!(!header.synthetic);
        let input = &header.inputs[0];
        assert_eq!((input.name.as_str(), input.bytes), (name, bytes.len() as u64));
    }
}

/// The laws of [`RequestTrace`], on every fixture.
#[test]
fn traces_are_valid() {
    for (_, name, bytes) in FIXTURES {
        let trace = read_files("auto", &[(name, bytes)]).unwrap();
        assert_eq!(trace.arrivals()[0], SimTime(0));
        assert!(trace.arrivals().is_sorted());
        let mut next = 0;
        for request in trace.iter() {
            assert!(request.input_tokens > 0 && request.output_tokens > 0);
            assert!(
                request.prefix.len() <= request.input_tokens.div_ceil(PREFIX_BLOCK_TOKENS) as usize
            );
            for &id in request.prefix {
                assert!(id <= next, "id {id} before {next}");
                next = next.max(id + 1);
            }
        }
        assert_eq!(next, trace.distinct_blocks());
    }
}

#[test]
fn an_unknown_format_and_an_unknown_file_list_the_readers() {
    let list = "azure-csv, burstgpt-csv, lengths-jsonl, mooncake-jsonl";
    assert_eq!(
        read_text("azure-cvs", "").unwrap_err(),
        format!(
            "find request trace format `azure-cvs`: did you mean `azure-csv`? \
             valid names are {list}"
        )
    );
    assert_eq!(
        read_text("auto", "\u{0}").unwrap_err(),
        format!("a: no importer recognises this file; name one with --format: {list}")
    );
    assert!(read_text("auto", "").is_err());
    let error = read("auto", &[]).unwrap_err().to_string();
    assert_eq!(error, "input: list of files: no file; expected at least one file");
    assert!(read("auto", &[PathBuf::from("no-such-file")]).is_err());
}

fn arrival(stamp: i128, input_tokens: u32, prefix_hashes: &[u64]) -> Arrival<'_> {
    Arrival { stamp, input_tokens, output_tokens: 1, prefix_hashes }
}

#[test]
fn the_builder_refuses_what_would_break_the_laws() {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("test", true));
    builder.push(arrival(-5, 513, &[])).unwrap();
    let refused = builder.push(arrival(-6, 1, &[])).unwrap_err();
    assert_eq!(refused.found, "an arrival 1 ns before the previous one");
    let refused = builder.push(arrival(0, 512, &[1, 2])).unwrap_err();
    assert_eq!(refused.found, "2 prefix blocks");
    assert!(builder.push(arrival(i128::MAX, 1, &[])).is_err());
    assert!(builder.push(arrival(i128::MIN, 1, &[])).is_err());
}

/// Prefixes may begin late; ids count from 0 in the order in which hashes first occur.
#[test]
fn prefixes_are_interned() {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("test", true));
    for (stamp, hashes) in [(7, &[][..]), (7, &[u64::MAX, 3]), (8, &[]), (9, &[u64::MAX, 0, 3])] {
        builder.push(arrival(stamp, 9_999, hashes)).unwrap();
    }
    let trace = builder.finish().unwrap();
    let prefixes: Vec<&[u32]> = trace.iter().map(|request| request.prefix).collect();
    assert_eq!(prefixes, [&[][..], &[0, 1], &[], &[0, 2, 1]]);
    assert_eq!((trace.block_count(), trace.distinct_blocks()), (5, 3));
    assert_eq!(trace.duration().0, 2);
}

#[test]
fn nothing_left_is_an_error() {
    let empty = RequestTraceBuilder::new(RequestHeader::new("test", true)).finish().unwrap_err();
    assert_eq!(empty.found, "no requests");
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("test", true));
    builder.push(arrival(0, 0, &[])).unwrap();
    let refused = builder.finish().unwrap_err().at("a", "whole recording").to_string();
    assert_eq!(
        refused,
        "a: whole recording: no requests but 1 without input or output tokens; \
         expected at least one request"
    );
}

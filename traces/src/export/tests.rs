//! Export, then import, gives the same trace where the format can carry it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::import::{self, Input};
use crate::slice::{Selection, slice};
use crate::testing::{counts, traces};
use crate::{Header, Phase, TokenRow, TraceBuilder};

fn exported(format: &str, trace: &RoutingTrace) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(format, trace, "t", &mut bytes).unwrap();
    bytes
}

fn imported(format: &str, name: &str, bytes: &[u8]) -> RoutingTrace {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = vec![folder.path().join(name)];
    std::fs::write(&paths[0], bytes).unwrap();
    import::read(format, Input { paths: &paths, model: None, progress: &|_| {}, spill: None })
        .unwrap()
}

/// What `jsonl-layers` can say: decode tokens of one request, one a step, layers from 0.
fn plain(rows: &[[u16; 4]]) -> RoutingTrace {
    let mut builder = TraceBuilder::new(Header::new("jsonl-layers", "", 4, 2, vec![0, 1]));
    for (step, experts) in (0..).zip(rows) {
        let phase = Phase::Decode;
        let (request, position) = (0, step);
        builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
    }
    builder.finish("test").unwrap()
}

proptest! {
    #[test]
    fn json_lines_are_read_back(rows in prop::collection::vec((0_u16..3, 0_u16..3), 0..20)) {
        let mut rows: Vec<[u16; 4]> =
            rows.iter().map(|&(a, b)| [a, a + 1, b, (b + 2) % 4]).collect();
        // Top-k and experts are known from what is recorded.
        rows.push([3, 2, 1, crate::NO_EXPERT]);
        let trace = plain(&rows);
        prop_assert!(check("jsonl", &trace, "t").unwrap().is_empty());
        let back = imported("jsonl-layers", "t.jsonl", &exported("jsonl", &trace));
        prop_assert_eq!(back.events(), trace.events());
    }

    #[test]
    fn counts_are_read_back(steps in prop::collection::vec(any::<[u16; 4]>(), 1..5)) {
        let steps: Vec<[u32; 4]> = steps.iter().map(|step| step.map(u32::from)).collect();
        let trace = counts(&steps);
        let back = imported("counts-csv", "t.csv", &exported("csv", &trace));
        for layer in [0, 1].map(moecast_profiles::ids::MoeLayer) {
            prop_assert_eq!(back.layer_loads(layer), trace.layer_loads(layer));
        }
        prop_assert_eq!(&back.header().layers, &trace.header().layers);
        prop_assert_eq!(check("csv", &trace, "t").unwrap().is_empty(), steps.len() == 1);
    }

    /// Every line of the CSV, read by hand, is a cell of the columns.
    #[test]
    fn the_csv_of_tokens_has_every_pick(trace in traces()) {
        let text = String::from_utf8(exported("csv", &trace)).unwrap();
        let columns = trace.tokens().unwrap();
        let k = usize::from(trace.header().top_k);
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = text.lines().skip(1).map(cells).collect();
        prop_assert_eq!(lines.len(), columns.step.len() * trace.header().moe_layers());
        for (line, ids) in lines.iter().zip(columns.experts.chunks_exact(k)) {
            let width = if columns.weights.is_some() { 6 + 2 * k } else { 6 + k };
            prop_assert_eq!(line.len(), width);
            for (cell, &id) in line[6..6 + k].iter().zip(ids) {
                prop_assert_eq!(cell.parse().unwrap_or(crate::NO_EXPERT), id);
            }
        }
    }

    /// The experts of an archive are an array of NumPy, as our own reader of those finds.
    #[test]
    fn the_arrays_are_numpys(trace in traces()) {
        // The reader takes rows of ids without holes.
        let rows: Vec<[u16; 4]> = (0..trace.token_count())
            .map(|token| if token % 2 == 0 { [0, 1, 2, 3] } else { [3, 1, 0, 2] })
            .collect();
        let trace = plain(&rows);
        let back =
            imported("vllm-routed-experts", "t.npy", &member(&exported("npz", &trace), "experts"));
        let experts = |trace: &RoutingTrace| trace.tokens().unwrap().experts.to_vec();
        prop_assert_eq!(experts(&back), experts(&trace));
    }

    #[test]
    fn every_format_gives_the_same_bytes_twice(trace in traces()) {
        for entry in ALL {
            prop_assert_eq!(exported(entry.name, &trace), exported(entry.name, &trace));
        }
    }
}

/// One array of an archive.
fn member(archive: &[u8], name: &str) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    let mut archive: zip::ZipArchive<File> = zip::ZipArchive::new(file).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_csv_of_tokens_by_hand() {
    let mut builder = TraceBuilder::new(Header::new("test", "", 4, 2, vec![1, 2]));
    builder.push_token(TokenRow {
        request: 7,
        position: 3,
        step: 9,
        phase: Phase::Prefill,
        experts: &[0, 3, 1, crate::NO_EXPERT],
        weights: Some(&[0.75, 0.25, 1.0, 0.0]),
    });
    let trace = builder.finish("test").unwrap();
    let trace = crate::testing::with_domains(&trace, &["law, \"civil\""], &[0]);
    let expected = "step,request,position,phase,domain,layer,expert_0,expert_1,weight_0,weight_1\n\
                    9,7,3,prefill,\"law, \"\"civil\"\"\",1,0,3,0.75,0.25\n\
                    9,7,3,prefill,\"law, \"\"civil\"\"\",2,1,,1,\n";
    assert_eq!(String::from_utf8(exported("csv", &trace)).unwrap(), expected);
    let lost = check("jsonl", &trace, "t").unwrap().join("; ");
    let expected = "every token becomes a decode token; gate weights are lost; domains are lost; \
                    layer numbers are lost; import with --model to have them back";
    assert_eq!(lost, expected);
}

#[test]
fn an_archive_holds_every_tensor() {
    let archive = exported("npz", &plain(&[[0, 1, 2, 3]; 3]));
    let header = member(&archive, "header");
    assert!(header.starts_with(b"\x93NUMPY\x01\x00"));
    for (name, bytes) in [("experts", 24), ("request", 12), ("position", 12), ("phase", 3)] {
        let array = member(&archive, name);
        let length = usize::from(u16::from_le_bytes([array[8], array[9]]));
        assert_eq!((10 + length) % ALIGNMENT, 0, "{name}");
        assert_eq!(array.len() - 10 - length, bytes, "{name}");
    }
}

const ALIGNMENT: usize = 64;

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let error = check("jsonl", &counts(&[[1, 2, 3, 4]]), "t").unwrap_err().to_string();
    assert!(error.starts_with("t: format jsonl: a recording that only counted"), "{error}");
    let error = check("cvs", &counts(&[[1, 2, 3, 4]]), "t").unwrap_err().to_string();
    assert!(error.contains("did you mean `csv`"), "{error}");
}

/// A slice is exported as what it is.
#[test]
fn a_slice_of_layers_keeps_their_numbers() {
    let trace = counts(&[[1, 2, 3, 4]]);
    let part = Selection { layers: Some(5..6), ..Selection::default() };
    let text = exported("csv", &slice(&trace, &part, "t").unwrap());
    assert_eq!(String::from_utf8(text).unwrap(), "layer,expert,count\n5,0,3\n5,1,4\n");
}

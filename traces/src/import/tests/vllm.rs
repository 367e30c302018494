//! Hand-made arrays as vLLM returns them and the traces that they must give.

use std::io::{Cursor, Write};
use std::path::Path;

use moecast_profiles::model::ModelShape;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::npy::tests::{array, with_header};
use super::{import, import_paths, tiny};
use crate::RoutingTrace;
use crate::trace::NO_EXPERT as NONE;

const FORMAT: &str = "vllm-routed-experts";

/// An archive of arrays, as `numpy.savez` writes it.
pub(super) fn npz(entries: &[(&str, &[u8])], compression: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(compression).large_file(true);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn experts(trace: &RoutingTrace) -> &[u16] {
    &trace.tokens().unwrap().experts
}

/// Two tokens of three layers; layer 0 is dense, and the second token was not captured in layer 2.
const IDS: [i32; 12] = [0, 0, 3, 1, 2, 0, 0, 0, 1, 0, 0, 0];

#[test]
fn arrays_of_all_layers_lose_the_dense_ones() {
    let file = array([2, 3, 2], &IDS);
    let with = import(FORMAT, Some(&tiny()), &[("a.npy", &file)]).unwrap();
    assert_eq!(experts(&with), [3, 1, 2, 0, 1, 0, NONE, NONE]);
    assert_eq!(with.header().layers, [1, 2]);
    let prefill = "where the prompt ends and what was batched is not recorded for 1 requests: \
                   the tokens of each are one step, marked as prefill";
    let zeros = "1 (token, layer) pairs hold zeros only: they were not recorded and hold no \
                 expert";
    assert_eq!(with.header().remarks, [prefill, "rows of the dense layers are left out: 0", zeros]);
    let without = import(FORMAT, None, &[("a.npy", &file)]).unwrap();
    assert_eq!(without.events(), with.events());
    assert_eq!((without.header().experts, without.header().top_k), (4, 2));
    assert_eq!(without.header().layers, [1, 2]);
    assert_eq!(
        without.header().remarks,
        [
            prefill,
            "layers without a token are taken for dense and left out: 0",
            "no model was named: experts reach to the largest id, 3, and layers are numbered as \
             in the arrays, from 0",
            zeros,
        ]
    );
}

#[test]
fn arrays_of_the_moe_layers_keep_them_all() {
    let file = array([1, 2, 2], &[3, 1, -1, 2]);
    let trace = import(FORMAT, Some(&tiny()), &[("a.npy", &file)]).unwrap();
    assert_eq!(experts(&trace), [3, 1, NONE, 2]);
    assert_eq!(trace.header().layers, [1, 2]);
    assert_eq!(trace.header().remarks[1..], ["1 ids are -1 and hold no expert"]);
}

#[test]
fn every_array_is_a_request_and_a_step() {
    let one = array([1, 1, 1], &[5]);
    let two = array([2, 1, 1], &[6, 7]);
    let none = array([0, 1, 1], &[]);
    for compression in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let archive = npz(&[("b.npy", &two), ("a.npy", &one), ("c.npy", &none)], compression);
        let files: [(&str, &[u8]); 2] = [("x.npz", &archive), ("y.npy", &one)];
        let trace = import("auto", None, &files).unwrap();
        let columns = trace.tokens().unwrap();
        assert_eq!(&*columns.experts, [5, 6, 7, 5]);
        assert_eq!(&*columns.request, [0, 1, 1, 2]);
        assert_eq!(&*columns.position, [0, 0, 1, 0]);
        assert_eq!(&*columns.step, [0, 1, 1, 2]);
        assert_eq!(&*columns.phase, [0; 4]);
        assert!(columns.weights.is_none());
        let remarks = &trace.header().remarks;
        assert_eq!(remarks[2], "1 requests hold no token and are left out");
    }
}

#[test]
fn what_a_folder_holds_beside_recordings_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.npy"), array([1, 1, 1], &[5])).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "tokens").unwrap();
    let paths = [folder.path().to_path_buf()];
    let trace = import_paths("auto", None, &paths).unwrap();
    let remark = "left out, being no vllm-routed-experts: notes.txt";
    assert_eq!(trace.header().remarks.last().unwrap(), remark);
}

#[test]
fn ids_that_cannot_be_say_where_they_are() {
    let refused = |model: Option<&ModelShape>, shape, ids: &[i32]| {
        import(FORMAT, model, &[("a.npy", &array(shape, ids))]).unwrap_err()
    };
    let cases = [
        ([0, 0, 3, 1, 2, 4], "token 0, layer 2: expert 4; expected 0 to 3"),
        ([0, 0, 3, 3, 2, 1], "token 0, layer 1: expert 3 twice; expected distinct experts"),
        ([0, 0, 3, 1, -2, 1], "token 0, layer 2: expert -2; expected 0 to 3"),
    ];
    for (ids, expected) in cases {
        assert_eq!(refused(Some(&tiny()), [1, 3, 2], &ids), format!("a.npy: {expected}"));
    }
    for id in [65_534, 65_535, i32::MAX] {
        assert_eq!(
            refused(None, [2, 1, 2], &[1, 2, 3, id]),
            format!("a.npy: token 1, layer 0: expert {id}; expected 0 to 65533")
        );
    }
    assert_eq!(
        refused(Some(&tiny()), [1, 4, 1], &[0; 4]),
        "a.npy: shape: 4 layers; expected 3 layers, or 2 with experts, as tiny has"
    );
    assert_eq!(
        refused(None, [1, 2, 2], &[0; 4]),
        "a.npy: whole recording: no expert; expected routed tokens"
    );
    let files: [(&str, &[u8]); 2] =
        [("a.npy", &array([1, 1, 1], &[1])), ("b.npy", &array([1, 1, 2], &[1, 2]))];
    assert_eq!(
        import(FORMAT, None, &files).unwrap_err(),
        "b.npy: shape: [1, 1, 2]; expected [tokens, 1, 1] as before"
    );
}

#[test]
fn an_array_must_fill_its_file() {
    let good = array([2, 1, 1], &[1, 2]);
    for (bytes, found) in [(&good[..good.len() - 1], 7), (&[&good[..], &[0]].concat(), 9)] {
        assert_eq!(
            import(FORMAT, None, &[("a.npy", bytes)]).unwrap_err(),
            format!("a.npy: data: {found} bytes behind the header; expected 8 for shape [2, 1, 1]")
        );
    }
    let header =
        |shape: &str| format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({shape})}}");
    let huge = with_header(&header("4294967295, 4096, 512"), &[0; 64]);
    let error = import(FORMAT, None, &[("a.npy", &huge)]).unwrap_err();
    assert!(error.contains("64 bytes behind the header"), "{error}");
    let overflow = with_header(&header("9223372036854775807, 4096, 512"), &[0; 64]);
    let error = import(FORMAT, None, &[("a.npy", &overflow)]).unwrap_err();
    assert!(error.contains("header: shape [9223372036854775807, 4096, 512]"), "{error}");
}

/// A thousandfold expansion is refused from the directory, before a byte is unpacked.
#[test]
fn a_bomb_is_refused() {
    let zeros = array([8 << 20, 1, 1], &vec![0; 8 << 20]);
    let bomb = npz(&[("a.npy", &zeros)], CompressionMethod::Deflated);
    assert!(bomb.len() < 40_000, "{}", bomb.len());
    let error = import(FORMAT, None, &[("a.npz", &bomb)]).unwrap_err();
    let size = zeros.len();
    let expected = format!(
        "a.npz: entry `a.npy`, size: {size} bytes up to here in a file of {}; \
         expected 16777216 at most",
        bomb.len()
    );
    assert_eq!(error, expected);
}

#[test]
fn archives_that_are_something_else_say_what_is_wrong() {
    let one = array([1, 1, 1], &[5]);
    let refused = |file: &[u8]| import(FORMAT, None, &[("a.npz", file)]).unwrap_err();
    let other = npz(&[("a.npy", &one), ("b.txt", b"hello")], CompressionMethod::Stored);
    assert_eq!(
        refused(&other),
        "a.npz: entry `b.txt`, name: no array; expected a name that ends in .npy"
    );
    let text = npz(&[("a.npy", b"hello, array")], CompressionMethod::Stored);
    assert_eq!(
        refused(&text),
        "a.npz: entry `a.npy`, header: no array of NumPy; expected bytes that begin \\x93NUMPY"
    );
    let mut damaged = npz(&[("a.npy", &one)], CompressionMethod::Stored);
    let at = damaged.windows(4).position(|window| window == [5, 0, 0, 0]).unwrap();
    damaged[at] = 6;
    assert_eq!(
        refused(&damaged),
        "a.npz: entry `a.npy`, data: Invalid checksum; expected a whole array"
    );
    // Two entries of one name: the writer refuses, so the second is renamed in the bytes.
    let mut twice = npz(&[("a.npy", &one), ("b.npy", &one)], CompressionMethod::Stored);
    for at in 0..twice.len() - 5 {
        if &twice[at..at + 5] == b"b.npy" {
            twice[at] = b'a';
        }
    }
    let error = refused(&twice);
    assert!(error.contains("two entries of one name"), "{error}");
}

/// The checksum of a damaged archive is compared even where the array is empty.
#[test]
fn nothing_in_an_archive_is_skipped() {
    let none = array([0, 1, 1], &[]);
    let one = array([1, 1, 1], &[5]);
    let mut file = npz(&[("a.npy", &none), ("b.npy", &one)], CompressionMethod::Stored);
    let at = file.windows(2).position(|window| window == b" \n").unwrap();
    file[at] = b'\t';
    let error = import(FORMAT, None, &[("a.npz", &file)]).unwrap_err();
    assert!(error.contains("Invalid checksum"), "{error}");
}

/// Files that NumPy wrote with `tests-data/make_arrays.py`.
#[test]
fn files_of_the_real_library_are_read() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data"));
    let paths = ["npy", "npz"].map(|ending| data.join(format!("vllm_routed_experts.{ending}")));
    let trace = import_paths("auto", None, &paths).unwrap();
    assert_eq!(trace.header().layers, [1, 2, 3]);
    assert_eq!(&*trace.tokens().unwrap().request, [0, 0, 0, 1, 2, 2]);
    let expected = [
        [1, 3, 2, 4, 3, 0],
        [2, 4, 3, 0, 4, 1],
        [3, 0, 4, 1, 0, 2],
        [4, 1, 0, 2, 1, 3],
        [0, 2, 1, 3, 2, 4],
        [1, 3, 2, 4, 3, 0],
    ];
    assert_eq!(experts(&trace), expected.as_flattened());
}

//! Hand-made importance matrices of llama.cpp and the traces that they must give.

use std::path::Path;

use moecast_profiles::model::ModelShape;

use super::{counts, import, import_paths, tiny};
use crate::RoutingTrace;

const FORMAT: &str = "gguf-imatrix";
const TOP_K: &str = super::super::steps::TOP_K_UNKNOWN;
const STEP: &str = "a step is the calibration run of one file: a.gguf";

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key with a value of `kind`.
fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &kind.to_le_bytes(), value].concat()
}

/// The description of a tensor.
fn info(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dimensions = u32::try_from(shape.len()).unwrap().to_le_bytes();
    let shape: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    [&text(name)[..], &dimensions, &shape, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// A file of these keys, descriptions of tensors, and data.
fn file(version: u32, keys: &[Vec<u8>], infos: &[Vec<u8>], data: &[f32]) -> Vec<u8> {
    let sizes = [infos.len() as u64, keys.len() as u64].map(u64::to_le_bytes);
    let mut bytes = [b"GGUF".as_slice(), &version.to_le_bytes(), &sizes.concat()].concat();
    bytes.extend(keys.concat());
    bytes.extend(infos.concat());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn kind() -> Vec<u8> {
    key("general.type", 8, &text("imatrix"))
}

/// A file with the counts of these tensors.
fn imatrix(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let mut data: Vec<f32> = Vec::new();
    let mut infos = Vec::new();
    for (name, counts) in tensors {
        let name = format!("blk.{name}.weight.counts");
        infos.push(info(&name, &[1, counts.len() as u64], 0, data.len() as u64 * 4));
        data.extend(*counts);
        data.resize(data.len().next_multiple_of(8), 0.0);
    }
    file(3, &[kind()], &infos, &data)
}

/// The smallest importance matrix: one layer with two experts.
pub(super) fn smallest() -> Vec<u8> {
    imatrix(&[("0.ffn_up_exps", &[3.0, 4.0])])
}

fn read(model: Option<&ModelShape>, bytes: &[u8]) -> Result<RoutingTrace, String> {
    import(FORMAT, model, &[("a.gguf", bytes)])
}

#[test]
fn counts_of_a_layer_are_taken_once() {
    let bytes = imatrix(&[
        ("10.ffn_down_exps", &[5.0, 6.0]),
        ("10.ffn_gate_exps", &[5.0, 6.0]),
        ("10.ffn_up_exps", &[5.0, 7.0]),
        ("2.ffn_gate_up_exps", &[1.0, 20_000_000.0]),
        ("2.attn_q", &[11.0]),
    ]);
    let trace = read(None, &bytes).unwrap();
    assert_eq!(counts(&trace), [1, 20_000_000, 5, 6]);
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (2, 1, &[2, 10][..]));
    assert_eq!(
        header.remarks,
        [
            STEP,
            TOP_K,
            "1 layers have projections that counted other tokens; the first by name is taken",
            "1 counts above 2^24 were rounded by the format",
            "1 other tensors (sums of activations, dense layers) are not kept",
        ]
    );
}

#[test]
fn a_model_tells_which_layers_count() {
    let four = [1.0, 2.0, 3.0, 4.0];
    let bytes = imatrix(&[("2.ffn_up_exps", &four), ("3.ffn_up_exps", &four)]);
    let trace = read(Some(&tiny()), &bytes).unwrap();
    assert_eq!(counts(&trace), [0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!((trace.header().top_k, &*trace.header().layers), (2, &[1, 2][..]));
    assert_eq!(
        trace.header().remarks,
        [
            STEP,
            "1 (file, layer) pairs have no counts and count 0; layers that have: 2",
            "1 layers behind the last hidden layer (multi-token prediction) are left out",
        ]
    );
    assert_eq!(
        read(Some(&tiny()), &imatrix(&[("0.ffn_up_exps", &four)])).unwrap_err(),
        "a.gguf: tensor `blk.0.ffn_up_exps.weight.counts`: layer 0; \
         expected a MoE layer of tiny: 1 to 2"
    );
    assert_eq!(
        read(Some(&tiny()), &imatrix(&[("1.ffn_up_exps", &[1.0, 2.0])])).unwrap_err(),
        "a.gguf: tensor `blk.1.ffn_up_exps.weight.counts`: counts of 2 experts; \
         expected 4 as tiny has"
    );
}

#[test]
fn files_are_steps() {
    let files: [(&str, &[u8]); 2] = [
        ("b.gguf", &imatrix(&[("0.ffn_up_exps", &[1.0, 2.0])])),
        ("a.gguf", &imatrix(&[("0.ffn_up_exps", &[3.0, 4.0])])),
    ];
    let trace = import("auto", None, &files).unwrap();
    assert_eq!(counts(&trace), [1, 2, 3, 4]);
    let files: [(&str, &[u8]); 2] =
        [files[0], ("c.gguf", &imatrix(&[("0.ffn_up_exps", &[1.0, 2.0, 3.0])]))];
    assert_eq!(
        import(FORMAT, None, &files).unwrap_err(),
        "c.gguf: tensor `blk.0.ffn_up_exps.weight.counts`: counts of 3 experts; \
         expected 2 as before"
    );
}

/// Every type of value is skipped by its size; alignment is obeyed.
#[test]
fn metadata_is_skipped() {
    let strings = [8_u32.to_le_bytes().to_vec(), 2_u64.to_le_bytes().to_vec(), text("a"), text("")];
    let numbers = [5_u32.to_le_bytes().to_vec(), 3_u64.to_le_bytes().to_vec(), vec![0; 12]];
    let mut keys = vec![kind(), key("s", 9, &strings.concat()), key("n", 9, &numbers.concat())];
    for (kind, size) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1)] {
        keys.push(key(&format!("k{kind}"), kind, &vec![1; size]));
    }
    for kind in [10, 11, 12] {
        keys.push(key(&format!("k{kind}"), kind, &[1; 8]));
    }
    keys.push(key("general.alignment", 4, &32_u32.to_le_bytes()));
    let infos = [
        info("blk.1.ffn_up_exps.weight.in_sum2", &[2, 2], 0, 0),
        info("blk.1.ffn_up_exps.weight.counts", &[1, 2], 0, 32),
    ];
    let mut data = [9.0; 16];
    (data[8], data[9]) = (3.0, 4.0);
    let trace = read(None, &file(2, &keys, &infos, &data)).unwrap();
    assert_eq!(counts(&trace), [3, 4]);
    assert_eq!(trace.header().layers, [1]);
}

#[test]
fn an_old_imatrix_is_told_what_to_do() {
    let name = b"blk.0.ffn_up_exps.weight";
    let old = [&2_i32.to_le_bytes(), &i32::try_from(name.len()).unwrap().to_le_bytes(), &name[..]]
        .concat();
    let error = import("auto", None, &[("imatrix.dat", &old)]).unwrap_err();
    assert_eq!(
        error,
        "imatrix.dat: start of the file: an imatrix.dat of llama.cpp before 2025-07; expected \
         GGUF: make it anew with `llama-imatrix --output-format gguf`; the old format adds all \
         experts of a tensor up"
    );
    let converted = read(None, &imatrix(&[("0.ffn_up_exps", &[512.0])])).unwrap_err();
    assert_eq!(
        converted,
        "a.gguf: tensor `blk.0.ffn_up_exps.weight.counts`: counts of 1 experts; expected one for \
         each expert: was this converted from imatrix.dat, which adds them up?"
    );
}

#[test]
fn other_files_are_told_what_they_are() {
    let start = |bytes: &[u8]| {
        let error = read(None, bytes).unwrap_err();
        let start = "a.gguf: start of the file: ";
        let end = "; expected a little-endian GGUF of version 2 or 3";
        error.strip_prefix(start).unwrap().strip_suffix(end).unwrap().to_owned()
    };
    let good = smallest();
    assert_eq!(start(b"hello, is this right?"), "no GGUF");
    assert_eq!(start(&file(1, &[], &[], &[])), "GGUF version 1");
    assert_eq!(start(&file(3_u32.swap_bytes(), &[], &[], &[])), "a big-endian GGUF");
    assert_eq!(start(&good[..12]), "12 bytes");
    assert_eq!(start(b""), "0 bytes");
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    let name = "blk.0.ffn_up_exps.weight.counts";
    let one = |shape: &[u64], kind, offset, data: &[f32]| {
        file(3, &[], &[info(name, shape, kind, offset)], data)
    };
    let shape = "[1, experts] of 32-bit floats (type 0)";
    let cases: [(Vec<u8>, String); 12] = [
        (
            file(3, &[kind(), kind()], &[], &[]),
            "key `general.type`: a second time; expected each key once".into(),
        ),
        (
            file(3, &[], &[info("a", &[1], 0, 0), info("a", &[1], 0, 0)], &[]),
            "tensor `a`: a second time; expected each tensor once".into(),
        ),
        (
            file(3, &[key("a", 13, &[0; 9])], &[], &[]),
            "key `a`: value of type 13; expected a type of GGUF".into(),
        ),
        (
            file(3, &[key("general.alignment", 4, &[3, 0, 0, 0])], &[], &[]),
            "key `general.alignment`: type 4, value 3; expected a 32-bit power of two".into(),
        ),
        (
            file(3, &[], &[info("a", &[1; 5], 0, 0)], &[]),
            "tensor `a`: 5 dimensions; expected 4 at most".into(),
        ),
        (
            one(&[1, 2], 1, 0, &[1.0]),
            format!("tensor `{name}`: shape [1, 2] of type 1; expected {shape}"),
        ),
        (
            one(&[2], 0, 0, &[1.0, 1.0]),
            format!("tensor `{name}`: shape [2] of type 0; expected {shape}"),
        ),
        (
            one(&[1, 2], 0, 0, &[1.0, -1.0]),
            format!("tensor `{name}`: -1 for expert 1; expected a count from 0 to 4294967040"),
        ),
        (
            one(&[1, 2], 0, 0, &[0.5, 1.0]),
            format!("tensor `{name}`: 0.5 for expert 0; expected a count from 0 to 4294967040"),
        ),
        (
            one(&[1, 2], 0, 0, &[f32::NAN, 1.0]),
            format!("tensor `{name}`: NaN for expert 0; expected a count from 0 to 4294967040"),
        ),
        (
            one(&[1, 70_000], 0, 0, &[0.0; 70_000]),
            format!("tensor `{name}`: counts of 70000 experts; expected 65534 at most"),
        ),
        (
            one(&[1, 2], 0, 0, &[0.0, 0.0]),
            "tensors: no counts of experts; expected blk.N.ffn_*_exps.weight.counts above 0: is \
             this an imatrix of a MoE model?"
                .into(),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(None, &bytes).unwrap_err(), format!("a.gguf: {expected}"));
    }
}

/// Nothing is reserved for what a header merely says.
#[test]
fn declared_sizes_are_compared_with_the_file() {
    let name = "blk.0.ffn_up_exps.weight.counts";
    let huge = u64::MAX / 4;
    for (experts, offset) in [(2, 0), (huge, 0), (2, u64::MAX), (1 << 40, 1 << 40)] {
        let bytes = file(3, &[], &[info(name, &[1, experts], 0, offset)], &[1.0]);
        let error = read(None, &bytes).unwrap_err();
        let expected = format!("a.gguf: tensor `{name}`: {experts} counts at offset {offset} of");
        assert!(error.starts_with(&expected), "{error}");
    }
    let sizes = |tensors: u64, keys: u64| {
        [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()]
            .concat()
    };
    for bytes in [sizes(u64::MAX, 0), sizes(0, u64::MAX), sizes(1, 1)] {
        let error = read(None, &bytes).unwrap_err();
        assert!(error.ends_with("expected no more than the file can hold"), "{error}");
    }
    let long = [&sizes(0, 1)[..], &u64::MAX.to_le_bytes(), &[0; 32]].concat();
    let error = read(None, &long).unwrap_err();
    assert!(error.starts_with("a.gguf: key 0: a name of 18446744073709551615 bytes"), "{error}");
    let mut array = 4_u32.to_le_bytes().to_vec();
    array.extend(u64::MAX.to_le_bytes());
    let error = read(None, &file(3, &[key("a", 9, &array)], &[], &[])).unwrap_err();
    assert!(error.starts_with("a.gguf: key `a`: a value of 18446744073709551615 by"), "{error}");
    // Many tensors on the same bytes.
    let infos: Vec<Vec<u8>> = (0..1000)
        .map(|layer| info(&format!("blk.{layer}.ffn_up_exps.weight.counts"), &[1, 50_000], 0, 0))
        .collect();
    let error = read(None, &file(3, &[], &infos, &vec![1.0; 50_000])).unwrap_err();
    assert!(error.contains("50000 counts at offset 0"), "{error}");
}

/// A file that the package `gguf` wrote with `tests-data/make_arrays.py`.
#[test]
fn a_file_of_the_real_library_is_read() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data/imatrix.gguf"));
    let trace = import_paths("auto", None, &[path.to_owned()]).unwrap();
    assert_eq!(counts(&trace), [1000, 24, 1024, 0, 2047, 1]);
    assert_eq!((trace.header().experts, &*trace.header().layers), (3, &[1, 2][..]));
    let other = "8 other tensors (sums of activations, dense layers) are not kept";
    assert_eq!(trace.header().remarks.last().unwrap(), other);
}

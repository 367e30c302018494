//! Hand-made statistics of TensorRT-LLM and the traces that they must give.

use std::path::Path;

use moecast_profiles::model::ModelShape;
use safetensors::tensor::{Dtype, TensorView};

use super::{counts, import, import_paths};

const META: &[u8] = b"{\"num_experts\": 2, \"num_experts_per_token\": 2}";

/// The file of one rank: 64-bit counts, as the engine writes them.
pub(super) fn rank(tensors: &[(&str, &[i64])]) -> Vec<u8> {
    let bytes: Vec<(&str, usize, Vec<u8>)> = tensors
        .iter()
        .map(|(name, counts)| {
            (*name, counts.len(), counts.iter().flat_map(|count| count.to_le_bytes()).collect())
        })
        .collect();
    serialize(
        bytes.iter().map(|(name, length, bytes)| (*name, Dtype::I64, vec![*length], &**bytes)),
    )
}

fn serialize<'a>(tensors: impl Iterator<Item = (&'a str, Dtype, Vec<usize>, &'a [u8])>) -> Vec<u8> {
    let views = tensors
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape, bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn tiny() -> ModelShape {
    ModelShape { experts: 2, ..super::tiny() }
}

#[test]
fn ranks_are_summed_and_iterations_are_steps() {
    let first = rank(&[("10_1", &[1, 2]), ("9_1", &[3, 4]), ("9_2", &[5, 6]), ("10_2", &[7, 8])]);
    let second = rank(&[("9_1", &[10, 10]), ("9_2", &[0, 10]), ("10_1", &[1, 1])]);
    let files: [(&str, &[u8]); 3] =
        [("meta_info.json", META), ("rank0.safetensors", &first), ("rank1.safetensors", &second)];
    for found in [None, Some(&tiny())] {
        let trace = import("trtllm-statistics", found, &files).unwrap();
        assert_eq!(counts(&trace), [13, 14, 5, 16, 2, 3, 7, 8]);
        let header = trace.header();
        assert_eq!((header.experts, header.top_k, &*header.layers), (2, 2, &[1, 2][..]));
        let remark = "1 (iteration, layer) pairs were recorded by fewer than 2 ranks";
        assert_eq!(header.remarks, [remark]);
        assert_eq!(header.inputs.len(), 3);
    }
}

#[test]
fn what_is_absent_is_counted_and_said() {
    let file = rank(&[("1_3", &[1, 2]), ("2_5", &[3, 4])]);
    let files: [(&str, &[u8]); 1] = [("rank2.safetensors", &file)];
    let trace = import("auto", None, &files).unwrap();
    assert_eq!(counts(&trace), [1, 2, 0, 0, 0, 0, 3, 4]);
    assert_eq!(trace.header().layers, [3, 5]);
    assert_eq!(
        trace.header().remarks,
        [
            super::super::steps::TOP_K_UNKNOWN,
            "2 (iteration, layer) pairs were not recorded and count 0; layers that were: 3, 5",
            "2 ranks below 3 have no file: 1 were added",
            "meta_info.json is not among the files: rank2.safetensors",
        ]
    );
}

/// Layers behind the last one are those of multi-token prediction.
#[test]
fn a_model_tells_which_layers_count() {
    let file = rank(&[("1_1", &[1, 2]), ("1_3", &[9, 9])]);
    let meta = b"{\"num_experts\": 2, \"num_experts_per_token\": 1}";
    let files: [(&str, &[u8]); 2] = [("meta_info.json", meta), ("rank0.safetensors", &file)];
    let trace = import("trtllm-statistics", Some(&tiny()), &files).unwrap();
    assert_eq!(counts(&trace), [1, 2, 0, 0]);
    assert_eq!(
        trace.header().remarks,
        [
            "top-k is 1 as recorded; tiny has 2",
            "1 (iteration, layer) pairs were not recorded and count 0; layers that were: 1",
            "1 tensors of layers behind the last hidden layer (multi-token prediction) are left \
             out",
        ]
    );
}

#[test]
fn other_integers_are_read() {
    let cases: [(Dtype, &[u8]); 7] = [
        (Dtype::U8, &[7, 200]),
        (Dtype::I16, &[7, 0, 200, 0]),
        (Dtype::U16, &[7, 0, 200, 0]),
        (Dtype::I32, &[7, 0, 0, 0, 200, 0, 0, 0]),
        (Dtype::U32, &[7, 0, 0, 0, 200, 0, 0, 0]),
        (Dtype::I64, &[7, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0]),
        (Dtype::U64, &[7, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (dtype, bytes) in cases {
        let file = serialize([("0_0", dtype, vec![2], bytes)].into_iter());
        let trace = import("trtllm-statistics", None, &[("rank0.safetensors", &file)]).unwrap();
        assert_eq!(counts(&trace), [7, 200], "{dtype:?}");
    }
}

#[test]
fn a_wrong_tensor_is_named() {
    let tiny = tiny();
    let refused = |model: Option<&ModelShape>, file: &[u8]| {
        import("trtllm-statistics", model, &[("rank0.safetensors", file)]).unwrap_err()
    };
    let cases: [(Vec<u8>, &str); 9] = [
        (
            rank(&[("1_None", &[1, 2])]),
            "tensor `1_None`: another name; expected a name {iteration}_{layer}",
        ),
        (
            rank(&[("1_01", &[1, 2])]),
            "tensor `1_01`: another name; expected a name {iteration}_{layer}",
        ),
        (
            rank(&[("1_65536", &[1, 2])]),
            "tensor `1_65536`: another name; expected a name {iteration}_{layer}",
        ),
        (
            rank(&[("1_1", &[1, -2])]),
            "tensor `1_1`, expert 1: -2; expected a sum from 0 to 4294967295",
        ),
        (
            rank(&[("1_1", &[1, 1 << 32])]),
            "tensor `1_1`, expert 1: 4294967296; expected a sum from 0 to 4294967295",
        ),
        (
            rank(&[("1_1", &[1, 2]), ("1_2", &[1, 2, 3])]),
            "tensor `1_2`: 3 experts; expected 2 as before",
        ),
        (rank(&[("1_1", &[])]), "tensor `1_1`: 0 experts; expected 1 to 65534"),
        (
            serialize([("1_1", Dtype::F32, vec![2], &[0; 8][..])].into_iter()),
            "tensor `1_1`: type F32; expected integers",
        ),
        (
            serialize([("1_1", Dtype::U8, vec![1, 2], &[0; 2][..])].into_iter()),
            "tensor `1_1`: shape [1, 2]; expected [experts]",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(refused(None, &file), format!("rank0.safetensors: {expected}"));
    }
    assert_eq!(
        refused(Some(&tiny), &rank(&[("1_0", &[1, 2])])),
        "rank0.safetensors: tensor `1_0`: layer 0; expected a MoE layer of tiny: 1 to 2"
    );
    assert_eq!(
        refused(Some(&tiny), &rank(&[("1_1", &[1, 2, 3])])),
        "rank0.safetensors: tensor `1_1`: 3 experts; expected 2 as tiny has"
    );
    assert_eq!(
        refused(None, &rank(&[])),
        "rank0.safetensors: whole recording: no counts; expected one rank's file"
    );
}

#[test]
fn files_that_do_not_belong_are_refused() {
    let file = rank(&[("1_1", &[1, 2])]);
    let refused = |files: &[(&str, &[u8])]| import("trtllm-statistics", None, files).unwrap_err();
    assert_eq!(
        refused(&[("ranks.safetensors", &file)]),
        "ranks.safetensors: file name: another name; \
         expected meta_info.json or rank{r}.safetensors"
    );
    assert_eq!(
        refused(&[("meta_info.json", META)]),
        "meta_info.json: whole recording: no counts; expected one rank's file"
    );
    assert_eq!(
        refused(&[("meta_info.json", META), ("other.json", META)]),
        "other.json: whole file: a second meta_info.json; expected one meta_info.json"
    );
    assert_eq!(
        refused(&[("meta_info.json", b"null")]),
        "meta_info.json: whole file: invalid type: null, expected struct Meta at line 1 column 4; \
         expected {\"num_experts\": E, \"num_experts_per_token\": k}"
    );
    assert_eq!(
        refused(&[("meta_info.json", b"{\"num_experts\": 2, \"num_experts_per_token\": 3}")]),
        "meta_info.json: whole file: num_experts 2, num_experts_per_token 3; \
         expected 1 <= num_experts_per_token <= num_experts <= 65534"
    );
    assert_eq!(
        refused(&[("meta_info.json", META), ("rank0.safetensors", &rank(&[("1_1", &[1])]))]),
        "rank0.safetensors: tensor `1_1`: 1 experts; expected 2 as before"
    );
    let cut = refused(&[("rank0.safetensors", &file[..file.len() - 1])]);
    assert!(cut.starts_with("rank0.safetensors: whole file: "), "{cut}");
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = [one.path(), two.path()].map(|folder| folder.join("rank0.safetensors"));
    paths.iter().for_each(|path| std::fs::write(path, &file).unwrap());
    let error = import_paths("trtllm-statistics", None, &paths).unwrap_err();
    assert!(error.ends_with("rank 0 a second time; expected each rank once"), "{error}");
}

/// Both tensors lie on the same bytes, so only the names give the trick away.
#[test]
fn a_tensor_may_not_occur_twice() {
    let header = "{\"1_1\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\
                   \"1_1\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}";
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header.as_bytes(), &[1, 2]].concat();
    let error = import("trtllm-statistics", None, &[("rank0.safetensors", &file)]).unwrap_err();
    assert_eq!(error, "rank0.safetensors: header: tensor `1_1` twice; expected each tensor once");
}

/// A declared size is never reserved.
#[test]
fn a_header_that_lies_is_refused() {
    let huge = u64::MAX / 8;
    let header = format!(
        "{{\"1_1\":{{\"dtype\":\"I64\",\"shape\":[{huge}],\"data_offsets\":[0,{}]}}}}",
        huge * 8
    );
    for length in [header.len() as u64, u64::MAX, 1 << 40] {
        let file = [&length.to_le_bytes(), header.as_bytes(), &[0; 16]].concat();
        let error = import("trtllm-statistics", None, &[("rank0.safetensors", &file)]).unwrap_err();
        assert!(error.starts_with("rank0.safetensors: whole file: "), "{error}");
    }
    // A pass with one layer each must not be padded to a table out of all proportion.
    let names: Vec<String> = (0..60_000).map(|layer| format!("{layer}_{layer}")).collect();
    let tensors: Vec<(&str, &[i64])> = names.iter().map(|name| (&**name, &[1][..])).collect();
    let files: [(&str, &[u8]); 1] = [("rank0.safetensors", &rank(&tensors))];
    let error = import("trtllm-statistics", None, &files).unwrap_err();
    assert!(error.ends_with("expected a table that is not almost empty"), "{error}");
}

/// A folder that PyTorch and safetensors wrote with `tests-data/make_arrays.py`.
#[test]
fn a_folder_of_the_real_library_is_read() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data/trtllm_statistics"));
    let trace = import_paths("auto", None, &[data.to_owned()]).unwrap();
    assert_eq!(counts(&trace), [3, 3, 2, 1, 5, 2, 2, 0, 2, 1, 1, 2]);
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (3, 2, &[1, 2][..]));
    let remark = "2 (iteration, layer) pairs were recorded by fewer than 2 ranks";
    assert_eq!(header.remarks, [remark]);
}

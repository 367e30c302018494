//! Hand-made recordings of SGLang's recorder and the traces that they must give.

use moecast_profiles::model::ModelShape;

use super::super::torch::write::{PassRecord, Writer, i64_bytes, per_pass, stat};
use super::{counts, import, model};

/// A model of three layers, the first of them dense, with two experts.
fn tiny() -> ModelShape {
    ModelShape {
        name: "tiny".to_owned(),
        hidden_layers: 3,
        moe_layers: vec![1, 2],
        experts: 2,
        top_k: 2,
        ..model("olmoe-1b-7b")
    }
}

fn import_stat(
    model: Option<&ModelShape>,
    writers: &[Writer],
) -> Result<crate::RoutingTrace, String> {
    let files: Vec<(String, Vec<u8>)> = writers
        .iter()
        .enumerate()
        .map(|(number, writer)| (format!("{number}.pt"), writer.file()))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    import("sglang-stat", model, &files)
}

/// Two steps, three layers, two experts; layer 0 is dense.
const COUNTS: [i32; 12] = [0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 7, 8];

#[test]
fn stat_leaves_out_dense_layers_with_and_without_a_model() {
    let file = stat(0, [2, 3, 2], &COUNTS);
    let with = import_stat(Some(&tiny()), std::slice::from_ref(&file)).unwrap();
    assert_eq!(counts(&with), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((with.header().top_k, &*with.header().layers), (2, &[1, 2][..]));
    assert!(with.header().remarks.is_empty());
    let without = import_stat(None, &[file]).unwrap();
    assert_eq!(with.events(), without.events());
    assert_eq!((without.header().top_k, &*without.header().layers), (1, &[1, 2][..]));
    assert_eq!(
        without.header().remarks,
        [
            "layers without a token are taken for dense and left out: 0",
            "top-k is not recorded and no model was named: 1 is assumed, so choices count as \
             tokens",
        ]
    );
}

/// Layer 2 holds tokens in the last step only, so a first look takes it for dense.
#[test]
fn a_layer_that_wakes_up_late_is_kept() {
    let late = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 5, 6, 7, 8];
    let trace = import_stat(None, &[stat(0, [3, 3, 2], &late)]).unwrap();
    assert_eq!(counts(&trace), [0, 0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8]);
    assert_eq!(trace.header().layers, [1, 2]);
}

/// Empty steps in between are recorded passes; those at the end were never written.
#[test]
fn unused_rows_of_the_buffer_are_counted_and_left_out() {
    let sparse = [0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let trace = import_stat(None, &[stat(0, [5, 2, 2], &sparse)]).unwrap();
    assert_eq!(counts(&trace), [1, 2, 0, 0, 3, 4]);
    let remark = &trace.header().remarks[0];
    assert!(remark.starts_with("2 steps at the end hold no token"), "{remark}");
    let error = import_stat(None, &[stat(0, [2, 2, 2], &[0; 8])]).unwrap_err();
    assert_eq!(error, "0.pt: tensor `logical_count`: no token; expected a count above 0");
}

#[test]
fn several_files_of_mode_stat_are_added() {
    let trace =
        import_stat(None, &[stat(0, [1, 1, 2], &[1, 2]), stat(1, [1, 1, 2], &[10, 20])]).unwrap();
    assert_eq!(counts(&trace), [11, 22]);
    assert_eq!(
        trace.header().remarks[1],
        "counts of 2 files were added, although SGLang writes one dump after adding all ranks: \
         0.pt (rank 0), 1.pt (rank 1)"
    );
    let other = [stat(0, [1, 1, 2], &[1, 2]), stat(1, [1, 2, 1], &[10, 20])];
    assert_eq!(
        import_stat(None, &other).unwrap_err(),
        "1.pt: tensor `logical_count`: shape [1, 2, 1]; expected [1, 1, 2] as in the first file"
    );
    let many = [i32::MAX; 2];
    let files = [0, 1, 2].map(|rank| stat(rank, [1, 1, 2], &many));
    assert_eq!(
        import_stat(None, &files).unwrap_err(),
        "2.pt: tensor `logical_count` at [0, 0, 0]: 4294967294 + 2147483647 over several files; \
         expected a count from 0 to 4294967295"
    );
}

#[test]
fn stat_says_what_is_wrong() {
    let refused = |model: Option<&ModelShape>, shape, counts: &[i32]| {
        import_stat(model, &[stat(0, shape, counts)]).unwrap_err()
    };
    let tiny = tiny();
    assert_eq!(
        refused(Some(&tiny), [1, 3, 2], &[0, 1, 1, 1, 1, 1]),
        "0.pt: tensor `logical_count`, step 0, layer 0: tokens in a dense layer; \
         expected tokens in the MoE layers of tiny only: 1 to 2"
    );
    assert_eq!(
        refused(Some(&tiny), [1, 2, 2], &[1; 4]),
        "0.pt: tensor `logical_count`: 2 layers; expected 3 layers as tiny has"
    );
    assert_eq!(
        refused(Some(&tiny), [1, 3, 1], &[1; 3]),
        "0.pt: tensor `logical_count`: 1 experts; expected 2 experts as tiny has"
    );
    assert_eq!(
        refused(None, [2, 1, 2], &[1, 2, 3, -4]),
        "0.pt: tensor `logical_count` at [1, 0, 1]: -4; expected a count from 0 to 4294967295"
    );
    let keyed = |key: &str| Writer::new().raw(b"}(").text(key).int(1).raw(b"u");
    assert_eq!(
        import_stat(None, &[keyed("os")]).unwrap_err(),
        "0.pt: root: key `os`; \
         expected the keys rank, logical_count, average_utilization_rate_over_window"
    );
    assert_eq!(
        import_stat(None, &[keyed("logical_count")]).unwrap_err(),
        "0.pt: key `logical_count`: the int 1; expected a tensor"
    );
    assert_eq!(
        import_stat(None, &[keyed("rank")]).unwrap_err(),
        "0.pt: root: no such key; expected key `logical_count`"
    );
    assert_eq!(
        import_stat(None, &[Writer::new().raw(b"]")]).unwrap_err(),
        "0.pt: root: a list of 0; expected a dict"
    );
}

/// Counts arrive as whatever the engine's tensor was; views of a larger storage are read too.
#[test]
fn other_element_types_and_views_are_read() {
    let with = |kind: &str, bytes: Vec<u8>| {
        let writer = Writer::new().raw(b"}(").text("logical_count");
        import_stat(None, &[writer.tensor(kind, &[1, 1, 3], bytes).raw(b"u")])
    };
    let floats = |values: [f32; 3]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let same = [
        with("LongStorage", i64_bytes(&[7, 0, 200])),
        with("ByteStorage", vec![7, 0, 200]),
        with("ShortStorage", vec![7, 0, 0, 0, 200, 0]),
        with("FloatStorage", floats([7.0, 0.0, 200.0])),
    ];
    for trace in same {
        assert_eq!(counts(&trace.unwrap()), [7, 0, 200]);
    }
    let half = with("FloatStorage", floats([7.5, 0.0, 1.0])).unwrap_err();
    assert!(half.contains("at [0, 0, 0]: 7.5;"), "{half}");
    let nan = with("FloatStorage", floats([1.0, f32::NAN, 1.0])).unwrap_err();
    assert!(nan.contains("at [0, 0, 1]: NaN;"), "{nan}");
    let large = with("LongStorage", i64_bytes(&[7, 0, 1 << 32])).unwrap_err();
    assert!(large.contains("at [0, 0, 2]: 4294967296;"), "{large}");
    let mut writer = Writer::new().raw(b"}(").text("logical_count");
    writer.storages.push(i64_bytes(&[9, 9, 1, 2, 9]));
    let view = writer.view("LongStorage", 5, 2, &[1, 1, 2], None).raw(b"u");
    assert_eq!(counts(&import_stat(None, &[view]).unwrap()), [1, 2]);
}

fn import_passes(
    model: Option<&ModelShape>,
    writers: &[Writer],
) -> Result<crate::RoutingTrace, String> {
    let files: Vec<Vec<u8>> = writers.iter().map(Writer::file).collect();
    let names = ["0.pt", "1.pt", "2.pt"];
    let files: Vec<(&str, &[u8])> =
        names.into_iter().zip(files.iter().map(Vec::as_slice)).collect();
    import("sglang-per-pass", model, &files)
}

/// Two layers of three slots; expert 0 has two replicas in layer 0, expert 1 in layer 1.
const MAP: [i64; 6] = [0, 1, 0, 1, 0, 1];

#[test]
fn per_pass_sums_ranks_and_maps_slots_back() {
    let first: [PassRecord<'_>; 2] = [(9, 0, &[1, 2, 3, 4, 5, 6]), (7, 0, &[0, 0, 1, 0, 0, 1])];
    let second: [PassRecord<'_>; 2] = [(7, 1, &[0, 0, 10, 0, 0, 10]), (9, 1, &[0; 6])];
    let files = [per_pass([2, 3], &MAP, &first), per_pass([2, 3], &MAP, &second)];
    let trace = import_passes(None, &files).unwrap();
    assert_eq!(counts(&trace), [11, 0, 0, 11, 4, 2, 5, 10]);
    assert_eq!(trace.header().layers, [0, 1]);
    assert_eq!(trace.header().experts, 2);
    let remark = &trace.header().remarks[1];
    assert!(remark.starts_with("counts of 3 slots were mapped to 2 experts"), "{remark}");
}

#[test]
fn per_pass_says_what_is_wrong() {
    let records: [PassRecord<'_>; 1] = [(7, 0, &[1; 6])];
    let good = per_pass([2, 3], &MAP, &records);
    let refused =
        |model: Option<&ModelShape>, files: &[Writer]| import_passes(model, files).unwrap_err();
    assert_eq!(
        refused(None, &[good.clone(), good.clone()]),
        "1.pt: record 0: pass 7 of rank 0, gatherer `primary`, a second time; \
         expected each pass once per rank"
    );
    let other: [PassRecord<'_>; 1] = [(7, 1, &[1; 6])];
    assert_eq!(
        refused(None, &[good.clone(), per_pass([2, 3], &[0, 1, 1, 1, 0, 1], &other)]),
        "1.pt: tensor `last_physical_to_logical_map`: another map; \
         expected that of the first file"
    );
    assert_eq!(
        refused(None, &[per_pass([2, 3], &[0, 1, 3, 1, 0, 1], &records)]),
        "0.pt: tensor `last_physical_to_logical_map`: expert 3; \
         expected experts below 3, the slots"
    );
    assert_eq!(
        refused(None, &[per_pass([2, 3], &[0, 1, -1, 1, 0, 1], &records)]),
        "0.pt: tensor `last_physical_to_logical_map` at [0, 2]: -1; \
         expected a count from 0 to 4294967295"
    );
    assert_eq!(
        refused(Some(&tiny()), &[per_pass([2, 3], &[0, 1, 2, 1, 0, 1], &records)]),
        "0.pt: tensor `last_physical_to_logical_map`: expert 2; expected an expert of tiny: 0 to 1"
    );
    assert_eq!(
        refused(Some(&tiny()), std::slice::from_ref(&good)),
        "0.pt: tensor `global_physical_count`: 2 layers; expected 3 layers as tiny has"
    );
    assert_eq!(
        refused(None, &[per_pass([2, 3], &MAP, &[])]),
        "0.pt: key `records`: an empty list; expected forward passes"
    );
    let negative: [PassRecord<'_>; 1] = [(7, -1, &[1; 6])];
    assert_eq!(
        refused(None, &[per_pass([2, 3], &MAP, &negative)]),
        "0.pt: record 0, key `rank`: the int -1; expected an int from 0"
    );
    let text = Writer::new().raw(b"}(").text("records").raw(b"](}(").text("oops").int(1);
    let text = text.raw(b"ue").text("last_physical_to_logical_map");
    let text = text.tensor("LongStorage", &[1, 1], i64_bytes(&[0])).raw(b"u");
    assert_eq!(refused(None, &[text]), "0.pt: record 0: key `oops`; expected keys of SGLang 0.5");
}

/// A thousand records of one storage would be reserved a thousand times.
#[test]
fn records_may_not_share_what_the_file_holds_once() {
    let mut writer = Writer::new().raw(b"}(").text("records").raw(b"](");
    writer.storages.push(super::super::torch::write::i32_bytes(&[1; 1000]));
    for pass in 0..1000 {
        writer = writer.raw(b"}(").text("forward_pass_id").int(pass).text("rank").int(0);
        writer = writer.text("gatherer_key").text("primary").text("global_physical_count");
        writer = writer.view("IntStorage", 1000, 0, &[1, 1000], None).raw(b"u");
    }
    let map: Vec<i64> = (0..1000).collect();
    let writer = writer.raw(b"e").text("last_physical_to_logical_map");
    let writer = writer.tensor("LongStorage", &[1, 1000], i64_bytes(&map)).raw(b"u");
    let error = import_passes(None, &[writer]).unwrap_err();
    assert!(error.starts_with("0.pt: key `records`: 4000000 bytes of counts in files"), "{error}");
}

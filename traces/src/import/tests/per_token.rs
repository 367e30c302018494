//! Hand-made recordings of mode per_token and the traces that they must give.

use std::path::PathBuf;

use moecast_profiles::model::ModelShape;

use super::super::torch::write::{Writer, i32_bytes, i64_bytes};
use super::{import, import_paths, tiny};
use crate::RoutingTrace;
use crate::trace::NO_EXPERT as NONE;

const FORMAT: &str = "sglang-per-token";
const REQUESTS: &str =
    "requests are not recorded: they are derived from ranks, batches and positions";
const NO_MODEL: &str = "no model was named: experts are the 3 of the map";

/// One record. `ids` is `[L, tokens, 2]`.
#[derive(Clone)]
struct Record<'a> {
    pass: i64,
    rank: i64,
    mode: i64,
    positions: &'a [i64],
    lengths: Option<&'a [i64]>,
    ids: Vec<i32>,
    /// What the tokens are: tells tensor-parallel twins from others.
    input: i64,
    /// Whether the ids are those of the record before, and the storage too.
    shared: bool,
}

fn extend<'a>(pass: i64, lengths: &'a [i64], positions: &'a [i64], ids: &[i32]) -> Record<'a> {
    Record {
        pass,
        rank: 0,
        mode: 1,
        positions,
        lengths: Some(lengths),
        ids: ids.to_vec(),
        input: 7,
        shared: false,
    }
}

fn decode<'a>(pass: i64, positions: &'a [i64], ids: &[i32]) -> Record<'a> {
    Record {
        pass,
        rank: 0,
        mode: 2,
        positions,
        lengths: None,
        ids: ids.to_vec(),
        input: 7,
        shared: false,
    }
}

fn list(writer: Writer, values: &[i64]) -> Writer {
    values.iter().fold(writer.raw(b"]("), |writer, &value| writer.int(value)).raw(b"e")
}

/// A dump with a map `[L, P]`.
fn dump(map: (&[i64], [i64; 2]), records: &[Record<'_>]) -> Writer {
    let mut writer = Writer::new().raw(b"}(").text("records").raw(b"](");
    for record in records {
        writer = writer.raw(b"}(").text("forward_pass_id").int(record.pass);
        writer = writer.text("rank").int(record.rank).text("gatherer_key").text("primary");
        let inputs: Vec<i64> = record.positions.iter().map(|_| record.input).collect();
        writer = list(writer.text("input_ids"), &inputs);
        writer = list(writer.text("positions"), record.positions).text("extend_seq_lens");
        writer = match record.lengths {
            Some(lengths) => list(writer, lengths),
            None => writer.raw(b"N"),
        };
        writer = writer.text("forward_mode").int(record.mode).text("topk_ids_of_layer");
        let tokens = i64::try_from(record.positions.len()).unwrap();
        let shape = [map.1[0], tokens, 2];
        writer = if record.shared {
            writer.view("IntStorage", shape.iter().product(), 0, &shape, None)
        } else {
            writer.tensor("IntStorage", &shape, i32_bytes(&record.ids))
        };
        writer = writer.text("misc_objects").raw(b"]u");
    }
    let writer = writer.raw(b"e").text("last_physical_to_logical_map");
    writer.tensor("LongStorage", &map.1, i64_bytes(map.0)).raw(b"u")
}

/// The smallest dump: a prompt of one token.
pub(super) fn smallest() -> Vec<u8> {
    dump((&[0, 1], [1, 2]), &[extend(5, &[1], &[0], &[1, 0])]).file()
}

/// Two layers, the first dense; slot 3 of layer 1 is a second replica of expert 0.
const MAP: (&[i64], [i64; 2]) = (&[0, 1, 2, 0, 0, 1, 2, 0], [2, 4]);

/// `ids` are those of layer 1; layer 0 is dense.
fn moe(ids: &[i32]) -> Vec<i32> {
    [vec![-1; ids.len()], ids.to_vec()].concat()
}

fn read(model: Option<&ModelShape>, writers: &[Writer]) -> Result<RoutingTrace, String> {
    let files: Vec<Vec<u8>> = writers.iter().map(Writer::file).collect();
    let names = ["0.pt", "1.pt", "2.pt"];
    let files: Vec<(&str, &[u8])> =
        names.into_iter().zip(files.iter().map(Vec::as_slice)).collect();
    import(FORMAT, model, &files)
}

#[test]
fn tokens_of_all_ranks_make_one_step_a_pass() {
    let first = [
        decode(9, &[2, 3], &moe(&[2, 0, -1, -1])),
        extend(8, &[2, 3], &[0, 1, 0, 1, 2], &moe(&[0, 1, 1, 3, 2, 3, 1, 2, -1, 2])),
    ];
    let mut second = [extend(8, &[1], &[0], &moe(&[3, 2])), decode(9, &[1], &moe(&[1, 0]))];
    second.iter_mut().for_each(|record| record.rank = 1);
    let trace = read(None, &[dump(MAP, &first), dump(MAP, &second)]).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (3, 2, &[1][..]));
    let columns = trace.tokens().unwrap();
    let experts = [[0, 1], [1, 0], [2, 0], [1, 2], [2, NONE], [0, 2], [2, 0], [NONE, NONE], [1, 0]];
    assert_eq!(&*columns.experts, experts.as_flattened());
    assert_eq!(&*columns.request, [0, 0, 1, 1, 1, 2, 0, 1, 2]);
    assert_eq!(&*columns.position, [0, 1, 0, 1, 2, 0, 2, 3, 1]);
    assert_eq!(&*columns.phase, [0, 0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(&*columns.step, [0, 0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(
        header.remarks,
        [
            "layers without a token are taken for dense and left out: 0",
            NO_MODEL,
            "ids of 4 slots were mapped to 3 experts with the map in force at the end of the \
             recording; passes before a rebalance are misattributed",
            REQUESTS,
            "1 (token, layer) pairs have no id and hold no expert",
        ]
    );
}

#[test]
fn twins_padding_and_late_sequences_are_counted() {
    let map = (&[0, 1, 2][..], [1, 3]);
    let mut records = [
        extend(1, &[1], &[4, 0, 0], &[1, 0, 0, 1, 0, 1]),
        extend(2, &[1], &[0], &[2, 0]),
        extend(3, &[1], &[0], &[2, 1]),
        decode(4, &[1], &[0, 1]),
    ];
    records[3].lengths = None;
    let twins: Vec<Record<'_>> =
        records[..2].iter().cloned().map(|record| Record { rank: 1, ..record }).collect();
    let trace = read(None, &[dump(map, &records), dump(map, &twins)]).unwrap();
    let columns = trace.tokens().unwrap();
    assert_eq!(&*columns.experts, [1, 0, 2, 0, 2, 1, 0, 1]);
    assert_eq!(&*columns.request, [0, 1, 2, 3]);
    assert_eq!(&*columns.position, [4, 0, 0, 1]);
    assert_eq!(
        trace.header().remarks,
        [
            NO_MODEL,
            REQUESTS,
            "1 sequences begin behind position 0 and continue none that is known (a cached \
             prefix, or begun before the recording): each is a request of its own",
            "1 sequences might continue several requests: each is a request of its own",
            "2 records equal those of another rank in the same pass (tensor-parallel ranks) and \
             are left out",
            "2 tokens behind the last sequence of a batch are padding and left out",
            "2 passes have fewer records than the 2 of others",
        ]
    );
}

/// A mixed pass extends a prompt and decodes a token beside it; an idle rank has no tokens.
#[test]
fn mixed_and_idle_passes_are_read() {
    let map = (&[0, 1, 2][..], [1, 3]);
    let mut mixed = extend(2, &[2, 1], &[0, 1, 1], &[2, 0, 2, 1, 1, 0]);
    mixed.mode = 3;
    let mut idle = extend(3, &[], &[], &[]);
    idle.mode = 4;
    let records = [extend(1, &[1], &[0], &[1, 0]), mixed, idle];
    let trace = read(None, &[dump(map, &records)]).unwrap();
    let columns = trace.tokens().unwrap();
    assert_eq!(&*columns.request, [0, 1, 1, 0]);
    assert_eq!(&*columns.phase, [0, 0, 0, 1]);
    assert_eq!(&*columns.step, [0, 1, 1, 1]);
}

#[test]
fn a_model_rules_layers_and_experts() {
    let map: Vec<i64> = (0..3).flat_map(|_| 0..4).collect();
    let ids = [-1, -1, 3, 2, 1, -1];
    let good = dump((&map, [3, 4]), &[extend(1, &[1], &[0], &ids)]);
    let trace = read(Some(&tiny()), std::slice::from_ref(&good)).unwrap();
    assert_eq!(&*trace.tokens().unwrap().experts, [3, 2, 1, NONE]);
    assert_eq!((trace.header().experts, &*trace.header().layers), (4, &[1, 2][..]));
    assert_eq!(trace.header().remarks, [REQUESTS]);
    let refused = |model: &ModelShape, writer: &Writer| {
        read(Some(model), std::slice::from_ref(writer)).unwrap_err()
    };
    let dense = dump((&map, [3, 4]), &[extend(1, &[1], &[0], &[1, 0, 3, 2, 1, 0])]);
    assert_eq!(
        refused(&tiny(), &dense),
        "0.pt: tensor `topk_ids_of_layer`: ids in layer 0; \
         expected ids in the MoE layers of tiny: 1 to 2"
    );
    assert_eq!(
        refused(&ModelShape { hidden_layers: 4, ..tiny() }, &good),
        "0.pt: tensor `topk_ids_of_layer`: 3 layers; expected 4 layers as tiny has"
    );
    assert_eq!(
        refused(&ModelShape { experts: 3, ..tiny() }, &good),
        "0.pt: tensor `last_physical_to_logical_map`: experts to 3 in 4 slots; \
         expected the 3 experts of tiny"
    );
}

#[test]
fn a_wrong_record_is_named() {
    let map = (&[0, 1, 0][..], [1, 3]);
    let good = extend(1, &[1], &[0], &[1, 0]);
    let with = |change: &dyn Fn(&mut Record<'_>)| {
        let mut record = good.clone();
        change(&mut record);
        read(None, &[dump(map, &[record])]).unwrap_err()
    };
    let cases: [(String, &str); 11] = [
        (
            with(&|r| r.ids = vec![3, 0]),
            "record 0, layer 0, token 0: slot 3; expected -1 to 2, the slots",
        ),
        (
            with(&|r| r.ids = vec![-2, 0]),
            "record 0, layer 0, token 0: slot -2; expected -1 to 2, the slots",
        ),
        (
            with(&|r| r.ids = vec![0, 2]),
            "record 0, layer 0, token 0: expert 0 twice; \
             expected distinct experts: was the recording stopped before a rebalance?",
        ),
        (
            with(&|r| r.ids = vec![-1, -1]),
            "tensor `topk_ids_of_layer`: no id; expected routed tokens",
        ),
        (
            with(&|r| r.mode = 5),
            "record 0: forward_mode 5; expected 1 (extend), 2 (decode), 3 (mixed) or 4 (idle)",
        ),
        (
            with(&|r| r.mode = 2),
            "record 0: forward_mode 2; \
             expected extend_seq_lens where prompts are extended, and only there",
        ),
        (
            with(&|r| r.lengths = None),
            "record 0: forward_mode 1; \
             expected extend_seq_lens where prompts are extended, and only there",
        ),
        (
            with(&|r| r.lengths = Some(&[2])),
            "record 0, key `extend_seq_lens`: 2 tokens in sequence 0, 1 left; \
             expected no more tokens than the batch",
        ),
        (
            with(&|r| r.positions = &[1 << 32]),
            "record 0: 1 input_ids, 0 positions; expected 1 of both, the tokens of \
             topk_ids_of_layer",
        ),
        (
            with(&|r| r.pass = -1),
            "record 0, key `forward_pass_id`: the int -1; expected an int from 0",
        ),
        (
            with(&|r| {
                r.positions = &[0, 2];
                r.lengths = Some(&[2]);
                r.ids = vec![0, 1, 0, 1];
            }),
            "record 0, key `positions`: gaps in sequence 0, which begins at 0; \
             expected positions that grow by 1",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, format!("0.pt: {expected}"));
    }
}

#[test]
fn a_wrong_dump_is_named() {
    let map = (&[0, 1, 0][..], [1, 3]);
    let good = extend(1, &[1], &[0], &[1, 0]);
    let refused = |files: &[Writer]| read(None, files).unwrap_err();
    assert_eq!(
        refused(&[dump(map, &[good.clone(), good.clone()])]),
        "0.pt: record 1: pass 1 of rank 0, gatherer `primary`, a second time; \
         expected each pass once per rank"
    );
    let other = dump((&[0, 1, 1], [1, 3]), &[Record { rank: 1, ..good.clone() }]);
    assert_eq!(
        refused(&[dump(map, std::slice::from_ref(&good)), other]),
        "1.pt: tensor `last_physical_to_logical_map`: another map; \
         expected that of the first file"
    );
    let one = std::slice::from_ref(&good);
    for (wrong, expert) in [(3, 3), (-1, -1), (65_535, 65_535)] {
        assert_eq!(
            refused(&[dump((&[0, 1, wrong], [1, 3]), one)]),
            format!(
                "0.pt: tensor `last_physical_to_logical_map`: expert {expert}; \
                 expected experts from 0 to 2"
            )
        );
    }
    assert_eq!(
        refused(&[dump(map, &[])]),
        "0.pt: key `records`: an empty list; expected forward passes"
    );
    assert_eq!(
        refused(&[dump((&[], [1 << 40, 0]), &[])]),
        "0.pt: tensor `last_physical_to_logical_map`: shape [1099511627776, 0]; \
         expected [layers, slots] with 1 to 4096 layers"
    );
    let float = Writer::new().raw(b"}(").text("records").raw(b"]");
    let float = float.text("last_physical_to_logical_map");
    let float = float.tensor("FloatStorage", &[1, 1], vec![0; 4]).raw(b"u");
    assert_eq!(
        refused(&[float]),
        "0.pt: tensor `last_physical_to_logical_map`: elements of F32; expected I16, I32 or I64"
    );
}

/// A thousand records of one storage would be held a thousand times.
#[test]
fn records_may_not_share_what_the_file_holds_once() {
    let positions: Vec<i64> = (0..100).collect();
    let map = (&[0, 1].repeat(64)[..], [64, 2]);
    let record = extend(0, &[100], &positions, &[0, 1].repeat(6400));
    let records: Vec<Record<'_>> =
        (0..10).map(|pass| Record { pass, shared: pass > 0, ..record.clone() }).collect();
    let writer = dump(map, &records);
    let bytes = writer.file().len();
    let error = read(None, &[writer]).err().unwrap();
    assert_eq!(
        error,
        format!(
            "0.pt: record 1: 102400 bytes of ids in a file of {bytes}; \
             expected one storage for each record"
        )
    );
    // A list that many records share is not read beyond their tokens.
    let mut long = extend(0, &[0; 1000], &[0], &[0, 1]);
    long.input = 1;
    let error = read(None, &[dump((&[0, 1], [1, 2]), &[long])]).unwrap_err();
    let expected = "0.pt: tensor `topk_ids_of_layer`: no id; expected routed tokens";
    assert_eq!(error, expected);
}

/// Files that PyTorch wrote with `tests-data/make_pt.py`.
#[test]
fn files_of_torch_save_are_read() {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data"));
    let ranks = [0, 1].map(|rank| data.join(format!("sglang_per_token_{rank}.pt")));
    let trace = import_paths("auto", None, &ranks).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (3, 2, &[1][..]));
    let columns = trace.tokens().unwrap();
    let experts = [[0, 1], [1, 2], [2, 0], [0, 2], [1, 0], [2, 1]];
    assert_eq!(&*columns.experts, experts.as_flattened());
    assert_eq!(&*columns.request, [0, 0, 1, 2, 0, 1]);
    assert_eq!(&*columns.position, [0, 1, 0, 0, 2, 1]);
    assert_eq!(&*columns.phase, [0, 0, 0, 0, 1, 1]);
    assert_eq!(&*columns.step, [0, 0, 0, 0, 1, 1]);
}

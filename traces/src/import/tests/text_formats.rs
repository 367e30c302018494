//! Hand-made recordings of the line-based formats and the traces that they must give.

use super::{counts, import, model};
use crate::trace::{NO_EXPERT, RoutingTrace};

const NONE: u16 = NO_EXPERT;

fn remarks(trace: &RoutingTrace) -> Vec<&str> {
    trace.header().remarks.iter().map(String::as_str).collect()
}

#[test]
fn counts_csv_fills_a_table_per_file() {
    let first = b"\xef\xbb\xbflayer, expert, count\r\n3,1,7\r\n5,0,2\r\n\r\n";
    let second = b"layer,expert,count\n5,2,4294967295\n";
    let trace = import("counts-csv", None, &[("a.csv", first), ("b.csv", second)]).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (3, 1, &[3, 5][..]));
    assert_eq!(counts(&trace), [0, 7, 0, 2, 0, 0, 0, 0, 0, 0, 0, u32::MAX]);
    assert_eq!(
        remarks(&trace),
        [
            "no model was named: layers and experts are those that occur",
            "top-k is not recorded and no model was named: 1 is assumed, so choices count as \
             tokens",
        ]
    );
    assert_eq!(header.inputs.len(), 2);
}

#[test]
fn counts_csv_takes_the_shape_of_the_model() {
    let olmoe = model("olmoe-1b-7b");
    let files: [(&str, &[u8]); 1] = [("a.csv", b"layer,expert,count\n15,63,9\n")];
    let trace = import("counts-csv", Some(&olmoe), &files).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, header.moe_layers()), (64, 8, 16));
    assert_eq!(header.model, "olmoe-1b-7b");
    assert_eq!(counts(&trace).len(), 16 * 64);
    assert_eq!(counts(&trace)[16 * 64 - 1], 9);
    assert!(remarks(&trace).is_empty());
}

#[test]
fn counts_csv_says_which_line_is_wrong() {
    let deepseek = model("deepseek-v3");
    let cases: [(&str, &str); 12] = [
        ("", "line 1: an empty file; expected the header `layer,expert,count`"),
        ("3,1,7\n", "line 1: `3,1,7`; expected the header `layer,expert,count`"),
        ("layer,expert,count\n", "whole file: no rows; expected at least one row"),
        (
            "layer,expert,count\n3,1,7\n4,1,7\n3,1,0\n",
            "line 4: layer 3, expert 1 a second time (first in line 2); \
             expected each layer and expert once",
        ),
        (
            "layer,expert,count\n3,256,7\n",
            "line 2: expert `256`; expected an expert of deepseek-v3: 0 to 255",
        ),
        (
            "layer,expert,count\n3,70000,7\n",
            "line 2: expert `70000`; expected an expert of deepseek-v3: 0 to 255",
        ),
        (
            "layer,expert,count\n2,0,7\n",
            "line 2: layer 2; expected a MoE layer of deepseek-v3: 3 to 60",
        ),
        (
            "layer,expert,count\n3,0,-7\n",
            "line 2: count `-7`; expected an integer from 0 to 4294967295",
        ),
        (
            "layer,expert,count\n3,0,4294967296\n",
            "line 2: count `4294967296`; expected an integer from 0 to 4294967295",
        ),
        (
            "layer,expert,count\n3,0,1.5\n",
            "line 2: count `1.5`; expected an integer from 0 to 4294967295",
        ),
        (
            "layer,expert,count\n3,0\n",
            "line 2: 2 fields in `3,0`; expected 3 fields: layer,expert,count",
        ),
        ("layer,expert,count\nx,0,1\n", "line 2: layer `x`; expected an absolute layer number"),
    ];
    for (text, expected) in cases {
        let found = import("counts-csv", Some(&deepseek), &[("a.csv", text.as_bytes())]);
        assert_eq!(found.unwrap_err(), format!("a.csv: {expected}"));
    }
    let broken: [(&str, &[u8]); 1] = [("a.csv", b"layer,expert,count\n3,\xff,7\n")];
    assert_eq!(
        import("counts-csv", None, &broken).unwrap_err(),
        "a.csv: line 2: a byte that is not UTF-8 at column 3; expected text"
    );
    let last: [(&str, &[u8]); 1] = [("a.csv", b"layer,expert,count\n3,65534,7\n")];
    assert!(import("counts-csv", None, &last).unwrap_err().contains("from 0 to 65533"));
}

#[test]
fn jsonl_gives_one_step_a_line_and_one_request_a_file() {
    let first =
        b"{\"tok\": 5, \"layers\": [[0, 2], [1]]}\n{\"tok\": 7, \"layers\": [[], [3, 0]]}\n";
    let second = b"{\"layers\": [[1], [2]], \"tok\": 0}";
    let trace = import("jsonl-layers", None, &[("a.jsonl", first), ("b.jsonl", second)]).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (4, 2, &[0, 1][..]));
    let columns = trace.tokens().unwrap();
    let expected = [0, 2, 1, NONE, NONE, NONE, 3, 0, 1, NONE, 2, NONE];
    assert_eq!(&*columns.experts, expected);
    assert_eq!(&*columns.request, [0, 0, 1]);
    assert_eq!(&*columns.position, [0, 2, 0]);
    assert_eq!(&*columns.step, [0, 1, 2]);
    assert_eq!(&*columns.phase, [1, 1, 1]);
    assert!(columns.weights.is_none());
    assert_eq!(
        remarks(&trace),
        [
            "no model was named: experts reach to the largest id, 3, and layers are numbered \
             from 0",
            "1 tokens are absent: `tok` skips them",
        ]
    );
}

#[test]
fn jsonl_says_which_line_is_wrong() {
    let good = "{\"tok\": 1, \"layers\": [[0, 2], [1]]}\n";
    let shape = "{\"tok\": i, \"layers\": [[ids], ...]}";
    let cases: [(&str, String); 11] = [
        (
            "{\"tok\": 1, \"layers\": [[1]]}",
            "line 2: tok 1 after 1; expected tok that grows".into(),
        ),
        ("{\"tok\": 2, \"layers\": [[1]]}", "line 2: 1 layers; expected 2 layers".into()),
        (
            "{\"tok\": 2, \"layers\": [[1, 1], [2]]}",
            "line 2: expert 1 twice in layer 0; expected distinct experts".into(),
        ),
        (
            "{\"tok\": 2, \"layers\": [[0], [65534]]}",
            "line 2: expert 65534 in layer 1; expected 0 to 65533".into(),
        ),
        (
            "{\"tok\": 2, \"layers\": [[-1], [0]]}",
            format!(
                "line 2, column 25: invalid value: integer `-1`, expected u16; expected {shape}"
            ),
        ),
        (
            "{\"tok\": 2, \"tok\": 3, \"layers\": [[1], [0]]}",
            format!("line 2, column 16: duplicate field `tok`; expected {shape}"),
        ),
        (
            "{\"tok\": 2, \"weights\": []}",
            format!(
                "line 2, column 20: unknown field `weights`, expected `tok` or `layers`; \
                 expected {shape}"
            ),
        ),
        ("{\"tok\": 2}", format!("line 2, column 10: missing field `layers`; expected {shape}")),
        (
            "{\"tok\": 2, ",
            format!("line 2, column 10: EOF while parsing a value; expected {shape}"),
        ),
        ("[2, [[1], [0]]]", format!("line 2: `[2, [[1], [0]]]`; expected {shape}")),
        (
            "{\"tok\": 5000000000, \"layers\": [[1], [0]]}",
            "line 2: tok 5000000000; expected at most 2^32 tokens".into(),
        ),
    ];
    for (line, expected) in cases {
        let text = format!("{good}{line}");
        let found = import("jsonl-layers", None, &[("a.jsonl", text.as_bytes())]).unwrap_err();
        assert_eq!(found, format!("a.jsonl: {expected}"));
    }
    let empty = import("jsonl-layers", None, &[("a.jsonl", b"\n\n")]).unwrap_err();
    assert_eq!(empty, "a.jsonl: whole file: no lines; expected at least one token");
    let none: [(&str, &[u8]); 1] = [("a.jsonl", b"{\"tok\": 2, \"layers\": [[], []]}")];
    let error = import("jsonl-layers", None, &none).unwrap_err();
    assert_eq!(error, "a.jsonl: whole recording: no expert; expected at least one expert");
    let files: [(&str, &[u8]); 1] = [("a.jsonl", good.as_bytes())];
    let error = import("jsonl-layers", Some(&model("olmoe-1b-7b")), &files).unwrap_err();
    assert_eq!(error, "a.jsonl: line 1: 2 layers; expected 16 as olmoe-1b-7b has MoE layers");
}

/// Layer 0 is dense. Two prompt tokens, of which the last layer holds the second only, and two
/// decoded tokens; rows of one pass come layer by layer, as the engine writes them.
pub(super) const ROUTE_TRACE: &str = "\
# route_trace v1
# model=/a folder/tiny moe.gguf arch=tiny n_layer=3 n_expert=4 n_expert_used=2
# layer=0 expert_bytes=0 dense_bytes=10
# layer=1 expert_bytes=100 dense_bytes=10
# layer=2 expert_bytes=100 dense_bytes=10
turn,phase,step,layer,slot,expert,weight,residency,expert_bytes,dropped
0,0,0,1,0,3,0.75,0,100,0
0,0,0,1,1,0,0.25,0,100,0
0,0,1,1,0,1,0.5,0,100,0
0,0,1,1,1,2,0.5,0,100,0
0,0,1,2,0,2,1,0,100,0
0,0,1,2,1,3,0,0,100,0
0,1,2,1,0,0,0.5,1,0,0
0,1,2,1,1,1,0.5,1,0,1
0,1,2,2,0,1,0.5,1,0,0
0,1,3,1,0,0,0.5,1,0,0
0,1,3,1,1,1,0.5,1,0,0
0,1,3,2,0,1,0.5,1,0,0
0,1,3,2,1,0,0.5,1,0,0
";

#[test]
fn route_trace_gives_one_prefill_step_and_one_step_a_decoded_token() {
    let files: [(&str, &[u8]); 1] = [("a.csv", ROUTE_TRACE.as_bytes())];
    let trace = import("route-trace-csv", None, &files).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, &*header.layers), (4, 2, &[1, 2][..]));
    assert_eq!(header.model, "tiny moe.gguf");
    let columns = trace.tokens().unwrap();
    let experts = [3, 0, NONE, NONE, 1, 2, 2, 3, 0, 1, 1, NONE, 0, 1, 1, 0];
    assert_eq!(&*columns.experts, experts);
    let weights: Vec<f32> =
        columns.weights.as_ref().unwrap().iter().map(|weight| weight.to_f32()).collect();
    let h = 0.5;
    assert_eq!(weights, [0.75, 0.25, 0.0, 0.0, h, h, 1.0, 0.0, h, h, h, 0.0, h, h, h, h]);
    assert_eq!(&*columns.step, [0, 0, 1, 2]);
    assert_eq!(&*columns.position, [0, 1, 2, 3]);
    assert_eq!(&*columns.phase, [0, 0, 1, 1]);
    assert_eq!(&*columns.request, [0, 0, 0, 0]);
    assert_eq!(
        remarks(&trace),
        [
            "1 (token, layer) pairs are absent and hold no expert",
            "1 (token, layer) pairs hold fewer than 2 experts",
            "1 rows were routed but dropped by the engine; they are kept",
            "columns that are not kept: residency, expert_bytes",
        ]
    );
}

#[test]
fn turns_and_files_of_a_route_trace_are_requests() {
    let more = format!("{ROUTE_TRACE}1,0,4,1,0,3,nan,0,0,0\n1,1,5,1,0,2,0.5,0,0,0\n");
    let files: [(&str, &[u8]); 2] = [("a.csv", more.as_bytes()), ("b.csv", ROUTE_TRACE.as_bytes())];
    let trace = import("route-trace-csv", None, &files).unwrap();
    let columns = trace.tokens().unwrap();
    assert_eq!(&*columns.request, [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]);
    assert_eq!(&*columns.step, [0, 0, 1, 2, 3, 4, 5, 5, 6, 7]);
    assert_eq!(&*columns.position, [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]);
    assert!(columns.weights.is_none(), "a weight that is unknown must not read as 0");
    let remarks = remarks(&trace).join("\n");
    assert!(remarks.contains("1 rows have no gate weight, so none is kept"), "{remarks}");
    assert!(remarks.contains("1 turns continue a conversation"), "{remarks}");
}

#[test]
fn route_trace_says_which_line_is_wrong() {
    let cases: [(&str, &str, &str); 13] = [
        (
            "route_trace v1",
            "route_trace v2",
            "line 1: `# route_trace v2`; expected `# route_trace v1`",
        ),
        (
            "n_expert_used=2",
            "n_expert_used=5",
            "line 2: n_expert=4 n_expert_used=5; expected 1 <= n_expert_used <= n_expert",
        ),
        (
            "n_layer=3",
            "layers=3",
            "line 2: `# model=/a folder/tiny moe.gguf arch=tiny layers=3 n_expert=...`; \
             expected # model=... arch=... n_layer=... n_expert=... n_expert_used=...",
        ),
        (
            "# layer=1 expert_bytes=100",
            "# layer=1 bytes=100",
            "line 4: `# layer=1 bytes=100 dense_bytes=10`; \
             expected # layer=... expert_bytes=... dense_bytes=...",
        ),
        (
            "# layer=1",
            "# layer=7",
            "line 6: 3 `# layer=` lines above; expected one for each of 3 layers, in order",
        ),
        (
            ",slot,",
            ",rank,",
            "line 6: columns `turn,phase,step,layer,rank,expert,weight,residency,expert_by...`; \
             expected a column `slot`",
        ),
        (",residency,", ",turn,", "line 6: column `turn` twice; expected each column once"),
        ("0,0,0,1,0,3", "0,0,0,1,0,4", "line 7: expert 4; expected an integer below 4"),
        ("0,0,0,1,0,3", "0,0,0,0,0,3", "line 7: layer 0; expected a layer with experts: 1 to 2"),
        ("0,0,0,1,0,3", "0,0,-1,1,0,3", "line 7: step `-1`; expected a position from 0"),
        ("0,0,0,1,0,3", "0,2,0,1,0,3", "line 7: phase 2; expected an integer below 2"),
        (
            "0,0,0,1,1,0",
            "0,0,0,1,0,0",
            "line 8: slot 0 of one token and layer twice; expected each slot once",
        ),
        (
            "0,0,0,1,1,0",
            "0,0,0,1,1,3",
            "line 8: expert 3 twice in one token and layer; expected distinct experts",
        ),
    ];
    for (old, new, expected) in cases {
        let text = ROUTE_TRACE.replacen(old, new, 1);
        let found = import("route-trace-csv", None, &[("a.csv", text.as_bytes())]).unwrap_err();
        assert_eq!(found, format!("a.csv: {expected}"));
    }
    let files: [(&str, &[u8]); 1] = [("a.csv", ROUTE_TRACE.as_bytes())];
    let error = import("route-trace-csv", Some(&model("olmoe-1b-7b")), &files).unwrap_err();
    assert_eq!(
        error,
        "a.csv: preamble: 3 layers, 4 experts in layers 1 to 2; \
         expected 16 layers, 64 experts in layers 0 to 15, as olmoe-1b-7b has"
    );
}

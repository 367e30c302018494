//! Hand-made responses of SGLang and the traces that they must give.

use super::super::base64::tests::encode;
use super::{import, tiny};
use crate::RoutingTrace;
use crate::trace::NO_EXPERT as NONE;

const FORMAT: &str = "sglang-routed-experts";

/// A response with so many prompt tokens and generated tokens.
pub(super) fn response(ids: &[i32], (prompt, completion): (u32, u32)) -> Vec<u8> {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let text = encode(&bytes);
    format!(
        "{{\"text\": \"a \\\"b\\\"\", \"meta_info\": {{\"id\": \"x\", \"prompt_tokens\": {prompt}, \
         \"completion_tokens\": {completion}, \"routed_experts\": \"{text}\"}}}}"
    )
    .into_bytes()
}

/// The ids of one token: dense layer 0 holds zeros, layers 1 and 2 hold the experts given.
fn token(first: [i32; 2], second: [i32; 2]) -> [i32; 6] {
    [0, 0, first[0], first[1], second[0], second[1]]
}

fn read(files: &[(&str, &[u8])]) -> Result<RoutingTrace, String> {
    import(FORMAT, Some(&tiny()), files)
}

/// Two prompt tokens and two generated ones; then one and three: the last token has no ids.
#[test]
fn prompts_are_steps_and_generated_tokens_run_side_by_side() {
    let a: Vec<i32> =
        [token([0, 1], [2, 3]), token([1, 2], [3, 0]), token([2, 3], [0, 1])].concat();
    let b: Vec<i32> =
        [token([3, 0], [1, 2]), token([3, 1], [1, 3]), token([0, 2], [2, 0])].concat();
    let (a, b) = (response(&a, (2, 2)), response(&b, (1, 3)));
    let lines = [&a, b"\n".as_slice(), &b, b"\n"].concat();
    let list = [b"[".as_slice(), &a, b",\n", &b, b"]"].concat();
    let inputs: [&[(&str, &[u8])]; 3] =
        [&[("a.jsonl", &lines)], &[("a.json", &list)], &[("a.json", &a), ("b.json", &b)]];
    for files in inputs {
        let trace = import("auto", Some(&tiny()), files).unwrap();
        let columns = trace.tokens().unwrap();
        let experts =
            [[0, 1, 2, 3], [1, 2, 3, 0], [3, 0, 1, 2], [2, 3, 0, 1], [3, 1, 1, 3], [0, 2, 2, 0]];
        assert_eq!(&*columns.experts, experts.as_flattened());
        assert_eq!(&*columns.request, [0, 0, 1, 0, 1, 1]);
        assert_eq!(&*columns.position, [0, 1, 0, 2, 1, 2]);
        assert_eq!(&*columns.phase, [0, 0, 0, 1, 1, 1]);
        assert_eq!(&*columns.step, [0, 0, 1, 2, 2, 3]);
        assert_eq!(trace.header().layers, [1, 2]);
        assert_eq!(
            trace.header().remarks,
            [
                "what was batched is not recorded: each prompt is one step, and the next token \
                 of all requests that still generate is one step",
                "rows of the dense layers are left out: 0",
            ]
        );
    }
}

/// Rows of the MoE layers alone: 8 ids are two tokens of two layers, and not of three.
#[test]
fn the_model_tells_the_shape() {
    let trace = read(&[("a.json", &response(&[0, 1, 2, 3, 1, 2, -1, 3], (2, 1)))]).unwrap();
    assert_eq!(&*trace.tokens().unwrap().experts, [0, 1, 2, 3, 1, 2, NONE, 3]);
    // 12 ids may be two tokens of three layers or three of two: the response tells.
    let ids = [0, 1, 2, 3, 1, 2, 0, 3, 2, 1, 3, 2];
    let trace = read(&[("a.json", &response(&ids, (3, 1)))]).unwrap();
    assert_eq!(trace.token_count(), 3);
    let trace = read(&[("a.json", &response(&ids, (2, 7)))]).unwrap();
    assert_eq!(trace.token_count(), 2);
    let remark =
        "1 responses hold another number of tokens than prompt_tokens + completion_tokens - 1";
    assert_eq!(trace.header().remarks.last().unwrap(), remark);
}

#[test]
fn what_a_response_does_not_tell_is_said() {
    let bare = b"{\"meta_info\": {\"routed_experts\": \"AAAAAAAAAAAAAAAAAQAAAAIAAAADAAAA\"}}\n\
                 {\"text\": \"no ids\"} {\"meta_info\": {\"routed_experts\": null}}";
    let trace = read(&[("a.json", bare)]).unwrap();
    assert_eq!(&*trace.tokens().unwrap().experts, [0, 1, 2, 3]);
    let remarks = &trace.header().remarks;
    assert!(remarks[0].starts_with("where the prompt ends"), "{remarks:?}");
    assert_eq!(remarks[2], "2 responses have no meta_info.routed_experts and are left out");
}

#[test]
fn a_model_must_be_named() {
    let files: [(&str, &[u8]); 1] = [("a.json", &response(&[0, 1, 2, 3], (1, 1)))];
    assert_eq!(
        import(FORMAT, None, &files).unwrap_err(),
        "a.json: model: none is named; \
         expected --model: the ids carry no shape, so the model must tell layers and top-k"
    );
}

#[test]
fn a_wrong_response_is_named() {
    let good = response(&token([0, 1], [2, 3]), (1, 1));
    let shape = "{\"meta_info\": {\"routed_experts\": \"base64\", \"prompt_tokens\": n}}";
    let cases: [(Vec<u8>, String); 11] = [
        (
            response(&[0, 1, 2], (1, 1)),
            "response 1, routed_experts: 3 ids; \
             expected a multiple of 3 layers (or 2) x top-k 2 as tiny has"
                .into(),
        ),
        (
            response(&token([0, 4], [2, 3]), (1, 1)),
            "response 1, token 0, layer 1: expert 4; expected 0 to 3".into(),
        ),
        (
            response(&token([0, 1], [65_535, 3]), (1, 1)),
            "response 1, token 0, layer 2: expert 65535; expected 0 to 3".into(),
        ),
        (
            response(&token([0, 1], [3, 3]), (1, 1)),
            "response 1, token 0, layer 2: expert 3 twice; expected distinct experts".into(),
        ),
        (
            response(&token([0, 1], [2, 3]), (2, 0)),
            "response 1, prompt_tokens: 2; expected 1 at most, the tokens that have ids".into(),
        ),
        (
            response(&[0, 0, 0, 1], (1, 1)),
            "response 1, shape: [1, 2, 2]; expected [tokens, 3, 2] as before".into(),
        ),
        (
            b"{\"meta_info\": {\"routed_experts\": \"AAA\"}}".to_vec(),
            "response 1, routed_experts: `` at character 3 of 3; \
             expected base64 with its padding"
                .into(),
        ),
        (
            b"{\"meta_info\": {\"routed_experts\": \"AA\\n=\"}}".to_vec(),
            "response 1, routed_experts: `\\n=` at character 2 of 4; \
             expected base64 with its padding"
                .into(),
        ),
        (
            b"{\"meta_info\": {\"routed_experts\": \"AAA=\"}}".to_vec(),
            "response 1, routed_experts: 2 bytes; expected 32-bit integers".into(),
        ),
        (
            b"{\"meta_info\": {\"routed_experts\": [1]}}".to_vec(),
            format!(
                "response 1, line 2, column 33: invalid type: sequence, expected a string; \
                 expected {shape}"
            ),
        ),
        (
            b"{\"meta_info\": {}, \"meta_info\": {}}".to_vec(),
            format!("response 1, line 2, column 29: duplicate field `meta_info`; expected {shape}"),
        ),
    ];
    for (wrong, expected) in cases {
        let file = [&good, b"\n".as_slice(), &wrong].concat();
        assert_eq!(read(&[("a.json", &file)]).unwrap_err(), format!("a.json: {expected}"));
    }
    let error = read(&[("a.json", b"[1]")]).unwrap_err();
    assert!(error.starts_with("a.json: list, line 1, column 2: invalid type"), "{error}");
    let error = read(&[("a.json", b"")]).unwrap_err();
    assert_eq!(error, "a.json: whole recording: no expert; expected routed tokens");
}

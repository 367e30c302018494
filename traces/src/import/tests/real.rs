//! Recordings of real engines. They are third-party data and not part of the repository: where
//! the folder is absent, the tests say that they are skipped.

use std::path::PathBuf;

use moecast_profiles::ids::MoeLayer;

use super::{counts, import_paths, model};
use crate::trace::NO_EXPERT;

/// The recording called `name`, or `None` in a plain clone.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn recording(name: &str) -> Option<PathBuf> {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces")).join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not here");
    None
}

#[test]
fn olmoe_is_299_decoded_tokens() {
    let Some(path) = recording("olmoe-1b-7b.jsonl") else { return };
    let olmoe = model("olmoe-1b-7b");
    let trace = import_paths("auto", Some(&olmoe), std::slice::from_ref(&path)).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, header.moe_layers()), (64, 8, 16));
    assert_eq!((trace.steps().len(), trace.token_count()), (299, 299));
    assert_eq!(header.source, "jsonl-layers");
    assert!(header.remarks.is_empty(), "{:?}", header.remarks);
    let columns = trace.tokens().unwrap();
    assert!(!columns.experts.contains(&NO_EXPERT));
    assert_eq!(columns.experts[..8], [6, 8, 15, 23, 31, 37, 53, 63]);
    let last = columns.experts.len() - 8;
    assert_eq!(columns.experts[last..], [3, 8, 12, 17, 30, 36, 58, 60]);
    assert_eq!(columns.position.last(), Some(&298));
    let without = import_paths("jsonl-layers", None, &[path]).unwrap();
    assert_eq!(without.events(), trace.events());
    assert_eq!(without.header().experts, 64);
}

#[test]
fn qwen_is_28_prompt_tokens_and_128_decoded_ones() {
    let Some(path) = recording("qwen3-30b-a3b.route.csv") else { return };
    let qwen = model("qwen3-30b-a3b");
    let trace = import_paths("auto", Some(&qwen), std::slice::from_ref(&path)).unwrap();
    let header = trace.header();
    assert_eq!((header.experts, header.top_k, header.moe_layers()), (128, 6, 48));
    assert_eq!(header.model, "Qwen3-30B-A3B-Q4_K_M.gguf");
    assert_eq!(
        header.remarks,
        [
            "top-k is 6 as recorded; qwen3-30b-a3b has 8",
            "27 (token, layer) pairs are absent and hold no expert",
            "columns that are not kept: residency, expert_bytes",
        ]
    );
    assert_eq!((trace.token_count(), trace.steps().len()), (156, 129));
    assert_eq!(trace.steps()[0].rows, 0..28);
    let columns = trace.tokens().unwrap();
    let chosen = columns.experts.iter().filter(|&&id| id != NO_EXPERT).count();
    assert_eq!(chosen, 7461 * 6);
    // The last layer holds only the last prompt token.
    assert_eq!((0..28).flat_map(|row| trace.chosen(row, MoeLayer(47))).count(), 6);
    assert_eq!(trace.chosen(27, MoeLayer(47)).next().unwrap().0, 105);
    let weight = columns.weights.as_ref().unwrap()[0].to_f32();
    assert!((weight - 0.221_297).abs() < 1e-4, "{weight}");
    assert_eq!(columns.experts[..6], [49, 19, 58, 29, 16, 70]);
    assert_eq!(import_paths("auto", None, &[path]).unwrap().events(), trace.events());
}

/// Files that PyTorch 2.15 wrote with `tests-data/make_pt.py`.
#[test]
fn files_of_torch_save_are_read() {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data"));
    let trace = import_paths("auto", None, &[data.join("sglang_stat.pt")]).unwrap();
    // [3, 4, 3] of arange with layer 0 zeroed and the last step unused.
    let expected: Vec<u32> = (3..12).chain(15..24).collect();
    assert_eq!(counts(&trace), expected);
    assert_eq!(trace.header().layers, [1, 2, 3]);
    let ranks = [data.join("sglang_per_pass_0.pt"), data.join("sglang_per_pass_1.pt")];
    let trace = import_paths("sglang-per-pass", None, &ranks).unwrap();
    // Slots 0 and 3 both hold expert 0; layer 0 is dense. Pass 7: rank 0 counts [1, 2, 3, 4] and
    // rank 1 [10, 20, 30, 40]; pass 8: rank 0 only, [5, 6, 7, 8].
    assert_eq!(counts(&trace), [55, 22, 33, 13, 6, 7]);
    assert_eq!(
        trace.header().remarks,
        [
            "layers without a token are taken for dense and left out: 0",
            "top-k is not recorded and no model was named: 1 is assumed, so choices count as \
             tokens",
            "1 passes have fewer records than the 2 of others",
            "counts of 4 slots were mapped to 3 experts with the map in force at the end of the \
             recording; passes before a rebalance are misattributed",
            "keys of mode per_token are not kept: counts only",
        ]
    );
}

//! Real recordings, where they are at hand.

use serde_json::json;

use crate::support::{Scratch, recording};

#[test]
fn the_main_job_on_a_phones_recording_of_qwen3() {
    let Some(path) = recording("qwen3-30b-a3b.route.csv") else { return };
    let scratch = Scratch::new();
    scratch.ok(&format!("trace import {} -o qwen3.safetensors", path.display()));
    let stats = scratch.json("trace stats qwen3.safetensors");
    assert_eq!(stats["tokens"], json!(156));
    assert_eq!(stats["layers"], json!(48));
    assert_eq!(stats["experts"], json!(128));
    assert_eq!(stats["top_k"], json!(6));
    // Prefill: 28 tokens, of which the last layer holds one; decode: 128 tokens.
    assert_eq!(stats["per_layer"][0]["pairs"], json!(156 * 6));
    assert_eq!(stats["per_layer"][47]["pairs"], json!((1 + 128) * 6));
    let plan = scratch.json(
        "plan --trace qwen3.safetensors --model qwen3-30b-a3b --cluster h200-sxm:1x8 \
         --redundant 16 --engine sglang,trtllm,vllm-ascend --out plan",
    );
    let imbalance = |name: &str| plan["imbalance"][name]["heldout"].as_f64().unwrap();
    assert!(imbalance("plan") < imbalance("eplb"), "{} on steps not seen", plan["imbalance"]);
    let remarks = plan["remarks"].to_string();
    assert!(remarks.contains("k = 6 where qwen3-30b-a3b has k = 8"), "{remarks}");
    scratch.ok("simulate --trace qwen3.safetensors --plan plan/plan.json --cluster h200-sxm:1x8 \
         --out run");
    scratch.ok("report run");
}

#[test]
fn a_recording_of_olmoe() {
    let Some(path) = recording("olmoe-1b-7b.jsonl") else { return };
    let scratch = Scratch::new();
    scratch.ok(&format!("trace import {} -o t.safetensors --model olmoe-1b-7b", path.display()));
    let stats = scratch.json("trace stats t.safetensors");
    let found = (&stats["tokens"], &stats["layers"], &stats["experts"], &stats["top_k"]);
    assert_eq!(found, (&json!(299), &json!(16), &json!(64), &json!(8)));
}

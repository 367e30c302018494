//! `moecast memory`: bits of experts, and memory plans for engines.

use crate::support::{Scratch, tiny_recording};

/// Two MoE layers of eight experts; layer 1 stays whole, of layer 0 one expert.
const PLAN: &str = r#"{
  "version": 1, "model": "qwen3-30b-a3b", "layers": [0, 1], "hidden_layers": 2,
  "experts": 8, "top_k": 2,
  "pinned": [[3], [0, 1, 2, 3, 4, 5, 6, 7]],
  "slots": {"per_layer": [0, 0]}, "policy": "lru",
  "prefetcher": {"name": "none", "depth": 0, "accuracy": null}, "compute": "cpu",
  "bits": [], "stored_bits": null, "expert_bytes": [1000000, 1000000], "budget": 9000000,
  "gpu_bytes": null, "other_bytes": null, "loads": [],
  "predicted": {
    "train": {
      "tokens_per_second": null, "hit_rate": null, "link_bytes_per_token": null,
      "ttft_ms": null, "stall_share": null
    },
    "heldout": null
  },
  "provenance": {
    "tool": "moecast", "search": "by hand", "precision": "", "seed": 0, "trace_sha256": "",
    "synthetic": false, "heldout": 0.0, "machine": "", "remarks": []
  }
}"#;

fn recorded() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("tiny.jsonl", tiny_recording(64, 2, 8));
    scratch.ok("trace import tiny.jsonl -o trace.safetensors");
    scratch.write("memory.json", PLAN);
    scratch
}

#[test]
fn every_precision_policy_keeps_its_budget() {
    let scratch = recorded();
    for policy in ["budget", "edgemoe", "pmq", "uniform"] {
        let found = scratch.json(&format!(
            "memory bits --trace trace.safetensors --budget 2.5 --policy {policy} --out bits.csv"
        ));
        assert!(found["mean_bits"].as_f64().unwrap() <= 2.5, "{found}");
        assert_eq!(found["bits"][1].as_array().unwrap().len(), 8);
        let table = String::from_utf8(scratch.read("bits.csv")).unwrap();
        assert!(table.starts_with("layer,expert,bits\n0,0,"), "{table}");
        assert_eq!(table.lines().count(), 17);
    }
    let of = |solver: &str| {
        let line = format!("memory bits --trace trace.safetensors --budget 2 --solver {solver}");
        scratch.json(&line)["cost"].as_f64().unwrap()
    };
    assert!((of("dynamic") - of("program")).abs() < 1e-12);
}

#[test]
fn a_plan_is_exported_for_every_engine_and_what_is_rounded_is_said() {
    let scratch = recorded();
    let found = scratch.json(
        "memory export memory.json --engine csv,ktransformers,llama.cpp,moe-infinity,vllm \
         --gpu-memory 24GiB --trace trace.safetensors --out out",
    );
    assert_eq!(found["remarks"]["csv"].as_array().unwrap().len(), 0);
    assert_eq!(found["remarks"]["ktransformers"].as_array().unwrap().len(), 0);
    let rounded = found["remarks"]["llama.cpp"][0].as_str().unwrap();
    assert!(rounded.contains("1 layers of which the plan keeps a part"), "{rounded}");
    let text = |name: &str| String::from_utf8(scratch.read(&format!("out/{name}"))).unwrap();
    assert_eq!(
        text("llama.cpp.args"),
        "-ngl 99 -ot blk\\.0\\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU\n"
    );
    assert!(text("ktransformers.args").ends_with("--kt-gpu-experts-ratio 0.6\n"));
    assert!(text("README.txt").contains("--n-cpu-moe 1"), "{}", text("README.txt"));
    // The table is a file of counts that moecast reads, too.
    scratch.ok("trace import out/experts.csv -o counts.safetensors");
}

#[test]
fn what_is_wrong_is_named() {
    let scratch = recorded();
    scratch.write("other.json", PLAN.replace("9000000", "8999999"));
    for (line, expected) in [
        ("memory export other.json --engine csv --out out", "key `budget`: 8999999 bytes"),
        ("memory export memory.json --engine cvs --out out", "did you mean `csv`?"),
        ("memory export memory.json --engine moe-infinity --out out", "memory of the GPU"),
        ("memory bits --trace trace.safetensors --budget 1", "pmq: budget: 8 bits together"),
        ("memory bits --trace trace.safetensors --budget 2 --policy pmk", "did you mean `pmq`?"),
    ] {
        let answer = scratch.run(line);
        assert_eq!(answer.code, 1, "{line}");
        assert!(answer.stderr.contains(expected), "{line}: {}", answer.stderr);
    }
}

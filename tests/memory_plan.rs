//! `moecast memory plan`: what a memory gives, and what memory a speed needs.

use serde_json::Value;

use crate::support::Scratch;

const SMALL: &str =
    "memory plan --model olmoe-1b-7b --gpu rtx-4090 --requests 8 --generated 16 --simulations 24";

/// The same with a shorter search.
const SHORT: &str =
    "memory plan --model olmoe-1b-7b --gpu rtx-4090 --requests 8 --generated 16 --simulations 8";

const FILE: &str = r#"
name = "box"
about = "one card"

[base]
model = "olmoe-1b-7b"
gpu = "rtx-4090"
trace = { requests = 4, prompt = 8, generated = 8 }
machine = { tiers = [{ name = "host", bandwidth = "25 GB/s" }] }
cache = { share = 0.5 }
"#;

fn rate(row: &Value) -> f64 {
    row["tokens_per_second"]["heldout"].as_f64().unwrap()
}

/// More memory gives no less (within what routing differs by), and where all experts fit nothing
/// is copied.
#[test]
fn what_a_memory_gives_and_its_plan_for_engines() {
    let scratch = Scratch::new();
    let line = format!("{SMALL} --memory 8GiB --out plan");
    let found = scratch.json(&line);
    assert_eq!(found, scratch.json(&format!("{line} --threads 1")), "threads change nothing");
    let curve = found["curve"].as_array().unwrap();
    assert!(curve.len() >= 9, "{found}");
    for pair in curve.windows(2) {
        assert!(pair[0]["memory_bytes"].as_u64() < pair[1]["memory_bytes"].as_u64());
        assert!(rate(&pair[1]) >= 0.95 * rate(&pair[0]), "{pair:?}");
    }
    let last = curve.last().unwrap();
    assert_eq!(last["link_bytes_per_token"].as_f64(), Some(0.0), "{last}");
    assert_eq!(last["hit_rate"].as_f64(), Some(1.0), "{last}");
    let (plans, baselines) = (&found["plans"], found["baselines"].as_array().unwrap());
    let names: Vec<&str> = baselines.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["LRU", "static", "whole layers"]);
    // The search begins with LRU, so that it knows nothing worse on what it sees.
    let train = |row: &Value| row["tokens_per_second"]["train"].as_f64().unwrap();
    let best = plans.as_array().unwrap().iter().map(train).fold(0.0, f64::max);
    assert!(best >= train(&baselines[0]), "{found}");
    assert!(plans[0]["expert_bytes_max"].as_u64() <= plans[0]["capacity_bytes"].as_u64());
    // The plan knows what its exporters need: the GPU, and whom to keep without a cache.
    let engines = "csv,ktransformers,llama.cpp,moe-infinity,vllm";
    scratch.ok(&format!("memory export plan/memory.json --engine {engines} --out out"));
    let table = String::from_utf8(scratch.read("out/experts.csv")).unwrap();
    let kept = table.lines().filter(|line| line.ends_with(",1")).count() as u64;
    let (budget, expert) = (plans[0]["capacity_bytes"].as_u64().unwrap(), 12_582_912);
    assert!((budget / expert - 16..=budget / expert).contains(&kept), "{kept} of {budget} bytes");
    assert!(!scratch.path("out/bits.csv").exists(), "experts stay as stored");
    let figure = String::from_utf8(scratch.read("plan/memory.svg")).unwrap();
    assert!(figure.contains("8.00 GiB") && figure.contains("whole layers"), "{figure}");
    assert!(scratch.read("plan/memory.png").len() > 1000);
}

/// Fewer bits are copied faster and more of them fit: no fewer tokens a second for a memory, and no
/// more memory for a speed.
#[test]
fn fewer_bits_are_no_slower_and_need_no_more_memory() {
    let scratch = Scratch::new();
    let line = format!("{SHORT} --top 1");
    let with = |bits: &str| if bits.is_empty() { String::new() } else { format!("--bits {bits}") };
    let mut before = (0.0, u64::MAX);
    for bits in ["", "8", "4", "2"].map(with) {
        let found = scratch.json(&format!("{line} --memory 5GiB {bits}"));
        let now = rate(&found["plans"][0]);
        let found = scratch.json(&format!("{line} --tokens-per-second 60 {bits}"));
        let needed = found["answer"]["memory_bytes"].as_u64().unwrap();
        assert!(now >= 0.97 * before.0, "{bits}: {now} after {}", before.0);
        assert!(needed as f64 <= 1.03 * before.1 as f64, "{bits}: {needed} after {}", before.1);
        before = (now, needed);
    }
}

#[test]
fn a_plan_carries_its_bits_to_quantisers() {
    let scratch = Scratch::new();
    let line = format!("{SHORT} --top 1 --memory 4GiB --out plan");
    let stored = scratch.json(&line)["all_expert_bytes"].as_u64().unwrap();
    for (rule, bits) in [("budget", 3), ("edgemoe", 4), ("pmq", 2), ("uniform", 4)] {
        let found = scratch.json(&format!("{line} --bits {bits} --bits-rule {rule}"));
        let precision = &found["precision"];
        let mean = precision["mean_bits"].as_f64().unwrap();
        assert!(mean <= f64::from(bits) && mean > f64::from(bits) - 0.5, "{precision}");
        let best = &found["plans"][0];
        assert!(best["expert_bytes_max"].as_u64() <= best["capacity_bytes"].as_u64(), "{best}");
        let whole = found["all_expert_bytes"].as_u64().unwrap() as f64;
        // Both parts of the recording, each with bits of its own, fit what is said.
        assert!((whole / (stored as f64 * mean / 16.0) - 1.0).abs() < 0.01, "{whole}");
        let plan: Value = serde_json::from_slice(&scratch.read("plan/memory.json")).unwrap();
        assert_eq!((&plan["bits"], &plan["stored_bits"]), (&precision["bits"], &16.into()));
        assert!(plan["provenance"]["precision"].as_str().unwrap().starts_with(rule), "{plan}");
        let found = scratch.json("memory export plan/memory.json --engine csv,llama.cpp --out out");
        let remarks = found["remarks"]["llama.cpp"].to_string();
        assert!(remarks.contains("bits of the checkpoint"), "{remarks}");
        let table = String::from_utf8(scratch.read("out/bits.csv")).unwrap();
        assert_eq!(table.lines().count(), 1 + 16 * 64);
        let first = format!("layer,expert,bits\n0,0,{}\n", precision["bits"][0][0]);
        assert!(table.starts_with(&first), "{table}");
    }
}

#[test]
fn what_memory_a_speed_needs() {
    let scratch = Scratch::new();
    let found = scratch.json(&format!("{SMALL} --tokens-per-second 60"));
    assert_eq!(found["answer"]["reached"], true);
    let memory = found["answer"]["memory_bytes"].as_u64().unwrap();
    let at = |row: &&Value| row["memory_bytes"].as_u64() == Some(memory);
    let curve = found["curve"].as_array().unwrap();
    assert!(rate(curve.iter().find(at).unwrap()) >= 60.0, "simulated, not interpolated");
    let mut smaller = curve.iter().filter(|row| row["memory_bytes"].as_u64() < Some(memory));
    assert!(smaller.next_back().is_none_or(|row| rate(row) < 60.0), "{found}");
    let found = scratch.json(&format!("{SMALL} --tokens-per-second 1000000"));
    assert_eq!(found["answer"]["reached"], false);
    assert!(found["answer"]["memory_bytes"].is_null());
    assert!(found["answer"]["ceiling_tokens_per_second"].as_f64().unwrap() > 60.0);
}

/// An engine without a cache gets a plan that it can do: all slots are pinned, whole layers.
#[test]
fn a_plan_for_llama_cpp_loses_nothing_on_export() {
    let scratch = Scratch::new();
    scratch.ok(&format!(
        "{SMALL} --memory 8GiB --engine llama.cpp --cpu-bandwidth 60GB/s --cpu-flops 1TFLOP/s \
         --out plan"
    ));
    let found = scratch.json("memory export plan/memory.json --engine llama.cpp --out out");
    assert_eq!(found["remarks"]["llama.cpp"].as_array().unwrap().len(), 0, "{found}");
}

#[test]
fn a_file_is_planned_for_and_what_is_wrong_is_named() {
    let scratch = Scratch::new();
    scratch.write("box.toml", FILE);
    let found = scratch.json("memory plan box.toml --memory 4GiB,6GiB --simulations 8");
    assert_eq!(found["curve"].as_array().unwrap().len(), 2);
    let small = "--requests 4 --prompt 4 --generated 4";
    let model = format!("memory plan --model olmoe-1b-7b --gpu rtx-4090 {small}");
    for (line, expected) in [
        ("memory plan".to_owned(), "expected --model and --gpu, or a file"),
        ("memory plan --model olmoe-1b-7b".to_owned(), "--gpu"),
        ("memory plan box.toml --model olmoe-1b-7b".to_owned(), "cannot be used with"),
        ("memory plan --model olmoe --gpu rtx-4090".to_owned(), "olmoe-1b-7b"),
        ("memory plan --model olmoe-1b-7b --gpu rtx4090".to_owned(), "did you mean `rtx-4090`?"),
        (
            format!("{model} --memory 1GiB"),
            "--memory: 1.00 GiB on each of 1 GPU(s); expected 2.39 GiB",
        ),
        (format!("{model} --memory -1GiB"), "'-1GiB'"),
        (format!("{model} --batch 0"), "--batch"),
        (format!("{model} --memory 24"), "--memory"),
        (format!("{model} --memory 4GiB,8GiB --out x"), "--out: 2 sizes"),
        (format!("{model} --tokens-per-second 0"), "expected more than 0"),
        (format!("{model} --tokens-per-second -5"), "--tokens-per-second: -5"),
        (format!("{model} --heldout 1"), "--heldout: 1"),
        (format!("{model} --expert-type int5"), "int4"),
        (format!("{model} --engine llama.cpp"), "--cpu-bandwidth"),
        (format!("{model} --simulations 3"), "--simulations"),
        (format!("{model} --trace none.safetensors"), "none.safetensors"),
        (format!("{model} --bits 0"), "--bits: 0; expected above 0, at most 16"),
        (format!("{model} --bits -4"), "--bits: -4"),
        (format!("{model} --expert-type int4 --bits 5"), "at most 4, which experts are stored in"),
        (format!("{model} --bits 4 --bits-rule pmk"), "did you mean `pmq`?"),
        (format!("{model} --bits 1 --bits-rule pmq"), "at least 67 bits"),
        (format!("{model} --bits 2 --errors none.csv"), "none.csv"),
        (format!("{model} --bits-rule uniform"), "--bits"),
    ] {
        let answer = scratch.run(&line);
        assert_eq!(answer.code, 1, "{line}: {}", answer.stdout);
        assert_eq!(answer.stderr.lines().count(), 1, "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains(expected), "{line}: {}", answer.stderr);
    }
    assert!(!scratch.path("x").exists());
}

//! `moecast rebalance`: policies side by side, and answers that agree with each other.

use std::path::Path;

use serde_json::Value;

use crate::bad_input::check;
use crate::commands::imported;
use crate::support::Scratch;

/// The shipped recording of 512 steps on eight GPUs.
fn sample(more: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).display().to_string();
    format!(
        "rebalance --trace {root}/traces/sample/sample.safetensors \
         --model {root}/traces/sample/moecast-sample-8x32.json --cluster h200-sxm:1x8 \
         --redundant 8 {more}"
    )
}

fn float(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no {key} in {row}"))
}

#[test]
fn policies_are_held_against_never() {
    let scratch = Scratch::new();
    let line = sample(
        "--how blocking,layer-by-layer,every-step --window 64 --interval 64,512 \
         --algorithm-time 1ms --out out",
    );
    let answer = scratch.json(&line);
    let rows = answer["rows"].as_array().unwrap();
    let named = |policy: &str, interval: Option<u64>| {
        let same = |row: &&Value| row["policy"] == policy && row["interval"].as_u64() == interval;
        rows.iter().find(same).unwrap_or_else(|| panic!("no {policy} {interval:?}"))
    };
    let never = named("never", None);
    // The recording ends before 512 steps have gone by: that is never, at the same time.
    for policy in ["blocking", "layer-by-layer"] {
        assert_eq!(named(policy, Some(512))["time_ms"], never["time_ms"]);
        assert_eq!(named(policy, Some(512))["considered"], 0);
    }
    let blocking = named("blocking", Some(64));
    assert_eq!(blocking["considered"], 7);
    let events = blocking["rebalancings"].as_array().unwrap();
    assert_eq!(blocking["calls"], events.len() as u64);
    let stalls: f64 = events.iter().map(|event| float(event, "stall_ms")).sum();
    assert!((stalls - float(blocking, "stall_ms")).abs() < 1e-6 && stalls >= 7.0);
    // Three matrices of 512 x 64 of a byte or two: every slot that moves is one expert.
    let moved = &blocking["bytes_moved"];
    let bytes = float(moved, "local") + float(moved, "domain") + float(moved, "network");
    let slots = float(blocking, "slots_moved");
    assert!(slots > 0.0 && bytes > 0.0 && (bytes / slots).fract() == 0.0, "{bytes} / {slots}");
    // Placements follow the load: they are more even, and those of the future most of all.
    let imbalance = |row: &Value| float(row, "imbalance");
    assert!(imbalance(blocking) < imbalance(never));
    assert!(imbalance(named("clairvoyant", Some(64))) < imbalance(blocking));
    assert!(imbalance(named("every-step", None)) < imbalance(never));
    assert_eq!(float(named("clairvoyant", Some(64)), "stall_ms"), 0.0);
    for row in rows {
        let gain = 1.0 - float(row, "time_ms") / float(never, "time_ms");
        assert!((gain - float(row, "gain")).abs() < 1e-12);
    }
    let csv = String::from_utf8(scratch.read("out/rebalance.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 512 * rows.len());
    assert_eq!(
        scratch.json(&format!("{line} --threads 1"))["rows"],
        answer["rows"],
        "one thread and many"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let scratch = imported();
    let line = "rebalance --trace trace.safetensors --model config.json --cluster h200-sxm:1x4";
    for (more, parts) in [
        ("--window 0", &["window: 0; expected at least 1 step"][..]),
        ("--window 8 --interval 0", &["interval: 0; expected at least 1"]),
        ("--threshold 0.5", &["threshold: 0.5; expected an imbalance, 1 or more"]),
        ("--how layer-by-layer --layers-per-step 0", &["layers per step: 0"]),
        ("--algorithm eplp", &["algorithm `eplp`: did you mean `eplb`?"]),
        ("--slots 9", &["9 slots on 4 ranks"]),
        ("--slots 4", &["4 slots for 8 experts"]),
        ("--expert-type fp9", &["--expert-type: `fp9`; expected bf16, fp8, mxfp4 or int4"]),
        ("--engine vlm", &["did you mean `vllm`?"]),
        ("--algorithm-time soon", &["algorithm-time", "soon"]),
    ] {
        check(&scratch, &format!("{line} {more} --out out"), parts);
    }
}

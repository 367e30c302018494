//! What holds for the whole of the statistics, and what real recordings give. Those are
//! third-party data and not part of the repository: where the folder is absent, the tests say
//! that they are skipped.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{trace, traces};
use super::*;
use crate::import::{Input, read};
use crate::{Header, TraceBuilder};

/// The recording called `name`, or `None` in a plain clone.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn recording(name: &str) -> Option<RoutingTrace> {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces")).join(name);
    if !path.exists() {
        eprintln!("skipped: {name} is not here");
        return None;
    }
    let input = Input { paths: &[path], model: None, progress: &|_| {}, spill: None };
    Some(read("auto", input).unwrap())
}

fn near(found: Option<f64>, expected: f64, tolerance: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() <= tolerance, "{found} against {expected}");
}

#[test]
fn olmoe_is_as_consistent_as_published() {
    let Some(trace) = recording("olmoe-1b-7b.jsonl") else { return };
    let stats = stats(&trace);
    let locality = &stats.locality;
    for (segment, expected) in [(4, 0.645), (16, 0.494), (64, 0.426)] {
        near(locality.srp[&segment], expected, 0.001);
    }
    near(locality.srp_cache_ratio[&16], 1.4895, 0.0001);
    // Published for OLMoE-1B-7B-0125, mean over eleven sources of text: .612, .591, .785.
    near(locality.chr.lru[&2], 0.612, 0.01);
    near(locality.chr.lfu[&2], 0.591, 0.05);
    near(locality.chr.belady[&2], 0.785, 0.015);
    // What an independent replay of the definition gives for this file.
    near(locality.chr.lru[&1], 0.4371, 0.0001);
    near(locality.chr.lfu[&2], 0.5450, 0.0001);
    near(locality.chr.belady[&3], 0.8670, 0.0001);
    near(locality.sch[&1][&4], 0.5946, 0.0001);
    near(locality.sch[&2][&16], 0.7201, 0.0001);
    near(locality.sch[&3][&256], 0.7356, 0.0001);
    let loads = load::per_layer(&trace);
    for (layer, load) in stats.per_layer.iter().zip(loads) {
        assert_eq!((layer.cv, layer.entropy), (load.cv, load.entropy));
        let null = layer.null.unwrap();
        assert!(layer.max_over_mean > null.max_over_mean && layer.gini > null.gini);
        assert!(layer.entropy < null.entropy && layer.busiest_half > null.busiest_half);
    }
    for transition in stats.transitions.unwrap() {
        assert!(transition.bits > transition.null_bits, "{transition:?}");
    }
}

#[test]
fn qwen_has_no_window_of_256_tokens() {
    let Some(trace) = recording("qwen3-30b-a3b.route.csv") else { return };
    let stats = stats(&trace);
    assert_eq!(stats.tokens, 156);
    assert!(stats.locality.srp[&64].is_some());
    assert_eq!(stats.locality.srp[&256], None);
    assert_eq!(stats.locality.sch[&1][&256], None);
    let active = stats.active_experts.unwrap();
    assert!(active.iter().all(|active| active.random <= 1.01 * active.null));
}

/// Keys that others read.
#[test]
fn keys_are_stable() {
    let stats = stats(&trace(4, &[0; 8], &[[0, 1, 2, 3]; 8]));
    let value = serde_json::to_value(&stats).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&value).join(" "),
        "active_experts cache_tokens chr domains drift experts layers max_over_mean per_layer \
         requests reuse sch srp srp_cache_ratio srp_null steps tokens top_k transitions"
    );
    assert_eq!(
        keys(&value["per_layer"][0]).join(" "),
        "busiest_half chr coactivation cv entropy gini layer max_over_mean null ordinal pairs \
         reuse sch srp srp_cache_ratio"
    );
    assert_eq!(value["srp"], json!({"4": 1.0, "16": null, "64": null, "256": null}));
    assert_eq!(value["chr"]["lru"], json!({"1": 1.0, "2": 1.0, "3": 1.0}));
    assert_eq!(value["sch"]["1"], json!({"4": 1.0, "16": null, "64": null, "256": null}));
    assert_eq!(value["per_layer"][1]["max_over_mean"], json!(2.0));
    let null = &value["per_layer"][1]["null"];
    assert_eq!(keys(null).join(" "), "busiest_half cv entropy gini max_over_mean");
}

/// What was written is read again, and a key that is not known is refused at every depth.
#[test]
fn json_is_read_back() {
    let stats = stats(&trace(4, &[0; 8], &[[0, 1, 2, 3]; 8]));
    let text = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<TraceStats>(&text).unwrap(), stats);
    let value = serde_json::to_value(&stats).unwrap();
    for place in ["", "/per_layer/0", "/per_layer/0/null", "/drift", "/chr", "/reuse"] {
        let mut wrong = value.clone();
        wrong.pointer_mut(place).unwrap()["unheard"] = json!(1);
        let error = serde_json::from_value::<TraceStats>(wrong).unwrap_err().to_string();
        assert!(error.contains("unknown field `unheard`"), "{place}: {error}");
    }
    let mut wrong = value;
    wrong["sch"]["1"]["many"] = json!(1.0);
    let error = serde_json::from_value::<TraceStats>(wrong).unwrap_err().to_string();
    assert!(error.contains("key `many`; expected a whole number"), "{error}");
}

#[test]
fn counts_have_loads_their_null_and_drift() {
    let mut builder = TraceBuilder::new(Header::new("test", "", 3, 1, vec![2, 5]));
    builder.push_counts(&[4, 0, 2, 0, 0, 0]);
    builder.push_counts(&[2, 2, 2, 0, 0, 0]);
    let stats = stats(&builder.finish("test").unwrap());
    assert_eq!(stats.per_layer[0].max_over_mean, 1.5);
    assert!(stats.per_layer[0].null.is_some());
    assert_eq!(stats.per_layer[1].null, None);
    assert_eq!(stats.locality, CacheStats::default());
    assert_eq!((stats.reuse, stats.transitions, stats.active_experts), (None, None, None));
    assert_eq!(stats.drift.parts.len(), 2);
    let value = serde_json::to_value(&stats.locality).unwrap();
    assert_eq!(value["srp"], json!({"4": null, "16": null, "64": null, "256": null}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn nothing_depends_on_the_number_of_threads(trace in traces()) {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| stats(&trace))
        };
        prop_assert_eq!(with(1), with(3));
    }
}

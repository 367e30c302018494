//! `moecast offload`: a phone that was measured, machines that ship, and bad questions.

use crate::bad_input::check;
use crate::support::{Scratch, recording};

const PHONE: &str = include_str!("../examples/offload/phone.toml");

/// The shipped phone with the routing that a real one recorded: its hits exactly, its speed within
/// 10%.
#[test]
fn a_phone_generates_as_fast_as_it_was_measured() {
    let Some(path) = recording("qwen3-30b-a3b.route.csv") else { return };
    let scratch = Scratch::new();
    let recorded = format!("trace = {{ path = {path:?}, heldout = 0.0 }}");
    let synthetic = "trace = { requests = 4, prompt = 28, generated = 128 }";
    scratch.write("phone.toml", PHONE.replace(synthetic, &recorded));
    let answer = scratch.json("offload phone.toml --variant LRU");
    let own = &answer["variants"][0];
    let of = |key: &str| own[key].as_f64().unwrap();
    assert_eq!(format!("{:.4}", of("hit_rate")), "0.7488");
    assert_eq!(format!("{:.4}", of("decode_hit_rate")), "0.8029");
    let measured = 5.657;
    let speed = of("decode_tokens_per_second");
    assert!((speed / measured - 1.0).abs() <= 0.10, "{speed} tokens/s");
}

/// The oracle misses least, and who misses less copies less.
#[test]
fn variants_are_comparable_and_bytes_are_those_of_misses() {
    let scratch = Scratch::new();
    scratch.write("phone.toml", PHONE);
    let answer = scratch.json("offload phone.toml");
    let variants = answer["variants"].as_array().unwrap();
    let of = |name: &str, key: &str| {
        let own = variants.iter().find(|own| own["variant"] == name).unwrap();
        own[key].as_f64().unwrap()
    };
    for name in ["LRU", "LRU in every layer", "LFU in every layer"] {
        assert!(of("oracle", "hit_rate") > of(name, "hit_rate"), "{name}");
        assert!(of("oracle", "bytes_per_token") < of(name, "bytes_per_token"), "{name}");
        assert!(of(name, "link_utilisation") <= 1.0 && of(name, "gpu_utilisation") <= 1.0);
    }
    assert!(of("LRU", "expert_bytes_max") <= 4000.0 * 1_048_576.0);
}

/// What is given comes out, what follows from the recording is measured, and both are told apart.
#[test]
fn accuracies_of_prefetchers_are_measured() {
    let scratch = Scratch::new();
    let with = |name: &str, accuracy: &str| {
        let prefetch = format!("[base]\nprefetch = {{ name = {name:?}{accuracy}, depth = 2 }}\n");
        scratch.write("phone.toml", PHONE.replacen("[base]\n", &prefetch, 1));
        scratch.json("offload phone.toml --variant LRU")["variants"][0].clone()
    };
    let own = with("gate-ahead", ", accuracy = 0.8");
    let right = own["prefetch_precision"][0].as_f64().unwrap();
    assert!((right - 0.8).abs() < 0.02, "{right}");
    assert_eq!(own["prefetch_accuracy"], "given");
    let own = with("affinity", "");
    assert_eq!(own["prefetch_accuracy"], "measured");
    assert_eq!(own["prefetch_precision"].as_array().unwrap().len(), 2);
    let own = with("oracle", "");
    assert_eq!(own["prefetch_precision"], serde_json::json!([1.0, 1.0]));
    let text = scratch.ok("offload phone.toml --variant LRU");
    assert!(text.contains("100.0% 100.0%"), "{text}");
}

#[test]
fn wrong_machines_are_answered_in_a_line() {
    let scratch = Scratch::new();
    for (from, to, parts) in [
        ("admission =", "admision =", &["admision", "admission"][..]),
        ("cache.policy = \"belady\"", "cache.policy = \"belody\"", &["belody", "did you mean"]),
        ("capacity = \"4000 MiB\"", "capacity = \"4000\"", &["4000", "no unit"]),
        ("capacity = \"4000 MiB\", ", "", &["capacity and share"]),
        ("name = \"LRU\"", "compute = 3\nname = \"LRU\"", &["compute"]),
        ("requests = 4", "like = \"nobody\"", &["nobody", "valid names are"]),
        (
            "bandwidth = \"2.40234375 GiB/s\"",
            "bandwidth = \"0 B/s\"",
            &["bandwidth", "more than 0"],
        ),
        (
            "[base]\n",
            "[base]\nprefetch = { name = \"affinity\", accuracy = 0.9 }\n",
            &["prefetch.accuracy: 0.9", "`affinity` follows from the recording"],
        ),
        ("prompt = 28", "path = \"none.csv\"", &["none.csv"]),
    ] {
        assert!(PHONE.contains(from), "{from}");
        scratch.write("wrong.toml", PHONE.replacen(from, to, 1));
        check(&scratch, "offload wrong.toml", parts);
    }
    scratch.write("phone.toml", PHONE);
    check(&scratch, "offload phone.toml --variant LFU", &["--variant LFU", "expected one of"]);
}

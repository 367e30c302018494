//! `moecast trace cache` against recorded devices and other simulators, and bad questions.

use serde_json::{Value, json};

use crate::bad_input::check;
use crate::support::{Scratch, recording, tiny_recording};

fn percent(rate: &Value) -> String {
    format!("{:.2}", 100.0 * rate.as_f64().unwrap())
}

/// A phone counted its hits and its reads. A read is the expert's bytes and 12,288 around them:
/// pages at both ends. In one of 128 steps the device read 512 bytes less than that.
#[test]
fn a_phones_cache_hits_what_the_phone_says() {
    let Some(path) = recording("qwen3-30b-a3b.route.csv") else { return };
    let Some(metrics) = recording("qwen3-30b-a3b.metrics.csv") else { return };
    let scratch = Scratch::new();
    scratch.ok(&format!("trace import {} -o t.safetensors", path.display()));
    let answer = scratch.json(
        "trace cache t.safetensors --bytes 4000MiB --policy lru --granularity layer --pool global \
         --windows 1000",
    );
    let found = &answer["results"][0];
    assert_eq!(percent(&found["hit_rate"]), "74.88");
    assert_eq!(percent(&found["decode_hit_rate"]), "80.29");
    let text = std::fs::read_to_string(metrics).unwrap();
    let rows = text.lines().skip(1).filter(|line| !line.starts_with('#'));
    let recorded: Vec<u64> =
        rows.map(|line| line.split(',').nth(5).unwrap().parse().unwrap()).collect();
    // The first window is the prompt.
    let steps = &found["over_time"].as_array().unwrap()[1..];
    assert_eq!((steps.len(), recorded.len()), (128, 128));
    let mut other = Vec::new();
    for (step, recorded) in steps.iter().zip(recorded) {
        let of = |key: &str| step[key].as_u64().unwrap();
        let misses = of("lookups") - of("hits");
        if of("bytes_moved") + 12_288 * misses != recorded {
            other.push((of("first_step"), of("bytes_moved") + 12_288 * misses - recorded));
        }
    }
    assert_eq!(other, [(12, 512)]);
}

/// What libCacheSim 0.3.5 says of the same stream of picks.
#[test]
fn single_look_ups_hit_what_libcachesim_says() {
    let Some(path) = recording("olmoe-1b-7b.jsonl") else { return };
    let scratch = Scratch::new();
    scratch.ok(&format!("trace import {} -o t.safetensors --model olmoe-1b-7b", path.display()));
    let answer = scratch.json(
        "trace cache t.safetensors --granularity access --slots 128,256,512 \
         --policy lru,lfu,s3-fifo,arc,sieve,belady,fifo,clock,slru",
    );
    let expected = [
        ("lru", [0.319_293, 0.564_956, 0.784_150]),
        ("lfu", [0.165_500, 0.431_334, 0.713_420]),
        ("s3-fifo", [0.356_475, 0.547_920, 0.812_265]),
        ("arc", [0.318_222, 0.563_754, 0.787_652]),
        // On this recording, whose picks are sorted, SIEVE and LFU hit the same.
        ("sieve", [0.165_500, 0.431_334, 0.713_420]),
        ("belady", [0.602_007, 0.766_383, 0.913_096]),
        ("fifo", [0.284_960, 0.509_798, 0.749_373]),
        ("clock", [0.352_660, 0.563_415, 0.793_687]),
        ("slru", [0.178_851, 0.434_129, 0.812_970]),
    ];
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 27);
    for (found, (policy, rate)) in results.chunks(3).zip(expected) {
        for (found, rate) in found.iter().zip(rate) {
            assert_eq!(found["policy"], json!(policy));
            let hit_rate = found["hit_rate"].as_f64().unwrap();
            assert!((hit_rate - rate).abs() < 1e-6, "{policy}: {hit_rate} {rate}");
        }
    }
}

fn tiny() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("t.jsonl", tiny_recording(40, 3, 8));
    scratch.ok("trace import t.jsonl -o t.safetensors");
    scratch
}

#[test]
fn answers_do_not_depend_on_threads_and_name_what_they_are() {
    let scratch = tiny();
    let line = "trace cache t.safetensors --policy belady,lru,random,static --slots 6,12 --curve \
                --heldout 0.3 --out cache";
    let stripped = |threads: &str| {
        let mut answer = scratch.json(&format!("{line} --threads {threads}"));
        for result in answer["results"].as_array_mut().unwrap() {
            assert!(result["lookups_per_second"].as_f64().unwrap() > 0.0);
            result["lookups_per_second"] = json!(0);
            assert_eq!(result["bytes_moved"], Value::Null);
        }
        answer["timed_at_once"] = json!(0);
        answer
    };
    let answer = stripped("1");
    assert_eq!(answer, stripped("2"));
    let curve = &answer["curve"];
    let at = curve["slots"].as_array().unwrap().iter().position(|slots| *slots == json!(12));
    let lru = &answer["results"][3];
    assert_eq!((&lru["policy"], &lru["slots"]), (&json!("lru"), &json!(12)));
    assert_eq!(curve["hit_rate"][at.unwrap()], lru["hit_rate"]);
    for name in ["cache/cache.json", "cache/cache.svg", "cache/cache.png"] {
        assert!(scratch.read(name).len() > 100, "{name}");
    }
    let text = scratch.ok("trace cache t.safetensors --policy belady,static --slots 12");
    assert!(text.contains("granularity layer, pool global"), "{text}");
    assert!(text.contains("static was fitted to what it is judged on"), "{text}");
    assert!(text.contains("belady (bound)"), "{text}");
}

#[test]
fn pools_of_layers_and_planned_ones() {
    let scratch = tiny();
    let rate = |options: &str| {
        let line = format!("trace cache t.safetensors --policy lru {options}");
        scratch.json(&line)["results"][0]["hits"].clone()
    };
    let equal = rate("--pool per-layer --slots 12");
    assert_eq!(equal, rate("--pool planned --layer-slots 4,4,4"));
    assert_ne!(equal, rate("--pool planned --layer-slots 2,2,8"));
}

#[test]
fn wrong_questions_are_answered_with_one_line() {
    let scratch = tiny();
    let ask = |options: &str, parts: &[&str]| {
        check(&scratch, &format!("trace cache t.safetensors {options}"), parts);
    };
    ask("--policy lrv", &["cache policy `lrv`", "lru"]);
    ask("--slots 0", &["0 slots", "one expert"]);
    ask("--slots 2 --pool per-layer", &["0 slots in a pool"]);
    ask("--slots x", &["x"]);
    ask("--bytes 4GiB", &["--bytes", "--model"]);
    ask("--bytes 4GiB --slots 4", &["--slots"]);
    ask("--bytes 1KiB --model mixtral-8x7b", &["room for one expert"]);
    ask("--model olmoe-1b-7b", &["64 experts", "8"]);
    ask("--pool planned", &["--layer-slots"]);
    ask("--layer-slots 3,3,3", &["--pool planned"]);
    ask("--pool planned --layer-slots 3,3", &["2 layers", "3, one a layer"]);
    ask("--pool planned --layer-slots 3,3,3 --curve", &["--curve"]);
    ask("--heldout 2", &["held-out share"]);
    ask("--granularity step", &["step"]);
    check(&scratch, "trace cache absent.safetensors", &["absent.safetensors"]);
}

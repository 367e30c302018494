//! What `moecast trace` does with routing data alone: split, concat, slice, export, show, requests.

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::imported;
use crate::support::Scratch;

/// A scratch folder with the sample: 256 requests of four domains, layers 0 to 7.
fn sample() -> Scratch {
    let scratch = Scratch::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/sample/sample.safetensors");
    scratch.write("trace.safetensors", std::fs::read(path).unwrap());
    scratch
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn both_parts_of_a_split_are_the_whole() {
    let scratch = sample();
    let domains = |parts: &Value, part: &str| {
        let path = parts[part]["output"].as_str().unwrap().to_owned();
        let shown = scratch.json(&format!("trace show {path} --by domain --layer 0"));
        let rows = shown["rows"].as_array().unwrap().clone();
        let has = |row: &Value| row["max_over_mean"].as_f64().unwrap() > 0.0;
        rows.iter().filter(|row| has(row)).map(|row| row["part"].clone()).collect::<Vec<_>>()
    };
    for by in ["", "--by request", "--by time", "--by domain", "--domain python,changelogs"] {
        let parts = scratch.json(&format!("trace split trace.safetensors {by} --out parts"));
        let (train, heldout) = (&parts["train"], &parts["heldout"]);
        assert_eq!(count(train, "requests") + count(heldout, "requests"), 256, "{by}");
        assert_eq!(count(train, "tokens") + count(heldout, "tokens"), 20_049, "{by}");
        let how = parts["split"].as_str().unwrap();
        for part in [train, heldout] {
            assert!(part["remarks"].to_string().contains(how), "{by}: {part}");
        }
        if by.contains("domain") {
            let (train, heldout) = (domains(&parts, "train"), domains(&parts, "heldout"));
            assert!(heldout.iter().all(|domain| !train.contains(domain)), "{by}");
            assert_eq!(train.len() + heldout.len(), 4, "{by}");
        }
    }
    // Names hold, whatever the share.
    let parts = scratch.json("trace split trace.safetensors --domain python --out parts");
    assert_eq!(domains(&parts, "heldout"), [json!("python")]);
}

#[test]
fn concat_and_slice_undo_each_other() {
    let scratch = sample();
    scratch.ok("trace split trace.safetensors --by time --out parts");
    let heldout =
        scratch.json("trace slice parts/heldout.safetensors -o h.safetensors --tokens 99");
    assert_eq!(count(&heldout, "tokens"), 99);
    let joined = scratch
        .json("trace concat parts/train.safetensors parts/heldout.safetensors -o both.safetensors");
    assert_eq!((count(&joined, "tokens"), count(&joined, "requests")), (20_049, 256));
    assert_eq!(joined["domains"].as_array().unwrap().len(), 4);
    let labelled = scratch.json(
        "trace concat parts/train.safetensors parts/heldout.safetensors -o l.safetensors \
         --domains seen,unseen",
    );
    assert_eq!(labelled["domains"], json!(["seen", "unseen"]));
    scratch.ok("trace slice l.safetensors -o u.safetensors --domain unseen");
    let loads = |path: &str| scratch.json(&format!("trace show {path}"))["rows"].clone();
    assert_eq!(loads("u.safetensors"), loads("parts/heldout.safetensors"));
    assert_eq!(loads("both.safetensors"), loads("trace.safetensors"));
}

#[test]
fn slices_say_what_they_are() {
    let scratch = sample();
    let part = scratch.json(
        "trace slice trace.safetensors -o part.safetensors --requests 0..10 --layers 2..5 \
         --phase decode",
    );
    assert_eq!((count(&part, "requests"), count(&part, "layers")), (10, 3));
    assert_eq!(count(&part, "tokens"), 310);
    assert!(part["remarks"].to_string().contains("requests 0..10, layers 2..5, phase decode"));
    // Everything is the file itself.
    scratch.ok("trace slice part.safetensors -o same.safetensors --steps 0..");
    assert!(scratch.read("same.safetensors") == scratch.read("part.safetensors"));
}

#[test]
fn exports_are_read_back() {
    let scratch = imported();
    let lost = scratch.json("trace export jsonl trace.safetensors -o t.jsonl");
    assert_eq!(lost["remarks"], json!([]));
    scratch.ok("trace import t.jsonl -o back.safetensors --model config.json");
    let show = |path: &str| scratch.json(&format!("trace show {path} --by time"));
    assert_eq!(show("back.safetensors")["rows"], show("trace.safetensors")["rows"]);
    scratch.ok("trace export csv trace.safetensors -o t.csv");
    let text = String::from_utf8(scratch.read("t.csv")).unwrap();
    assert!(text.starts_with("step,request,position,phase,domain,layer,expert_0,expert_1\n"));
    assert_eq!(text.lines().count(), 1 + 120 * 2);
    scratch.ok("trace export npz trace.safetensors -o t.npz");
    assert!(scratch.read("t.npz").starts_with(b"PK"));
}

#[test]
fn heat_maps_are_narrow_and_plain_where_nobody_looks() {
    let scratch = sample();
    for by in ["layer", "domain --layer 3", "time --sort", "phase"] {
        let map = scratch.ok(&format!("trace show trace.safetensors --by {by} -q"));
        assert!(map.lines().all(|line| line.chars().count() <= 80), "{by}: {map}");
        assert!(map.contains("max/mean") && map.contains("load over mean"), "{by}: {map}");
        assert!(!map.contains('\u{1b}'), "{by}");
    }
    let rows = scratch.json("trace show trace.safetensors --by phase --layer 2")["rows"].clone();
    let loads = |row: usize| {
        let loads = rows[row]["loads"].as_array().unwrap();
        loads.iter().map(|load| load.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((loads(0), loads(1)), (12_113 * 4, 7_936 * 4));
}

#[test]
fn requests_are_generated_and_measured() {
    let scratch = Scratch::new();
    let generate = "trace requests generate gamma --set rate=4 --set requests=2000 \
                    --set burstiness=2 --input-tokens lognormal:800,1 --output-tokens 100";
    scratch.ok(&format!("{generate} -o a.jsonl"));
    scratch.ok(&format!("{generate} -o b.jsonl --threads 1"));
    assert!(scratch.read("a.jsonl") == scratch.read("b.jsonl"));
    scratch.ok(&format!("{generate} -o b.jsonl --seed 1"));
    assert!(scratch.read("a.jsonl") != scratch.read("b.jsonl"));
    let stats = scratch.json("trace requests stats a.jsonl");
    let number = |key: &str| stats.pointer(key).and_then(Value::as_f64).unwrap();
    assert_eq!(stats["count"], json!(2000));
    assert!((number("/rate") - 4.0).abs() < 1.0, "{stats}");
    assert!((number("/burstiness") - 2.0).abs() < 0.5, "{stats}");
    assert!((number("/input_tokens/mean") - 800.0).abs() < 100.0, "{stats}");
    assert_eq!(stats["output_tokens"]["p50"], json!(100));
    assert_eq!(stats["source"], json!("lengths-jsonl"));
    scratch.ok("trace requests generate poisson --set rate=1 --set requests=9 \
                --lengths-from a.jsonl -o c.jsonl");
    assert!(scratch.ok("trace requests stats c.jsonl").contains("requests/s"));
    let closed = "trace requests generate closed-loop --set clients=3 -o d.jsonl";
    assert_eq!(scratch.json(closed)["requests"], json!(30));
    let listed = scratch.json("list request-generators");
    assert_eq!(listed["request-generators"][0]["settings"][1]["default"], json!(10.0));
}

#[test]
fn stats_say_what_stays_on_a_rank_under_a_plan() {
    let scratch = imported();
    scratch.ok("plan --trace trace.safetensors --gpus 4 --slots 8 --out plan");
    let stats = scratch.json("trace stats trace.safetensors --plan plan/plan.json");
    let hops = &stats["hops_on_rank"];
    assert_eq!((hops["ranks"].clone(), hops["slots"].clone()), (json!(4), json!(8)));
    let (share, chance) = (hops["share"].as_f64().unwrap(), hops["chance"].as_f64().unwrap());
    assert!((0.0..=1.0).contains(&share) && (0.15..0.35).contains(&chance), "{hops}");
    assert_eq!(hops["layers"][0]["hops"], json!(120 * 4));
    assert!(scratch.json("trace stats trace.safetensors").get("hops_on_rank").is_none());
    let text = scratch.ok("trace stats trace.safetensors --plan plan/plan.json");
    for word in ["SRP", "Belady", "8 windows of time", "stay on a rank", "by chance"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
}

/// A preset keeps its promise through the command line, and the report shows the table.
#[test]
fn synthetic_traces_are_as_published() {
    let scratch = Scratch::new();
    let made = scratch.json("trace synth --like mixtral-8x7b --requests 16 -o t.safetensors");
    let checks = made["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 6);
    for check in checks {
        let far = check["found"].as_f64().unwrap() - check["published"].as_f64().unwrap();
        assert!(far.abs() < 0.03, "{check}");
    }
    let stats = scratch.json("trace stats t.safetensors --out stats");
    assert_eq!(stats["checks"], made["checks"]);
    assert_eq!(stats["synthetic"], json!(true));
    assert_eq!(stats["srp"]["4"], checks[0]["found"]);
    scratch.ok("report stats");
    let page = String::from_utf8(scratch.read("stats/report.html")).unwrap();
    assert!(page.contains("All 6 published values are met within tolerance"));
    // A knob that was turned is a promise less.
    let turned = scratch.json(
        "trace synth --like mixtral-8x7b --set skew=2 --requests 2 --tokens 16 -o u.safetensors",
    );
    assert_eq!(turned["checks"], json!([]));
    assert_eq!(turned["recipe"]["skew"], json!(2.0));
}

/// What was fitted to a recording is like it, and its recipe makes the same trace again.
#[test]
fn a_recording_is_fitted_and_made_again() {
    let scratch = sample();
    let line = "trace synth --fit trace.safetensors --requests 4 --save r.toml -o a.safetensors";
    let fitted = scratch.json(line);
    for row in fitted["fit"]["rows"].as_array().unwrap() {
        let (recorded, found) =
            (row["recorded"].as_f64().unwrap(), row["fitted"].as_f64().unwrap());
        assert!((recorded - found).abs() < 0.03 + 0.3 * recorded, "{row}");
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/sample/moecast-sample-8x32.json");
    scratch
        .ok(&format!("trace synth --recipe r.toml --model {sample} --requests 4 -o b.safetensors"));
    let experts = |name: &str| {
        scratch.ok(&format!("trace export jsonl {name}.safetensors -o {name}.jsonl"));
        scratch.read(&format!("{name}.jsonl"))
    };
    assert!(experts("a") == experts("b"));
}

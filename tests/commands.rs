//! The commands of the documentation, their JSON keys, and the laws that tie them together.

use serde_json::{Value, json};

use crate::support::{Scratch, tiny_config, tiny_recording};

/// A scratch folder with an imported trace and a model of 2 layers x 8 experts.
pub(crate) fn imported() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("recording.jsonl", tiny_recording(120, 2, 8));
    scratch.write("config.json", tiny_config(2, 8));
    scratch.ok("trace import recording.jsonl -o trace.safetensors --model config.json");
    scratch
}

const PLAN: &str = "plan --trace trace.safetensors --model config.json --cluster h200-sxm:1x4 \
                    --redundant 4 --engine sglang,trtllm,vllm-ascend,vllm,csv --out plan";
const SIMULATE: &str = "simulate --trace trace.safetensors --plan plan/plan.json \
                        --model config.json --out run";

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[test]
fn stats_has_its_keys_and_adds_up() {
    let scratch = imported();
    let stats = scratch.json("trace stats trace.safetensors");
    assert_eq!(stats["tokens"], json!(120));
    assert_eq!(stats["requests"], json!(1));
    assert_eq!(stats["experts"], json!(8));
    assert_eq!(stats["top_k"], json!(2));
    assert_eq!(stats["layers"], json!(2));
    for (ordinal, layer) in (0_u64..).zip(stats["per_layer"].as_array().unwrap()) {
        assert_eq!(layer["ordinal"], json!(ordinal));
        assert_eq!(layer["layer"], json!(ordinal));
        assert_eq!(layer["pairs"], json!(240));
        assert!(number(layer, "/max_over_mean") >= 1.0);
        assert!(number(layer, "/entropy") <= 3.0 && number(layer, "/cv") > 0.0);
        assert!((0.0..1.0).contains(&number(layer, "/gini")));
    }
}

#[test]
fn plan_beats_its_baselines_and_no_bound() {
    let scratch = imported();
    let plan = scratch.json(PLAN);
    let bound = number(&plan, "/imbalance/bound");
    for name in ["linear", "eplb", "plan"] {
        for part in ["train", "heldout"] {
            let imbalance = number(&plan, &format!("/imbalance/{name}/{part}"));
            assert!(imbalance >= bound - 1e-9, "{name} {part}: {imbalance} < bound {bound}");
            assert!(number(&plan, &format!("/step_time_us/{name}/{part}")) > 0.0);
        }
    }
    let trained = |name: &str| number(&plan, &format!("/imbalance/{name}/train"));
    assert!(trained("plan") <= trained("eplb") && trained("plan") <= trained("linear"));
    assert_eq!(plan["wasted_slots"]["plan"], json!(0));
    let layers = plan["phys2log"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        let mut experts: Vec<u64> =
            layer.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(experts.len(), 12);
        experts.sort_unstable();
        experts.dedup();
        assert_eq!(experts, (0..8).collect::<Vec<_>>());
    }
    for engine in ["plan", "sglang", "trtllm", "vllm-ascend", "vllm", "csv"] {
        let file = plan["files"][engine].as_str().unwrap();
        assert!(!scratch.read(file).is_empty());
    }
    assert!(String::from_utf8(scratch.read("plan/README.txt")).unwrap().contains("sglang"));
}

/// A plan's stored figures are what a simulation of it says again.
#[test]
fn stored_score_equals_its_rerun() {
    let scratch = imported();
    let plan = scratch.json(PLAN);
    for part in ["heldout", "train"] {
        let run = scratch.json(&format!("{SIMULATE} --part {part}"));
        for (index, name) in ["linear", "eplb", "plan"].into_iter().enumerate() {
            let candidate = &run["candidates"][index];
            assert_eq!(candidate["name"], json!(name));
            let again = number(candidate, "/summary/imbalance");
            let stored = number(&plan, &format!("/imbalance/{name}/{part}"));
            assert!((again - stored).abs() < 1e-12, "{name} {part}: {again} against {stored}");
            let again = number(candidate, "/summary/step_time_us/mean");
            let stored = number(&plan, &format!("/step_time_us/{name}/{part}"));
            assert!((again - stored).abs() < 1e-9, "{name} {part}: {again} against {stored}");
        }
    }
}

/// Both goldens of DeepSeek's EPLB (README of deepseek-ai/EPLB), through the command line.
#[test]
fn eplb_goldens() {
    const LOADS: [[u32; 12]; 2] = [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ];
    let scratch = Scratch::new();
    let mut csv = String::from("layer,expert,count\n");
    for (layer, loads) in LOADS.iter().enumerate() {
        for (expert, load) in loads.iter().enumerate() {
            csv += &format!("{layer},{expert},{load}\n");
        }
    }
    scratch.write("loads.csv", csv);
    let plan = |groups| {
        let line = format!(
            "plan --loads loads.csv --algorithm eplb --groups {groups} --nodes 2 --gpus 8 \
             --slots 16"
        );
        scratch.json(&line)["phys2log"].clone()
    };
    let hierarchical = json!([
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1]
    ]);
    let global = json!([
        [10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 3, 1, 1],
        [1, 10, 2, 4, 5, 11, 5, 0, 6, 7, 6, 3, 8, 8, 9, 7]
    ]);
    assert_eq!(plan(4), hierarchical);
    assert_eq!(plan(3), global);
}

#[test]
fn a_scenario_file_repeats_its_run() {
    let scratch = imported();
    scratch.ok(PLAN);
    scratch.ok(SIMULATE);
    scratch.ok("simulate run/scenario.toml --out again");
    for file in ["run.json", "scenario.toml", "steps-plan.csv"] {
        let (first, second) =
            (scratch.read(&format!("run/{file}")), scratch.read(&format!("again/{file}")));
        assert_eq!(first, second, "{file}");
    }
}

#[test]
fn report_writes_a_page_and_its_figures() {
    let scratch = imported();
    scratch.ok(PLAN);
    scratch.ok(SIMULATE);
    let files = scratch.json("report run")["files"].clone();
    assert_eq!(files[0], json!("run/report.html"));
    let page = String::from_utf8(scratch.read("run/report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("src=\"http"));
    for kind in ["svg", "png", "csv"] {
        let ending = format!(".{kind}");
        let found =
            files.as_array().unwrap().iter().filter(|f| f.as_str().unwrap().ends_with(&ending));
        assert!(found.count() >= 5, "{kind}");
    }
}

/// A recording has a page of its own; in the folder of a run, its figures join those of the run.
#[test]
fn report_draws_a_recording_alone_and_with_a_run() {
    let scratch = imported();
    let stats = scratch.json("trace stats trace.safetensors --out stats");
    let file: Value = serde_json::from_slice(&scratch.read("stats/stats.json")).unwrap();
    for (key, value) in file["stats"].as_object().unwrap() {
        assert_eq!(&stats[key], value, "{key}");
    }
    assert_eq!((&file["version"], &file["checks"]), (&json!(1), &json!([])));
    let figures = |folder: &str| -> Vec<String> {
        let files = scratch.json(&format!("report {folder}"))["files"].clone();
        let files = files.as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned());
        files.filter(|file| file.ends_with(".svg")).collect()
    };
    let alone = figures("stats");
    assert!(alone.contains(&"stats/figures/srp.svg".to_owned()), "{alone:?}");
    assert!(!alone.contains(&"stats/figures/step-time.svg".to_owned()), "{alone:?}");
    let page = String::from_utf8(scratch.read("stats/report.html")).unwrap();
    assert!(page.contains("Expert routing of") && page.contains("Not shown: published-check"));
    scratch.ok(PLAN);
    scratch.ok(SIMULATE);
    let run = figures("run");
    scratch.ok("trace stats trace.safetensors --out run");
    assert_eq!(figures("run").len(), run.len() + alone.len());
    let page = String::from_utf8(scratch.read("run/report.html")).unwrap();
    assert!(page.contains("<h2>The recording</h2>"));
    assert!(!page.contains("another recording"), "the run is of the same recording");
    let answer = scratch.run("report plan");
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains("no run.json, stats.json or study.json"), "{}", answer.stderr);
}

#[test]
fn list_names_every_family() {
    let scratch = Scratch::new();
    let families = scratch.json("list");
    for family in families["family"].as_array().unwrap() {
        let name = family["name"].as_str().unwrap();
        let entries = scratch.json(&format!("list {name}"));
        assert!(!entries[name].as_array().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn completions_name_the_commands() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(scratch.ok(&format!("completions {shell}")).contains("quickstart"), "{shell}");
    }
}

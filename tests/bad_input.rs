//! Bad input: one line that says where, what was found and what would be right; exit code 1;
//! nothing half-written.

use crate::commands::imported;
use crate::support::{Scratch, tiny_config};

/// Runs `line`, which must fail with one line on standard error that holds all of `parts`, and
/// must leave the folder as it was.
pub(crate) fn check(scratch: &Scratch, line: &str, parts: &[&str]) {
    let before = scratch.files();
    let answer = scratch.run(line);
    assert_eq!(answer.code, 1, "moecast {line}: exit code; {}", answer.stderr);
    assert_eq!(answer.stderr.trim_end().lines().count(), 1, "moecast {line}: {}", answer.stderr);
    assert!(answer.stdout.is_empty(), "moecast {line} printed {}", answer.stdout);
    for part in parts {
        assert!(answer.stderr.contains(part), "moecast {line}: no `{part}` in {}", answer.stderr);
    }
    assert!(scratch.files() == before, "moecast {line} changed files");
}

#[test]
fn a_csv_with_an_expert_out_of_range() {
    let scratch = Scratch::new();
    scratch.write("config.json", tiny_config(2, 8));
    scratch.write("loads.csv", "layer,expert,count\n0,0,5\n1,8,5\n");
    let line = "trace import loads.csv --model config.json -o t.safetensors";
    check(&scratch, line, &["loads.csv", "line 3", "8"]);
}

#[test]
fn a_csv_that_says_one_thing_twice() {
    let scratch = Scratch::new();
    scratch.write("loads.csv", "layer,expert,count\n0,0,5\n0,1,1\n0,0,7\n");
    let line = "trace import loads.csv -o t.safetensors";
    check(&scratch, line, &["loads.csv", "line 4"]);
}

#[test]
fn a_json_line_with_a_key_twice_or_a_wrong_key() {
    let scratch = Scratch::new();
    let line = "trace import r.jsonl --format jsonl-layers -o t.safetensors";
    scratch.write("r.jsonl", "{\"tok\": 1, \"layers\": [[0]], \"tok\": 1}\n");
    check(&scratch, line, &["r.jsonl", "line 1", "tok"]);
    scratch.write("r.jsonl", "{\"tok\": 1, \"layer\": [[0]]}\n");
    check(&scratch, line, &["r.jsonl", "line 1", "layer"]);
}

#[test]
fn a_truncated_recording_and_a_truncated_trace() {
    let scratch = imported();
    let trace = scratch.read("trace.safetensors");
    scratch.write("short.safetensors", &trace[..trace.len() - 1]);
    check(&scratch, "trace stats short.safetensors", &["short.safetensors", "expected"]);
    scratch.write("empty.pt", "");
    check(&scratch, "trace import empty.pt -o t.safetensors", &["empty.pt", "--format"]);
    scratch.write("cut.pt", b"PK\x03\x04\x00\x00");
    check(
        &scratch,
        "trace import cut.pt --format sglang-stat -o t.safetensors",
        &["cut.pt", "expected"],
    );
}

/// Nothing of a stranger's pickle runs: the name of what it wants to call is the answer.
#[test]
fn a_pickle_that_names_a_foreign_global_and_half_a_recording() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let scratch = Scratch::new();
    let line = "trace import recording.pt -o t.safetensors";
    scratch.write("recording.pt", std::fs::read(data.join("foreign_global.pt")).unwrap());
    check(&scratch, line, &["recording.pt", "data.pkl, byte", "posix.getcwd", "expected only"]);
    let whole = std::fs::read(data.join("expert_distribution_recorder.pt")).unwrap();
    scratch.write("recording.pt", &whole[..whole.len() / 2]);
    check(&scratch, line, &["recording.pt", "expected a whole zip"]);
}

#[test]
fn slots_that_do_not_divide_by_ranks() {
    let scratch = imported();
    let line = "plan --trace trace.safetensors --gpus 3 --slots 16";
    check(&scratch, line, &["16 slots on 3 ranks", "such as 15 or 18"]);
    let line = "plan --trace trace.safetensors --gpus 4 --slots 4";
    check(&scratch, line, &["4 slots for 8 experts"]);
}

#[test]
fn names_that_do_not_exist() {
    let scratch = imported();
    let plan = "plan --trace trace.safetensors --model config.json --out plan";
    let near = format!("{plan} --cluster h20-sxm:1x4");
    check(&scratch, &near, &["did you mean `h200-sxm`"]);
    let near = format!("{plan} --cluster h200-sxm:1x4 --engine sglan");
    check(&scratch, &near, &["did you mean `sglang`"]);
    let near = format!("{plan} --cluster h200-sxm:1x4 --algorithm epbl");
    check(&scratch, &near, &["did you mean `eplb`"]);
    check(&scratch, "list algoritms", &["did you mean `algorithms`"]);
    let line = "plan --trace trace.safetensors --model qwen3-30b --gpus 4";
    check(&scratch, line, &["qwen3-30b-a3b"]);
    check(&scratch, "trace stats nothing.safetensors", &["nothing.safetensors"]);
    let line = "plan --trace trace.safetensors --cluster h200-sxm --model config.json";
    check(&scratch, line, &["PRESET:NODESxGPUS"]);
}

#[test]
fn a_plan_for_another_model() {
    let scratch = imported();
    scratch.ok("plan --trace trace.safetensors --model config.json --cluster h200-sxm:1x4 --out p");
    scratch.write("other.json", tiny_config(2, 16));
    scratch.write("loads.csv", "layer,expert,count\n0,15,5\n1,0,5\n");
    scratch.ok("trace import loads.csv --model other.json -o other.safetensors");
    let line = "simulate --trace other.safetensors --plan p/plan.json --model other.json --out run";
    check(&scratch, line, &["p/plan.json", "8 experts", "16"]);
    let line = "simulate --trace trace.safetensors --plan p/plan.json --model mixtral-8x7b --out r";
    check(&scratch, line, &["mixtral-8x7b"]);
    let line = "simulate --trace trace.safetensors --plan p/plan.json --model config.json \
                --cluster h200-sxm:1x8 --out run";
    check(&scratch, line, &["4 ranks", "8 GPUs"]);
}

#[test]
fn a_damaged_plan_and_a_damaged_scenario() {
    let scratch = imported();
    scratch.ok("plan --trace trace.safetensors --model config.json --cluster h200-sxm:1x4 --out p");
    let plan = String::from_utf8(scratch.read("p/plan.json")).unwrap();
    scratch.write("bad.json", plan.replacen("\"version\": 1", "\"version\": 9", 1));
    let simulate = "simulate --trace trace.safetensors --plan bad.json --model config.json --out r";
    check(&scratch, simulate, &["bad.json", "version"]);
    scratch.write("bad.json", &plan[..plan.len() / 2]);
    check(&scratch, simulate, &["bad.json"]);
    scratch
        .ok("simulate --trace trace.safetensors --plan p/plan.json --model config.json --out run");
    let scenario = String::from_utf8(scratch.read("run/scenario.toml")).unwrap();
    scratch.write("run/bad.toml", scenario.replace("engine = ", "engin = "));
    check(&scratch, "simulate run/bad.toml --out r", &["bad.toml", "line", "engin"]);
    scratch.write("run/bad.toml", scenario.replace("trace_sha256 = \"", "trace_sha256 = \"0"));
    check(&scratch, "simulate run/bad.toml --out r", &["SHA-256"]);
}

#[test]
fn a_cluster_that_is_too_small_for_the_weights() {
    let scratch = Scratch::new();
    let row: Vec<String> = (0..61_u32)
        .skip(3)
        .flat_map(|layer| (0..256_u32).map(move |expert| format!("{layer},{expert},1\n")))
        .collect();
    scratch.write("loads.csv", format!("layer,expert,count\n{}", row.concat()));
    scratch.ok("trace import loads.csv --model deepseek-v3 -o t.safetensors");
    let line = "plan --trace t.safetensors --model deepseek-v3 --cluster rtx-4090:1x8 --heldout 0";
    check(&scratch, line, &["expert weights", "rtx-4090"]);
}

#[test]
fn parts_that_are_not_there() {
    let scratch = imported();
    let trace = "trace.safetensors";
    for (line, parts) in [
        ("split T --by request --out p", &["T: requests", "at least two requests"][..]),
        ("split T --by domain --out p", &["T: domains: none"]),
        ("split T --domain law --out p", &["T: domains: none"]),
        ("split T --domain law --by time --out p", &["--by domain"]),
        ("split T --heldout 1.5 --out p", &["T: held-out share: 1.5"]),
        ("slice T -o s --requests 3..9", &["slice requests 3..9: nothing", "requests 0 to 0"]),
        ("slice T -o s --steps 500..", &["nothing; expected", "steps 0 to 119"]),
        ("slice T -o s --layers 2..9", &["nothing; expected MoE layers", "from 0 to 1"]),
        ("slice T -o s --domain law", &["T: domains: none"]),
        ("slice T -o s --phase prefill", &["phase prefill: nothing"]),
        ("show T --layer 7", &["T: layer 7: not recorded", "from 0 to 1"]),
        ("show T --by domain", &["T: domains: not recorded"]),
        ("export cvs T -o t.csv", &["did you mean `csv`"]),
        ("concat T none.safetensors -o s", &["none.safetensors"]),
        ("concat T T -o s --domains a", &["1 domains for 2 traces"]),
    ] {
        let parts: Vec<String> = parts.iter().map(|part| part.replace('T', trace)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        check(&scratch, &format!("trace {}", line.replace('T', trace)), &parts);
    }
}

#[test]
fn traces_that_do_not_fit_together() {
    let scratch = imported();
    scratch.write("other.json", tiny_config(2, 16));
    scratch.write("loads.csv", "layer,expert,count\n0,7,5\n1,0,5\n");
    scratch.ok("trace import loads.csv --model config.json -o counts.safetensors");
    scratch.write("wide.csv", "layer,expert,count\n0,15,5\n1,0,5\n");
    scratch.ok("trace import wide.csv --model other.json -o wide.safetensors");
    let line = "trace concat trace.safetensors counts.safetensors -o s";
    check(&scratch, line, &["counts.safetensors: recording: counts; expected tokens"]);
    let line = "trace concat counts.safetensors wide.safetensors -o s";
    check(&scratch, line, &["wide.safetensors: experts: 16; expected 8, as in counts"]);
    let line = "trace concat counts.safetensors -o s --domains law";
    check(&scratch, line, &["counts.safetensors: domain: counts"]);
    check(&scratch, "trace slice counts.safetensors -o s --tokens 4", &["only counted"]);
    check(&scratch, "trace export jsonl counts.safetensors -o s", &["only counted", "csv and npz"]);
    check(&scratch, "trace show counts.safetensors --by phase", &["phases: not recorded"]);
    scratch.ok("plan --loads wide.csv --gpus 4 --out p");
    let line = "trace stats trace.safetensors --plan p/plan.json";
    check(&scratch, line, &["p/plan.json", "16 experts"]);
}

#[test]
fn requests_that_cannot_be_made() {
    let scratch = Scratch::new();
    let refused = |line: &str, parts: &[&str]| {
        check(&scratch, &format!("trace requests {line}"), parts);
    };
    refused("generate poison -o r", &["did you mean `poisson`"]);
    refused("generate poisson --set rte=4 -o r", &["setting `rte`", "expected `rate`"]);
    refused("generate poisson --set rate=4 -o r", &["setting `requests`: missing"]);
    refused("generate poisson --set rate -o r", &["--set rate", "NAME=NUMBER"]);
    refused("generate poisson --set rate=1 --set rate=2 -o r", &["given twice"]);
    let line = "generate poisson --set rate=1 --set requests=9 --input-tokens zipf:2 -o r";
    refused(line, &["--input-tokens", "lognormal:MEAN,CV"]);
    refused("stats nothing.csv", &["nothing.csv"]);
    scratch.write("r.jsonl", "{\"input_tokens\": 1}\n");
    let line = "trace requests stats r.jsonl";
    check(&scratch, line, &["r.jsonl", "line 1", "output_tokens"]);
}

#[test]
fn wrong_usage_is_bad_input_too() {
    let scratch = Scratch::new();
    for line in [
        "plan",
        "frobnicate",
        "plan --gpus x --loads l.csv",
        "--threads 0 list",
        "trace slice t.safetensors -o s --steps 9..3",
        "trace split t.safetensors --by color --out p",
    ] {
        let answer = scratch.run(line);
        assert_eq!(answer.code, 1, "moecast {line}: {}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "moecast {line}: {}", answer.stderr);
    }
    assert_eq!(scratch.run("--version").code, 0);
    assert_eq!(scratch.run("plan --help").code, 0);
}

#[test]
fn recipes_and_amounts_of_synthetic_traces() {
    let scratch = imported();
    let synth = |rest: &str, parts: &[&str]| {
        check(&scratch, &format!("trace synth {rest} -o s.safetensors"), parts);
    };
    synth("--like qwen3-30b", &["preset `qwen3-30b`", "did you mean `qwen3-30b-a3b`?"]);
    synth("--like olmoe-1b-7b --set skwe=1", &["knob `skwe`", "did you mean `skew`?"]);
    synth("--like olmoe-1b-7b --set skew", &["--set: skew", "expected NAME=VALUE"]);
    synth("--like olmoe-1b-7b --set memory=1", &["knob `memory`", "1", "expected 0 to 0.99"]);
    synth("--like olmoe-1b-7b --requests 0", &["requests", "0", "expected 1 to"]);
    synth("--like olmoe-1b-7b --tokens 4 --generated 5", &["generated tokens", "expected 0 to 4"]);
    synth("--like olmoe-1b-7b --batch 0", &["requests of a batch", "0"]);
    scratch.write("r.toml", "skew = 1.0\nskwe = 2.0\n");
    synth("--recipe r.toml --model olmoe-1b-7b", &["r.toml", "skwe"]);
    scratch.write("r.toml", "popularity = \"recorded\"\nloads = [[1, 2]]\n");
    synth("--recipe r.toml --model olmoe-1b-7b", &["knob `loads`", "16 layers x 64 experts"]);
    scratch.write("loads.csv", "layer,expert,count\n0,0,5\n");
    scratch.ok("trace import loads.csv -o counts.safetensors");
    synth("--fit counts.safetensors", &["counts.safetensors", "counts only", "tokens"]);
}

/// What a trace is made from is never replaced by it.
#[test]
fn an_output_that_is_an_input() {
    let scratch = imported();
    let trace = "trace.safetensors";
    let lines = [
        format!("trace slice {trace} -o {trace} --tokens 1"),
        format!("trace concat {trace} -o ./{trace}"),
        format!("trace export csv {trace} -o {trace}"),
        format!("trace synth --fit {trace} --save {trace}"),
        "trace import loads.csv -o loads.csv".to_owned(),
    ];
    scratch.write("loads.csv", "layer,expert,count\n0,0,5\n");
    for line in lines {
        check(&scratch, &line, &["the output is also an input"]);
    }
    check(&scratch, "trace synth --like olmoe-1b-7b --save x -o x", &["one file"]);
    check(&scratch, &format!("trace slice {trace} -o . --tokens 1"), &["a folder"]);
    check(&scratch, "trace stats nope", &["nope: No such file"]);
}

/// A header may name many domains: only those with tokens are compared.
#[test]
fn many_domains_are_refused_or_cost_nothing() {
    let scratch = imported();
    let line = "trace synth --like mixtral-8x7b --set domains=65535 -o d.safetensors";
    check(&scratch, line, &["domains=65535", "expected 1 to 256"]);
    scratch.ok("trace synth --like mixtral-8x7b --requests 2 --tokens 8 --set domains=200 -o d");
    let stats = scratch.json("trace stats d");
    assert_eq!(stats["domains"]["parts"].as_array().unwrap().len(), 2);
}

//! Services that cannot be: one line before the run starts, and nothing is written.

use crate::bad_input::check;
use crate::support::{Scratch, tiny_config, tiny_recording};

/// Twenty requests to a model of 2 layers x 8 experts on two GPUs.
const SERVICE: &str = r#"model = "config.json"
gpu = "h200-sxm"
engine = "vllm"
# more

[layout]
tensor = 2
expert = 2

[load]
generator = "poisson"
set = { rate = 10, requests = 20 }
input_tokens = "100"
output_tokens = "10"
"#;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("config.json", tiny_config(2, 8));
    scratch
}

/// Serves [`SERVICE`] with `old` replaced by `new`; the answer must name the file and hold `parts`.
fn refused(scratch: &Scratch, old: &str, new: &str, parts: &[&str]) {
    assert!(SERVICE.contains(old), "no {old} in the service");
    scratch.write("bad.toml", SERVICE.replacen(old, new, 1));
    check(scratch, "serve bad.toml --out run", &[&["moecast: bad.toml: "], parts].concat());
}

/// The same with something more at the top of the file.
fn more(scratch: &Scratch, text: &str, parts: &[&str]) {
    refused(scratch, "# more\n", text, parts);
}

/// The same with one more section.
fn section(scratch: &Scratch, text: &str, parts: &[&str]) {
    refused(scratch, "[layout]", &format!("{text}\n[layout]"), parts);
}

#[test]
fn the_service_that_the_others_are_made_from_runs() {
    let scratch = scratch();
    scratch.write("good.toml", SERVICE);
    let run = scratch.json("serve good.toml --out run");
    assert_eq!(run["summary"]["requests"], 20);
    assert!(scratch.path("run/service.json").exists());
}

#[test]
fn a_request_that_is_longer_than_the_cache() {
    let scratch = scratch();
    let parts = ["request 0: 100 + 10 tokens", "at most 64 tokens", "cache"];
    section(&scratch, "[limits]\nkv_tokens = 64", &parts);
    section(&scratch, "[limits]\nkv_tokens = 0", &["request 0", "at most 0 tokens"]);
}

#[test]
fn layouts_that_cannot_be() {
    let scratch = scratch();
    let layout = "tensor = 2\nexpert = 2";
    for (text, parts) in [
        ("tensor = 2\nexpert = 3", &["layout", "3 x 1; expected tensor x data = 2 x 1"][..]),
        ("tensor = 3", &["layout: tensor = 3; expected a divisor of the heads"]),
        ("tensor = 0", &["layout: tensor = 0; expected at least 1"]),
        ("tensor = -2", &["line 7: key `tensor`", "-2", "whole number from 0 to 65535"]),
        ("tensor = 70000", &["line 7: key `tensor`", "70000", "65535"]),
        ("tensor = 1.5", &["line 7: key `tensor`", "1.5"]),
        ("tensor = 2\npipeline = 3", &["pipeline = 3; expected at most the 2 layers"]),
        ("data = 16\nexpert = 16", &["expert = 16; expected at most the 8 experts"]),
    ] {
        refused(&scratch, layout, text, parts);
    }
    more(&scratch, "gpus_per_node = 0\n", &["gpus_per_node: 0"]);
    let odd = SERVICE.replacen("tensor = 2\nexpert = 2", "tensor = 4", 1);
    scratch.write("odd.toml", odd.replacen("# more", "gpus_per_node = 3", 1));
    check(&scratch, "serve odd.toml --out run", &["4 GPUs a stage; expected whole nodes of 3"]);
}

#[test]
fn weights_that_do_not_fit() {
    let scratch = scratch();
    // 671 thousand million weights of a byte and more: some 560 GB too many for one GPU.
    let one = SERVICE.replacen("tensor = 2\nexpert = 2", "tensor = 1", 1);
    scratch.write("bad.toml", one.replacen("config.json", "deepseek-v3", 1));
    let parts = ["694 GB of weights", "151 GB of h200-sxm", "GB are missing", "more GPUs"];
    check(&scratch, "serve bad.toml --out run", &parts);
}

#[test]
fn loads_that_cannot_be() {
    let scratch = scratch();
    let load = &SERVICE[SERVICE.find("generator").unwrap()..];
    for (old, new, parts) in [
        ("requests = 20", "requests = 0", &["setting `requests`: 0", "from 1 to"][..]),
        ("rate = 10", "rate = 0", &["setting `rate`: 0"]),
        ("rate = 10", "rate = -1", &["setting `rate`: -1"]),
        ("rate = 10", "rate = nan", &["setting `rate`: NaN"]),
        ("rate = 10", "rate = \"x\"", &["line 12: key `set`", "expected a number"]),
        ("rate = 10", "rte = 10", &["setting `rte`: unknown; expected `rate`"]),
        ("\"poisson\"", "\"poison\"", &["generator `poison`: did you mean `poisson`"]),
        ("input_tokens = \"100\"", "", &["load.input_tokens: nothing; expected TOKENS"]),
        ("\"100\"", "\"0\"", &["load.input_tokens", "tokens: 0; expected 1 to"]),
        ("\"100\"", "\"-5\"", &["load.input_tokens", "-5"]),
        ("\"100\"", "100", &["line 13: key `input_tokens`", "100", "expected a string"]),
        ("output_tokens = \"10\"", "output_tokens = \"0\"", &["load.output_tokens", "tokens: 0"]),
        (load, "", &["load: nothing; expected load.generator or load.trace"]),
        (load, "trace = \"none.csv\"\n", &["none.csv: No such file"]),
        ("[load]", "[laod]", &["line 10: key `laod`: unknown; did you mean `load`?"]),
    ] {
        refused(&scratch, old, new, parts);
    }
    let heading = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    scratch.write("zero.csv", heading);
    let parts = ["zero.csv", "no requests; expected at least one"];
    refused(&scratch, load, "trace = \"zero.csv\"\n", &parts);
    scratch.write("zero.csv", format!("{heading}2023-11-16 18:15:46.6805900,0,0\n"));
    let parts = ["zero.csv", "no requests but 1 without input or output tokens"];
    refused(&scratch, load, "trace = \"zero.csv\"\n", &parts);
}

#[test]
fn names_are_answered_with_the_nearest() {
    let scratch = scratch();
    for (old, new, parts) in [
        ("config.json", "deepseek-v4", &["model `deepseek-v4`: did you mean `deepseek-v3`?"][..]),
        ("h200-sxm", "h200-smx", &["hardware `h200-smx`: did you mean `h200-sxm`?"]),
        ("\"vllm\"", "\"vlm\"", &["engine `vlm`: did you mean `vllm`?"]),
        ("engine =", "engin =", &["line 3: key `engin`: unknown; did you mean `engine`?"]),
        ("tensor =", "tensors =", &["line 7: key `tensors`: unknown; did you mean `tensor`?"]),
    ] {
        refused(&scratch, old, new, parts);
    }
    more(&scratch, "router = \"rond-robin\"\n", &["did you mean `round-robin`?"]);
    more(&scratch, "cost = \"rofline\"\n", &["did you mean `roofline`?"]);
    more(&scratch, "profile = \"h200-sxm-vlm\"\n", &["did you mean `h200-sxm-vllm`?"]);
    let parts = ["key `preemption`", "value `recompte`: unknown; did you mean `recompute`?"];
    more(&scratch, "preemption = \"recompte\"\n", &parts);
    section(&scratch, "[routing]\nmode = \"recorde\"", &["did you mean `recorded`?"]);
}

#[test]
fn numbers_that_are_too_small() {
    let scratch = scratch();
    more(&scratch, "replicas = 0\n", &["replicas: 0; expected at least 1"]);
    more(&scratch, "replicas = -1\n", &["line 4: key `replicas`", "-1", "whole number"]);
    more(&scratch, "seed = -4\n", &["line 4: key `seed`", "-4", "0 or more"]);
    more(&scratch, "price_per_gpu_hour = -1.0\n", &["price_per_gpu_hour: -1"]);
    for (text, parts) in [
        ("[limits]\nstep_tokens_max = 0", &["limits.step_tokens_max: 0; expected at least 1"][..]),
        ("[limits]\nsequences_max = 0", &["limits.sequences_max: 0; expected at least 1"]),
        ("[speculation]\ndraft_tokens = 3\nacceptance = 1.5", &["acceptance: 1.5", "0 to 1"]),
        ("[speculation]\ndraft_tokens = -1\nacceptance = 0.5", &["key `draft_tokens`", "-1"]),
        ("[speculation]\ndraft_tokens = 3", &["key `acceptance`: missing"]),
        ("[slo]\nttft_ms = 0", &["slo.ttft_ms: 0; expected milliseconds above 0"]),
        ("[slo]\ntpot_ms = -3", &["slo.tpot_ms: -3; expected milliseconds above 0"]),
        ("[stop]\nmetric = \"ttft\"\nprecision = 0", &["stop.precision: 0"]),
        ("[stop]\nmetric = \"ttft\"\nprecision = inf", &["stop.precision: inf"]),
        ("[decode]\nreplicas = 0", &["replicas: 0; expected at least 1"]),
    ] {
        section(&scratch, text, parts);
    }
}

#[test]
fn plans_and_recordings_of_something_else() {
    let scratch = scratch();
    scratch.write("other.json", tiny_config(2, 16));
    scratch.write("own.jsonl", tiny_recording(120, 2, 8));
    scratch.write("wide.jsonl", tiny_recording(120, 2, 16));
    scratch.ok("trace import own.jsonl -o own.safetensors --model config.json");
    scratch.ok("trace import wide.jsonl -o wide.safetensors --model other.json");
    let plan = "plan --heldout 0 --trace";
    scratch
        .ok(&format!("{plan} own.safetensors --model config.json --cluster h200-sxm:1x4 --out p"));
    scratch
        .ok(&format!("{plan} wide.safetensors --model other.json --cluster h200-sxm:1x2 --out q"));
    for (text, parts) in [
        ("plan = \"p/plan.json\"", &["plan for 4 ranks", "the 2 expert-parallel ranks"][..]),
        ("plan = \"q/plan.json\"", &["plan: 16 experts; expected the 8"]),
        ("trace = \"wide.safetensors\"", &["trace: 16 experts per layer; expected the 8"]),
        ("trace = \"none.safetensors\"", &["none.safetensors: No such file"]),
        ("mode = \"recorded\"", &["routing.trace: none; expected a recording"]),
        ("trace = \"own.safetensors\"\ntrace_sha256 = \"00\"", &["SHA-256", "expects 00"]),
    ] {
        section(&scratch, &format!("[routing]\n{text}"), parts);
    }
}

#[test]
fn files_that_are_no_services() {
    let scratch = scratch();
    check(&scratch, "serve none.toml --out run", &["none.toml: No such file"]);
    scratch.write("bytes.toml", b"a\xff");
    check(&scratch, "serve bytes.toml --out run", &["bytes.toml: expected UTF-8 text"]);
    refused(&scratch, "engine =", "engine", &["line 3", "expected `=`"]);
}

#[test]
fn a_swarm_keeps_its_laws_and_repeats_itself() {
    let scratch = Scratch::new();
    let line = "swarm --seed 5 --scenarios 20";
    let seen = scratch.json(line);
    assert_eq!((&seen["scenarios"], &seen["seed"]), (&20.into(), &5.into()));
    assert_eq!(seen, scratch.json(&format!("{line} --threads 1")));
    assert!(scratch.ok(line).contains("20 services from seed 5 on kept 20 laws"));
    check(&scratch, "swarm --scenarios 0", &["--scenarios"]);
}

/// [`SERVICE`] with `text` at its end.
fn with(scratch: &Scratch, text: &str) -> String {
    scratch.write("faults.toml", format!("{SERVICE}\n{text}"));
    "serve faults.toml".to_owned()
}

#[test]
fn faults_are_told_and_repeated() {
    let scratch = scratch();
    let lost = "[[faults]]\nat = \"300 ms\"\nuntil = \"1 s\"\nwhat = \"rank-lost\"\nrank = 1\n";
    let line = with(&scratch, &format!("{lost}[[faults]]\nat = \"1 h\"\nwhat = \"node-lost\"\n"));
    check(&scratch, &line, &["faults.toml", "line 22: key `at`", "`h` is none of the units"]);
    let line = with(&scratch, lost);
    let run = scratch.json(&format!("{line} --out run"));
    assert_eq!((&run["summary"]["requests"], &run["requests_sent"]), (&20.into(), &20.into()));
    let fault = &run["faults"][0];
    assert_eq!(fault["mattered"], true);
    assert_eq!(fault["replica_stopped"], true);
    // Each of two ranks has four of the eight experts, and no other slot has them.
    let missing = fault["experts_missing"].as_array().unwrap();
    assert_eq!(missing.len(), 2);
    assert_eq!(missing[0]["first"].to_string(), "[4,5,6,7]");
    let csv = String::from_utf8(scratch.read("run/requests.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with(",preemptions,retries"), "{csv}");
    scratch.ok("serve run/service.toml --out again");
    assert_eq!(scratch.read("again/service.json"), scratch.read("run/service.json"));
}

#[test]
fn a_replica_that_never_comes_back_ends_the_run() {
    let scratch = scratch();
    let line = with(&scratch, "[[faults]]\nat = \"1 s\"\nwhat = \"node-lost\"\nnode = 0\n");
    let run = scratch.json(&line);
    let count = |key: &str| run[key].as_u64().unwrap_or(0);
    let served = run["summary"]["requests"].as_u64().unwrap();
    assert!(served > 0 && count("requests_unserved") > 0, "{run}");
    assert_eq!(served + count("requests_unserved"), 20);
    assert!(scratch.ok(&line).contains("the replica stops"));
}

#[test]
fn faults_that_cannot_be() {
    let scratch = scratch();
    for (fault, parts) in [
        ("what = \"rank-lost\"", &["faults[0].rank: none; expected one of 2 for rank-lost"][..]),
        ("what = \"rank-lost\"\nrank = 2", &["faults[0].rank: 2; expected one of 2"]),
        ("what = \"rank-lots\"", &["value `rank-lots`: unknown; did you mean `rank-lost`?"]),
        ("what = \"link-degraded\"", &["faults[0].factor: none; expected 1 to 10000"]),
        ("what = \"node-lost\"\nnode = 0\nreplica = 1", &["faults[0].replica: 1; expected below"]),
        ("what = \"node-lost\"\nnode = 0\npool = \"decode\"", &["faults[0].pool"]),
        ("what = \"node-lost\"\nnode = 0\nuntil = \"1 s\"", &["faults[0].until", "later than"]),
        ("what = \"node-lost\"\nrank = 0", &["faults[0].rank: a value; expected none"]),
        ("whatt = \"node-lost\"", &["key `whatt`: unknown; did you mean `what`?"]),
        ("", &["key `what`: missing"]),
    ] {
        let line = with(&scratch, &format!("[[faults]]\nat = \"1 s\"\n{fault}\n"));
        check(&scratch, &format!("{line} --out run"), parts);
    }
}

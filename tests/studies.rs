//! Services simulated many times: studies over a grid, and the fewest GPUs for a load.

use serde_json::{Value, json};

use crate::support::Scratch;

/// A small model under a few clients: a point takes milliseconds.
const SERVICE: &str = r#"
model = "olmoe-1b-7b"
gpu = "h200-sxm"
engine = "sglang"
routing = { mode = "even" }

[load]
generator = "closed-loop"
set = { clients = 2, requests-per-client = 2 }
input_tokens = "256"
output_tokens = "16"
"#;

/// Three layouts, of which one cannot be, under two loads.
const STUDY: &str = r#"
service = "service.toml"

[grid]
load.set.clients = [2, 8]

[[linked]]
layout.tensor = [1, 2, 3]
layout.expert = [1, 2, 3]
"#;

/// Requests that arrive by rate, and limits that one replica does not hold for long.
const CAPACITY: &str = r#"
model = "olmoe-1b-7b"
gpu = "h200-sxm"
engine = "sglang"
routing = { mode = "even" }

[load]
generator = "poisson"
set = { rate = 100 }
input_tokens = "512"
output_tokens = "16"

[slo]
ttft_ms = 300
"#;

fn scratch(study: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("service.toml", SERVICE);
    scratch.write("capacity.toml", CAPACITY);
    scratch.write("study.toml", study);
    scratch
}

fn refused(scratch: &Scratch, line: &str) -> String {
    let answer = scratch.run(line);
    assert_eq!(answer.code, 1, "moecast {line}: {}", answer.stdout);
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
    answer.stderr
}

#[test]
fn a_grid_links_keys_and_says_why_points_are_missing() {
    let scratch = scratch(STUDY);
    let study = scratch.json("study study.toml --out out");
    let points = study["points"].as_array().unwrap();
    assert_eq!((points.len(), &study["version"]), (6, &json!(1)));
    assert_eq!(study["keys"], json!(["layout.expert", "layout.tensor", "load.set.clients"]));
    for (number, point) in points.iter().enumerate() {
        let values = &point["values"];
        let (ranks, clients) = ([1, 2, 3][number / 2], [2, 8][number % 2]);
        assert_eq!(values["layout.tensor"], json!(ranks), "point {number}");
        assert_eq!(values["layout.expert"], json!(ranks), "point {number}");
        assert_eq!(values["load.set.clients"], json!(clients), "point {number}");
        if ranks == 3 {
            let reason = point["skipped"].as_str().unwrap();
            assert!(reason.contains("tensor = 3") && reason.contains("divisor"), "{reason}");
            assert_eq!((&point["gpus"], &point["figures"]), (&Value::Null, &json!({})));
        } else {
            assert_eq!((&point["gpus"], &point["skipped"]), (&json!(ranks), &Value::Null));
            assert!(point["figures"]["tpot_ms_p50"].as_f64().unwrap() > 0.0);
        }
    }
    assert!(points.iter().any(|point| point["frontier"] == json!(true)));
    let csv = String::from_utf8(scratch.read("out/study.csv")).unwrap();
    assert_eq!(csv.lines().count(), 7);
    let page = String::from_utf8(scratch.read("out/report.html")).unwrap();
    assert!(page.contains("cannot exist") && page.contains("throughput-latency"));
    // The folder is one that `report` knows, too.
    scratch.ok("report out --out again");
    assert_eq!(scratch.read("again/report.html"), scratch.read("out/report.html"));
}

#[test]
fn what_was_finished_is_not_simulated_again() {
    let scratch = scratch(STUDY);
    let simulated = |line: &str| scratch.json(line)["simulated"].as_u64().unwrap();
    assert_eq!(simulated("study study.toml --out out"), 6);
    let first = scratch.files();
    assert_eq!(simulated("study study.toml --out out"), 0);
    assert!(first == scratch.files(), "kept points give other bytes");
    // As if the study had been stopped before it came to this one, or while it was written.
    let mut kept = first.iter().filter(|(name, _)| name.starts_with("out/points") && is_json(name));
    std::fs::remove_file(scratch.path(kept.next().unwrap().0.to_str().unwrap())).unwrap();
    scratch.write(kept.next().unwrap().0.to_str().unwrap(), "{\"version\": 1");
    assert_eq!(simulated("study study.toml --out out"), 2);
    assert!(first == scratch.files(), "a study that was stopped gives other bytes");
    assert_eq!(simulated("study study.toml --out out --afresh"), 6);
    assert!(first == scratch.files(), "a second study gives other bytes");
    // Another service is another point.
    scratch.write("service.toml", SERVICE.replace("\"16\"", "\"17\""));
    assert_eq!(simulated("study study.toml --out out"), 6);
    assert_eq!(simulated("study study.toml --out out --seed 1"), 6);
}

fn is_json(name: &std::path::Path) -> bool {
    name.extension().is_some_and(|extension| extension == "json")
}

/// A point's service file repeats the point.
#[test]
fn a_point_can_be_served_by_itself() {
    let scratch = scratch(STUDY);
    let study = scratch.json("study study.toml --out out");
    let point = &study["points"][3];
    let digest = &point["digest"].as_str().unwrap()[..16];
    let served = scratch.json(&format!("serve out/points/{digest}.toml"));
    let mean = &point["figures"]["ttft_ms_mean"];
    assert_eq!(&served["summary"]["ttft_ms"]["mean"], mean);
}

#[test]
fn studies_do_not_depend_on_threads() {
    let scratch = scratch(STUDY);
    let made = |threads: u32| {
        scratch.ok(&format!("study study.toml --out out --afresh --threads {threads}"));
        scratch.files()
    };
    let one = made(1);
    assert!(one == made(2) && one == made(5));
}

#[test]
fn wrong_studies_are_told_where_they_are_wrong() {
    let scratch = scratch(STUDY);
    for (study, expected) in [
        ("service = \"service.toml\"\n[grid]\nlayout.tensr = [1]", "did you mean `layout.tensor`?"),
        ("service = \"service.toml\"\n[gird]\nlayout.tensor = [1]", "did you mean `grid`?"),
        ("service = \"service.toml\"\n[grid]\ngpu = [\"h20-sxm\"]", "did you mean `h200-sxm`?"),
        ("service = \"service.toml\"\n[grid]\nload.set.clinets = [1]", "did you mean `clients`?"),
        ("service = \"service.toml\"\n[grid]\nlayout.tensor = 1", "expected a list of values"),
        ("service = \"service.toml\"\n", "no points"),
        ("service = \"nothing.toml\"\n[grid]\nreplicas = [1]", "nothing.toml"),
        ("service = \"service.toml\"\n[grid]\nreplicas = [0]", "no point can exist"),
        (
            "service = \"service.toml\"\n[[linked]]\nreplicas = [1, 2]\nlayout.tensor = [1]",
            "expected 1, as for layout.tensor",
        ),
    ] {
        scratch.write("wrong.toml", study);
        let error = refused(&scratch, "study wrong.toml --out wrong");
        assert!(error.contains(expected), "{error}");
    }
}

/// Rows of `capacity` for a rate.
fn capacity(scratch: &Scratch, more: &str) -> Value {
    scratch.json(&format!("capacity capacity.toml --goodput 0.9 --duration 2s {more}"))
}

#[test]
fn the_fewest_replicas_hold_and_one_fewer_does_not() {
    let scratch = scratch(STUDY);
    let answer = capacity(&scratch, "--rate 300 --price 2");
    let row = &answer["rows"][0];
    let (holds, beyond) = (&row["holds"], &row["beyond"]);
    let replicas = |verdict: &Value| verdict["replicas"][0].as_u64().unwrap();
    assert!(replicas(holds) > 1, "{row}");
    assert_eq!(replicas(holds), replicas(beyond) + 1);
    assert_eq!((&holds["holds"], &beyond["holds"]), (&json!(true), &json!(false)));
    assert!(holds["goodput"].as_f64().unwrap() >= 0.9);
    assert!(beyond["goodput"].as_f64().unwrap() < 0.9);
    assert_eq!(holds["breaks_first"], Value::Null);
    assert_eq!(beyond["breaks_first"]["limit"], json!("TTFT"));
    // 16 tokens an answer at 300 requests a second, for 2 an hour and GPU.
    let cost = 2.0 * holds["gpus"].as_f64().unwrap() / (300.0 * 16.0 * 3_600.0) * 1e6;
    let found = row["cost_per_million_output_tokens"].as_f64().unwrap();
    assert!((found / cost - 1.0).abs() < 1e-9, "{found} for {cost}");
    assert_eq!(answer, capacity(&scratch, "--rate 300 --price 2 --threads 1"));
}

#[test]
fn more_requests_need_no_fewer_replicas_and_the_largest_rate_holds() {
    let scratch = scratch(STUDY);
    let fewest: Vec<u64> = [50, 200, 800]
        .map(|rate| {
            let answer = capacity(&scratch, &format!("--rate {rate}"));
            answer["rows"][0]["holds"]["replicas"][0].as_u64().unwrap()
        })
        .to_vec();
    assert!(fewest.is_sorted() && fewest[0] < fewest[2], "{fewest:?}");
    let row = &capacity(&scratch, "--rate-max")["rows"][0];
    let rate = |verdict: &str| row[verdict]["rate"].as_f64().unwrap();
    assert!(rate("beyond") > rate("holds") && rate("beyond") < rate("holds") * 1.02, "{row}");
    assert_eq!((&row["holds"]["holds"], &row["beyond"]["holds"]), (&json!(true), &json!(false)));
}

#[test]
fn a_gpu_that_is_too_small_is_a_row_with_what_would_do() {
    let scratch = scratch(STUDY);
    let large = CAPACITY.replace("olmoe-1b-7b", "mixtral-8x7b");
    scratch.write("capacity.toml", large);
    let answer = capacity(&scratch, "--rate 10 --gpu h100-sxm,h200-sxm");
    let [small, large] = answer["rows"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert!(small["skipped"].as_str().unwrap().contains("weights"), "{small}");
    assert_eq!(small["fits_from"], json!({ "gpus": 2, "layout": "TP2 DP1 EP1 x TP2" }));
    assert_eq!(large["skipped"], Value::Null);
    let text = scratch.ok("capacity capacity.toml --rate 10 --gpu h100-sxm --goodput 0.9");
    assert!(text.contains("2 GPUs a replica are enough"), "{text}");
}

#[test]
fn questions_without_an_answer_are_refused() {
    let scratch = scratch(STUDY);
    scratch.write("free.toml", CAPACITY.replace("ttft_ms = 300", ""));
    let slow = "capacity capacity.toml --duration 1s --goodput 0.9";
    for (line, expected) in [
        ("capacity free.toml", "no limits"),
        ("capacity service.toml --ttft 1s", "closed-loop; expected requests that arrive by rate"),
        ("capacity capacity.toml --goodput 1.5", "expected a share"),
        ("capacity capacity.toml --rate 0", "expected requests per second above 0"),
        ("capacity capacity.toml --ttft 20", "it has no unit"),
        ("capacity capacity.toml --layout tp0x", "expected parts such as tp8"),
        ("capacity capacity.toml --price 1,2", "expected one"),
        ("capacity capacity.toml --gpu h20-sxm", "did you mean `h200-sxm`?"),
    ] {
        let error = refused(&scratch, line);
        assert!(error.contains(expected), "{error}");
    }
    // What nothing holds is an answer: a limit below what an idle replica takes.
    let row = &scratch.json(&format!("{slow} --ttft 1us --replicas-max 3"))["rows"][0];
    assert_eq!((&row["holds"], &row["beyond"]["replicas"]), (&Value::Null, &json!([3])));
}

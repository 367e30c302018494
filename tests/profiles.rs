//! Profiles of measured kernels: the commands, the shipped ones, and what is refused.

use std::path::Path;

use moecast_profiles::builtin;
use moecast_profiles::profile::Profile;
use serde_json::{Value, json};

use crate::bad_input::check;
use crate::support::Scratch;

const IMPORT: &str =
    "profile import nccl-tests all_reduce_perf.txt --system h200-sxm -o my.profile";

/// A scratch folder with the output of a benchmark. Its times are a closed form with 1.5% of
/// noise: nobody measured them.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/all_reduce_perf.txt");
    std::fs::copy(data, scratch.path("all_reduce_perf.txt")).unwrap();
    scratch
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[test]
fn a_benchmark_becomes_a_profile_that_answers_it() {
    let scratch = scratch();
    let made = scratch.json(&format!("{IMPORT} --samples my.jsonl"));
    assert_eq!(made["tables"][0]["family"], json!("all-reduce"));
    assert_eq!(made["tables"][0]["samples"], json!(21));
    // The noise is 1.5%: held-out points are not far from it.
    assert!(number(&made, "/tables/0/errors/grid/median") < 0.04);
    assert_eq!(scratch.json("profile show my.profile")["tables"], made["tables"]);
    let found = scratch.json("profile check my.profile --against my.jsonl");
    assert_eq!(found["kernels"][0]["errors"]["points"], json!(21));
    assert_eq!(found["kernels"][0]["sources"]["measured"], json!(21));
    assert!(number(&found, "/kernels/0/errors/p90") < 0.003, "a measured point is stored");
    // The same samples give the same bytes, by whichever command.
    scratch.ok("profile fit my.jsonl -o again.profile");
    assert!(scratch.read("again.profile") == scratch.read("my.profile"));
}

#[test]
fn a_profile_that_is_too_far_off_fails_on_request() {
    let scratch = scratch();
    scratch.ok(&format!("{IMPORT} --samples my.jsonl"));
    let samples = String::from_utf8(scratch.read("my.jsonl")).unwrap();
    // A machine that is half as fast: every time doubled.
    let slow: Vec<String> = samples
        .lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            if let Some(time) = value["time_us"].as_f64() {
                value["time_us"] = json!(time * 2.0);
            }
            value.to_string()
        })
        .collect();
    scratch.write("slow.jsonl", slow.join("\n") + "\n");
    let line = "profile check my.profile --against slow.jsonl --fail-above 0.1";
    let answer = scratch.run(line);
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains("median error 50.0%"), "{}", answer.stderr);
    scratch.ok("profile check my.profile --against my.jsonl --figure my.svg");
    assert!(String::from_utf8(scratch.read("my.svg")).unwrap().contains("all-reduce"));
    // Refused before anything is read.
    let answer = scratch.run("profile check none.profile --against my.jsonl --figure my.pdf");
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains("ends in .svg or .png"), "{}", answer.stderr);
}

#[test]
fn wrong_profiles_and_samples_are_one_line() {
    let scratch = scratch();
    scratch.ok(&format!("{IMPORT} --samples my.jsonl"));
    let text = String::from_utf8(scratch.read("my.jsonl")).unwrap();
    let line = "profile fit bad.jsonl -o new.profile";
    for (from, to, parts) in [
        ("\"bytes\":1024,", "\"bytes\":0,", vec!["all-reduce", "bytes 0"]),
        ("\"bytes\":1024,", "", vec!["line 2", "no `bytes`"]),
        ("\"time_us\":", "\"time_us\":-", vec!["line 2", "above 0"]),
        ("\"moecast_samples\":1", "\"moecast_samples\":9", vec!["line 1", "version 9"]),
        ("\"gpus\":8", "\"gpus\":99999999", vec!["gpus 99999999"]),
    ] {
        assert!(text.contains(from), "{from}");
        scratch.write("bad.jsonl", text.replacen(from, to, 1));
        check(&scratch, line, &parts);
    }
    scratch.write("cut.profile", &scratch.read("my.profile")[..200]);
    check(&scratch, "profile show cut.profile", &["cut.profile", "expected"]);
    scratch.write("text.profile", "no archive");
    check(&scratch, "profile show text.profile", &["text.profile", "no zip archive"]);
    check(&scratch, "profile show h200-sxm-sglan", &["h200-sxm-sglang"]);
    check(&scratch, "profile import nccl-test x -o y", &["did you mean `nccl-tests`?"]);
    check(&scratch, "profile calibrate --device gpu -o y.profile", &["expected cpu or cuda"]);
    let same = "profile fit my.jsonl -o my.jsonl";
    check(&scratch, same, &["my.jsonl"]);
}

#[test]
fn a_cluster_is_shown_with_its_links_and_taken_as_a_file() {
    let scratch = scratch();
    let shown = scratch.ok("profile show hgx-h100:12");
    for part in ["12 x node", "8 x leaf", "PCIe switch", "rails", "bisection 2.40 TB/s"] {
        assert!(shown.contains(part), "no {part} in:\n{shown}");
    }
    let json = scratch.json("profile show leaf-spine-h100:8");
    assert_eq!((json["nodes"].as_u64(), json["gpus_per_node"].as_u64()), (Some(8), Some(8)));
    assert_eq!(json["bisection"], "6400 Gbit/s");
    let own = "device = \"h100-sxm\"\nnodes = 2\ngpus_per_node = 4\n";
    scratch.write("own.toml", own);
    assert_eq!(scratch.json("profile show own.toml")["spec"], "own.toml:2x4");
    assert_eq!(scratch.json("profile show own.toml:3")["spec"], "own.toml:3x4");
    scratch.write("bad.toml", own.replace("nodes", "node"));
    check(&scratch, "profile show bad.toml", &["bad.toml", "line 2", "expected `nodes`"]);
    check(&scratch, "profile show none.toml", &["none.toml"]);
    check(&scratch, "profile show hgx-h100:0", &["0 GPUs", "between 1 and 4096"]);
}

#[test]
fn a_profile_of_a_newer_version_is_called_newer() {
    let scratch = scratch();
    scratch.ok(IMPORT);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(scratch.read("my.profile")))
        .expect("profiles are zip archives");
    let mut json = String::new();
    std::io::Read::read_to_string(&mut archive.by_name("profile.json").unwrap(), &mut json)
        .unwrap();
    let mut newer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    newer.start_file("profile.json", options).unwrap();
    let text = json.replace("\"moecast_profile\":1", "\"moecast_profile\":2,\"more\":true");
    std::io::Write::write_all(&mut newer, text.as_bytes()).unwrap();
    scratch.write("newer.profile", newer.finish().unwrap().into_inner());
    check(&scratch, "profile show newer.profile", &["newer.profile", "version 2"]);
}

/// What people read about the shipped profiles: `profiles/builtin/profiles/README.md`.
fn shipped_errors() -> String {
    let mut text = include_str!("data/profiles_readme_head.md").to_owned();
    for preset in builtin::PROFILES {
        let profile = builtin::profile(preset.name).unwrap();
        text += &format!(
            "\n## {}\n\n{}, {} kB, ",
            preset.name,
            preset.about,
            preset.bytes.len() / 1000
        );
        text +=
            &format!("{} samples.\n\n", profile.tables().iter().map(|t| t.samples).sum::<u64>());
        text += "| kernel | variant | samples | held out | p90 | unseen shape | form alone |\n";
        text += "|---|---|---|---|---|---|---|\n";
        for row in profile.summary() {
            let percent = |points: u64, value: f64| {
                if points == 0 { "-".to_owned() } else { format!("{:.1}", value * 100.0) }
            };
            let errors = row.errors;
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                row.family.name(),
                row.variant,
                row.samples,
                percent(errors.grid.points, errors.grid.median),
                percent(errors.grid.points, errors.grid.p90),
                percent(errors.shape.points, errors.shape.median),
                percent(errors.form.points, errors.form.median),
            );
        }
        for flag in &profile.flags {
            text += &format!("\n- {flag}");
        }
        if !profile.flags.is_empty() {
            text += "\n";
        }
    }
    text
}

/// A change of form that worsens a fit changes this page, and so is seen.
#[test]
fn the_errors_of_shipped_profiles_are_what_their_page_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/builtin/profiles/README.md");
    let expected = shipped_errors();
    if std::env::var_os("MOECAST_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is outdated: MOECAST_BLESS=1 writes it", path.display());
}

/// Measured points of every shipped profile, a few per kernel: a form that changed without its
/// constants would miss them.
#[test]
fn shipped_profiles_answer_points_that_were_measured() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/tests-data/samples");
    for preset in builtin::PROFILES {
        let profile: Profile = builtin::profile(preset.name).unwrap();
        assert!(preset.bytes.len() < 1_000_000, "{}: {} bytes", preset.name, preset.bytes.len());
        let path = folder.join(format!("{}.jsonl", preset.name));
        let shown = path.display().to_string();
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let samples =
            moecast_profiles::sample::read_samples(&mut bytes.as_slice(), &shown).unwrap();
        let mut errors = Vec::new();
        for checked in profile.check(&samples.samples) {
            assert_eq!(checked.unanswered, 0, "{}: {}", preset.name, checked.variant);
            errors.push(checked.errors.median);
        }
        errors.sort_by(f64::total_cmp);
        let median = errors[errors.len() / 2];
        assert!(median < 0.005, "{}: median of kernels {median}", preset.name);
        let wrong = errors.iter().filter(|error| **error > 0.1).count();
        assert!(wrong * 20 <= errors.len(), "{}: {errors:?}", preset.name);
    }
}

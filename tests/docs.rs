//! The documentation's commands run as they are written.

use std::path::Path;

use crate::support::{Scratch, tiny_config};

/// Commands of the `sh` blocks of `document` that call `moecast`, joined where a line continues.
fn commands(document: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut inside = false;
    for line in joined.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && let Some(arguments) = line.trim().strip_prefix("moecast ") {
            found.push(arguments.to_owned());
        }
    }
    found
}

/// Copies the recordings of `tests/data` into the scratch folder.
fn copy_recordings(scratch: &Scratch) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for folder in ["", "routed_experts", "expert_statistic"] {
        std::fs::create_dir_all(scratch.path(folder)).unwrap();
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap();
                std::fs::copy(&path, scratch.path(folder).join(name)).unwrap();
            }
        }
    }
}

#[test]
fn the_readme_does_what_it_says() {
    let commands = commands("README.md");
    assert!(commands.len() >= 15, "{commands:?}");
    let scratch = Scratch::new();
    copy_recordings(&scratch);
    scratch.write("config.json", tiny_config(4, 16));
    for command in commands {
        scratch.ok(&command);
    }
}

/// The example's plan is what planning says today, and its scenario runs as it stands.
#[test]
fn the_example_is_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    scratch.ok(&format!(
        "plan --trace {0}/traces/sample/sample.safetensors \
         --model {0}/traces/sample/moecast-sample-8x32.json --cluster h200-sxm:1x8 --redundant 8 \
         --out plan",
        root.display()
    ));
    let example = std::fs::read(root.join("examples/sample/plan.json")).unwrap();
    assert!(scratch.read("plan/plan.json") == example, "examples/sample/plan.json is outdated");
    let scenario = root.join("examples/sample/scenario.toml");
    scratch.ok(&format!("simulate {} --out run", scenario.display()));
}

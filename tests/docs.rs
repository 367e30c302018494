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

//! The documentation's commands run as they are written.

use std::path::Path;

use crate::support::{Scratch, tiny_config, tiny_recording};

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

#[test]
fn the_readme_does_what_it_says() {
    let commands = commands("README.md");
    assert!(commands.len() >= 5, "{commands:?}");
    let scratch = Scratch::new();
    scratch.write("recording.jsonl", tiny_recording(200, 4, 16));
    scratch.write("config.json", tiny_config(4, 16));
    for command in commands {
        scratch.ok(&command);
    }
}

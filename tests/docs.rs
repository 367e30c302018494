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

/// Commands of the `console` blocks that call `moecast`, and the lines that they are said to print.
fn sessions(document: &str) -> Vec<(String, Vec<String>)> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let (mut inside, mut ours) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            (inside, ours) = (line == "```console", false);
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            ours = command.starts_with("moecast ");
            if ours {
                found.push((command["moecast ".len()..].to_owned(), Vec::new()));
            }
        } else if ours && let Some((_, lines)) = found.last_mut() {
            lines.push(line.to_owned());
        }
    }
    found
}

/// `line` with one mark for every figure and every gap: models of kernels become better, and with
/// them the figures.
fn shape(line: &str) -> String {
    let is_figure = |word: &&str| {
        word.starts_with(|letter: char| letter.is_ascii_digit())
            && word.chars().all(|letter| letter.is_ascii_digit() || ".%".contains(letter))
    };
    let words = line.split_whitespace();
    words.map(|word| if is_figure(&word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Copies the files of `from`, a folder of the repository, into `to` of the scratch folder.
fn copy(scratch: &Scratch, from: &str, to: &str) {
    std::fs::create_dir_all(scratch.path(to)).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, scratch.path(to).join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A folder that holds the recordings of `tests/data` and what the documentation names by path.
fn folder() -> Scratch {
    let scratch = Scratch::new();
    for folder in ["", "routed_experts", "expert_statistic"] {
        copy(&scratch, &format!("tests/data/{folder}"), folder);
    }
    let examples = ["offload", "sample", "serving", "studies", "systems"]
        .map(|name| format!("examples/{name}"));
    for folder in examples.iter().map(String::as_str).chain(["traces/sample"]) {
        copy(&scratch, folder, folder);
    }
    scratch.write("config.json", tiny_config(4, 16));
    scratch
}

#[test]
fn the_readme_does_what_it_says() {
    let commands = commands("README.md");
    assert!(commands.len() >= 15, "{commands:?}");
    let scratch = folder();
    for command in commands {
        scratch.ok(&command);
    }
}

#[test]
fn the_readme_shows_what_commands_print() {
    let sessions = sessions("README.md");
    assert!(sessions.len() >= 2, "{sessions:?}");
    let scratch = folder();
    for (command, lines) in sessions {
        let printed = scratch.ok(&command);
        let shapes: Vec<String> = printed.lines().map(shape).collect();
        for line in lines {
            assert!(shapes.contains(&shape(&line)), "`{command}` prints no `{line}`:\n{printed}");
        }
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

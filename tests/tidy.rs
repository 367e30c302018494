//! Rules of the house that a machine can check, so that nobody has to remember them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moecast_planner::{algorithms, export, memory};
use moecast_profiles::registry::Named;
use moecast_profiles::{builtin, cost, engine};
use moecast_reports::figures;
use moecast_traces::requests::{self, generators};
use moecast_traces::synth::{presets, recipe};
use moecast_traces::{export as trace_export, import};

/// The rooms from left to right: a crate may use any to its left.
const ROOMS: [&str; 5] = ["profiles", "traces", "sim", "planner", "reports"];

/// Longest line, function and file, in characters and lines.
const LINE_MAX: usize = 100;
const FUNCTION_MAX: usize = 70;
const FILE_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below `folder`, sorted.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let rooms = ["planner", "profiles", "reports", "sim", "src", "traces"];
    let beside = ["benches", "fuzz/fuzz_targets", "fuzz/src", "tests"];
    rooms.into_iter().chain(beside).flat_map(sources).collect()
}

fn manifest(folder: &str) -> String {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap()
}

#[test]
fn arrows_point_left_only() {
    for (index, room) in ROOMS.iter().enumerate() {
        for right in &ROOMS[index..] {
            let name = format!("moecast-{right}");
            let depends = manifest(room).lines().any(|line| line.starts_with(&format!("{name}.")));
            assert!(!depends, "{room} must not depend on {name}");
            for (path, text) in sources(&format!("{room}/src")) {
                let used = format!("moecast_{right}::");
                // Examples in comments are written as their readers would write them.
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let uses = code.clone().any(|line| line.contains(&used));
                assert!(!uses, "{} uses {used}", path.display());
            }
        }
    }
}

#[test]
fn each_guest_has_its_own_room() {
    let guests: BTreeMap<&str, &str> = BTreeMap::from([
        ("clap", "."),
        ("cudarc", "profiles"),
        ("good_lp", "planner"),
        ("indicatif", "."),
        ("plotters", "reports"),
        ("terminal_size", "."),
    ]);
    for (guest, home) in guests {
        for room in ROOMS.into_iter().chain(["."]).filter(|room| *room != home) {
            let manifest = manifest(room);
            let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]");
            let found = dependencies.filter(|line| line.starts_with(&format!("{guest}."))).count();
            assert_eq!(found, 0, "{guest} is used in {room}; it lives in {home}");
        }
    }
    for (path, text) in sources("profiles/src") {
        let at_home = path.starts_with("profiles/src/measure") || path.ends_with("measure.rs");
        assert!(at_home || !text.contains("cudarc::"), "{} uses cudarc", path.display());
    }
}

/// Clock, environment and terminal belong to the binary.
#[test]
fn libraries_do_not_touch_the_world() {
    let worldly =
        ["std::env::", "Instant::now", "SystemTime", "println!", "eprintln!", "process::exit"];
    for room in ROOMS {
        for (path, text) in sources(&format!("{room}/src")) {
            let tests = path.components().any(|part| {
                ["tests", "tests.rs", "testing.rs"].iter().any(|name| part.as_os_str() == *name)
            });
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            // The microbenchmarks are there to read the clock, and touch nothing else.
            let times = path.starts_with("profiles/src/measure");
            for word in worldly.iter().filter(|word| !(tests || times && **word == "Instant::now"))
            {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn lines_functions_and_files_are_short() {
    let mut long = Vec::new();
    for (path, text) in all_sources() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_MAX {
            long.push(format!("{}: {} lines", path.display(), lines.len()));
        }
        for (number, line) in lines.iter().enumerate() {
            if line.chars().count() > LINE_MAX {
                long.push(format!("{}:{}: long line", path.display(), number + 1));
            }
        }
        long.extend(long_functions(&path, &lines));
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// A function ends at the first closing brace that is indented as its `fn` line.
fn long_functions(path: &Path, lines: &[&str]) -> Vec<String> {
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn "]
            .iter()
            .any(|prefix| code.starts_with(prefix));
        if !is_function || code.ends_with(';') || code.ends_with('}') {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| **line == closing).unwrap_or(0) + 1;
        if length > FUNCTION_MAX {
            long.push(format!("{}:{}: {length} lines", path.display(), start + 1));
        }
    }
    long
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in halves, so that this list does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (path, text) in all_sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{} holds {mark}", path.display());
        }
    }
}

fn names<E: Named>(all: &'static [E]) -> Vec<&'static str> {
    all.iter().map(Named::name).collect()
}

/// Every registry: a newcomer reads the names in the README and finds them sorted.
#[test]
fn registries_are_alphabetical_and_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let registries = [
        ("algorithms", names(algorithms::ALL)),
        ("cache-policies", names(moecast_sim::cache::ALL)),
        ("clusters", names(builtin::CLUSTERS)),
        ("compute-targets", names(moecast_sim::offload::target::ALL)),
        ("costs", names(cost::ALL)),
        ("engines", names(engine::ALL)),
        ("exchanges", names(cost::exchange::ALL)),
        ("exporters", names(export::ALL)),
        ("figures", names(figures::ALL)),
        ("hardware", names(builtin::HARDWARE)),
        ("importers", names(import::ALL)),
        ("kernel-tables", names(moecast_profiles::import::ALL)),
        ("knobs", names(recipe::KNOBS)),
        ("memory-exporters", names(memory::export::ALL)),
        ("models", names(builtin::MODELS)),
        ("precision-policies", names(memory::bits::ALL)),
        ("prefetchers", names(moecast_sim::prefetch::ALL)),
        ("presets", names(presets::ALL)),
        ("profiles", names(builtin::PROFILES)),
        ("request-formats", names(requests::ALL)),
        ("request-generators", names(generators::ALL)),
        ("routing-rules", names(moecast_sim::offload::rule::ALL)),
        ("trace-exporters", names(trace_export::ALL)),
    ];
    for (family, names) in registries {
        assert!(!names.is_empty(), "{family} is empty");
        assert!(names.is_sorted_by(|a, b| a < b), "{family} is not alphabetical: {names:?}");
        for name in names {
            assert!(readme.contains(&format!("`{name}`")), "README.md lacks {family} `{name}`");
        }
    }
}

#[test]
fn the_architecture_names_every_folder_and_stays_short() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 250, "{} lines", text.lines().count());
    for room in ROOMS {
        for entry in std::fs::read_dir(root().join(room).join("src")).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let known =
                ["error", "lib", "testing"].contains(&stem) || text.contains(&format!("`{stem}`"));
            assert!(known, "ARCHITECTURE.md lacks `{stem}` of {room}");
        }
    }
}

//! What holds for every importer, and the helpers of its tests.

use std::path::PathBuf;

use moecast_profiles::builtin;
use moecast_profiles::model::ModelShape;
use tempfile::TempDir;

use super::*;
use crate::trace::Events;

mod imatrix;
#[cfg(target_os = "linux")]
mod large;
mod limits;
mod malformed;
mod per_token;
mod real;
mod responses;
mod sglang;
mod text_formats;
mod trtllm;
mod vllm;

pub(super) fn ignore_progress(_: u64) {}

/// A file of its own folder, which goes when the first value is dropped.
pub(super) fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub(super) fn model(name: &str) -> ModelShape {
    builtin::model(name).unwrap()
}

/// Imports files of the given names and contents; errors name them without their folder.
fn import(
    format: &str,
    model: Option<&ModelShape>,
    files: &[(&str, &[u8])],
) -> std::result::Result<RoutingTrace, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, bytes)) in paths.iter().zip(files) {
        std::fs::write(path, bytes).unwrap();
    }
    import_paths(format, model, &paths)
        .map_err(|error| error.replace(&format!("{}/", folder.path().display()), ""))
}

fn import_paths(
    format: &str,
    model: Option<&ModelShape>,
    paths: &[PathBuf],
) -> std::result::Result<RoutingTrace, String> {
    read(format, Input { paths, model, progress: &ignore_progress, spill: None })
        .map_err(|error| error.to_string())
}

fn counts(trace: &RoutingTrace) -> &[u32] {
    match trace.events() {
        Events::Counts(columns) => &columns.counts,
        Events::Tokens(_) => panic!("a token recording"),
    }
}

/// The smallest good recording of every format: a new importer adds its own here.
fn smallest(name: &str) -> (&'static str, Vec<u8>) {
    use zip::CompressionMethod;

    use super::npy::tests::array as npy;
    use super::torch::write::{per_pass, stat};
    match name {
        "counts-csv" => ("a.csv", b"layer,expert,count\n3,1,7\n".to_vec()),
        "gguf-imatrix" => ("a.gguf", imatrix::smallest()),
        "jsonl-layers" => ("a.jsonl", b"{\"tok\": 1, \"layers\": [[0, 2], [1]]}\n".to_vec()),
        "route-trace-csv" => ("a.csv", text_formats::ROUTE_TRACE.as_bytes().to_vec()),
        "sglang-per-pass" => ("a.pt", per_pass([1, 3], &[0, 1, 0], &[(4, 0, &[1, 2, 3])]).file()),
        "sglang-per-token" => ("a.pt", per_token::smallest()),
        "sglang-routed-experts" => ("a.json", responses::response(&[0, 0, 3, 1, 2, 0], (1, 1))),
        "sglang-stat" => ("a.pt", stat(0, [2, 1, 2], &[1, 2, 3, 4]).file()),
        "trtllm-statistics" => ("rank0.safetensors", trtllm::rank(&[("7_3", &[1, 0, 2])])),
        "vllm-routed-experts" => {
            let array = npy([2, 1, 2], &[0, 1, 2, 1]);
            ("a.npz", vllm::npz(&[("a.npy", &array)], CompressionMethod::Stored))
        }
        other => panic!("no example of `{other}`: add one"),
    }
}

/// A model of three layers, the first of them dense, with four experts of which two are chosen.
fn tiny() -> ModelShape {
    ModelShape {
        name: "tiny".to_owned(),
        hidden_layers: 3,
        moe_layers: vec![1, 2],
        experts: 4,
        top_k: 2,
        ..model("olmoe-1b-7b")
    }
}

/// The model that the smallest recording cannot be read without.
fn smallest_model(name: &str) -> Option<ModelShape> {
    (name == "sglang-routed-experts").then(tiny)
}

/// Imports one file of the format `name` with the model that it needs.
fn import_one(name: &str, file: (&str, &[u8])) -> std::result::Result<RoutingTrace, String> {
    import(name, smallest_model(name).as_ref(), &[file])
}

#[test]
fn names_are_alphabetical_and_described() {
    assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
    for entry in ALL {
        assert!(!entry.about.is_empty() && !entry.about.contains('\n'), "{}", entry.name);
        assert!(!entry.extensions.is_empty(), "{}", entry.name);
    }
}

#[test]
fn auto_finds_every_format_and_no_two_claim_one_file() {
    for entry in ALL {
        let (name, bytes) = smallest(entry.name);
        let claims: Vec<&str> = ALL
            .iter()
            .filter(|other| (other.recognise)(Path::new(name), &bytes))
            .map(|other| other.name)
            .collect();
        assert_eq!(claims, [entry.name]);
        let found = import("auto", smallest_model(entry.name).as_ref(), &[(name, &bytes)]).unwrap();
        assert_eq!(found, import_one(entry.name, (name, &bytes)).unwrap());
    }
}

/// The same bytes give the same trace wherever they lie: header, remarks and digests included.
#[test]
fn a_trace_does_not_know_its_folder() {
    for entry in ALL {
        let (name, bytes) = smallest(entry.name);
        let once = import_one(entry.name, (name, &bytes)).unwrap();
        assert_eq!(once, import_one(entry.name, (name, &bytes)).unwrap());
        let input = &once.header().inputs[0];
        assert_eq!((input.name.as_str(), input.bytes), (name, bytes.len() as u64));
        assert_eq!(once.header().source, entry.name);
    }
}

#[test]
fn an_unknown_format_and_an_unknown_file_list_the_importers() {
    let files: [(&str, &[u8]); 1] = [("a.bin", b"\x00\x01")];
    let list = "counts-csv, gguf-imatrix, jsonl-layers, route-trace-csv, sglang-per-pass, \
                sglang-per-token, sglang-routed-experts, sglang-stat, trtllm-statistics, \
                vllm-routed-experts";
    assert_eq!(
        import("sglang-stats", None, &files).unwrap_err(),
        format!("find importer `sglang-stats`: did you mean `sglang-stat`? valid names are {list}")
    );
    assert_eq!(
        import("auto", None, &files).unwrap_err(),
        format!("a.bin: no importer recognises this file; name one with --format: {list}")
    );
}

#[test]
fn a_trace_of_ours_needs_no_import() {
    let (name, bytes) = smallest("counts-csv");
    let trace = import("auto", None, &[(name, &bytes)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.trace");
    let mut file = File::create(&path).unwrap();
    crate::format::write(&trace, "a.trace", &mut file).unwrap();
    let error = import_paths("auto", None, &[path]).unwrap_err();
    let expected = "start of the file: a moecast trace; \
                    expected a foreign recording: this one needs no import";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_folder_is_its_files_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("b.csv", "layer,expert,count\n0,0,2\n");
    put("a.csv", "layer,expert,count\n0,0,1\n");
    put("notes.txt", "not a recording");
    std::fs::create_dir(folder.path().join("c.csv")).unwrap();
    for format in ["auto", "counts-csv"] {
        let trace = import_paths(format, None, &[folder.path().to_owned()]).unwrap();
        assert_eq!(counts(&trace), [1, 2]);
    }
    let error = import_paths("sglang-stat", None, &[folder.path().to_owned()]).unwrap_err();
    assert!(error.ends_with("folder: no recording; expected files that end in .pt"), "{error}");
    let nothing = import_paths("auto", None, &[]).unwrap_err();
    assert_eq!(nothing, "input: list of files: no file; expected at least one file");
}

/// Whatever is spilled, the trace is the same, and the bytes of one that is never held.
#[test]
fn a_budget_changes_nothing() {
    for entry in ALL {
        let (name, bytes) = smallest(entry.name);
        let (folder, path) = file(name, &bytes);
        let model = smallest_model(entry.name);
        let held = import_one(entry.name, (name, &bytes)).unwrap();
        let mut expected = Vec::new();
        crate::format::write(&held, "t", &mut expected).unwrap();
        for budget_bytes in [0, 5, 50] {
            let spill = Spill { folder: folder.path().to_owned(), budget_bytes };
            let paths = std::slice::from_ref(&path);
            let (model, progress) = (model.as_ref(), &ignore_progress);
            let input = Input { paths, model, progress, spill: Some(&spill) };
            assert_eq!(read(entry.name, input).unwrap(), held, "{}", entry.name);
            let mut written = Vec::new();
            build(entry.name, input).unwrap().write_to("t", &mut written).unwrap();
            assert!(written == expected, "{}: {budget_bytes}", entry.name);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}

#[test]
fn progress_ends_at_the_size_of_the_files() {
    for entry in ALL {
        let (name, bytes) = smallest(entry.name);
        let (_folder, path) = file(name, &bytes);
        let last = Cell::new(0);
        let tell = |read| last.set(read);
        let paths = [path];
        let model = smallest_model(entry.name);
        let input = Input { paths: &paths, model: model.as_ref(), progress: &tell, spill: None };
        read(entry.name, input).unwrap();
        assert!((1..=bytes.len() as u64).contains(&last.get()), "{}", entry.name);
    }
}

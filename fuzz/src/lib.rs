//! What the targets share: readers take paths, so bytes become files first.
//!
//! A target asks nothing but that a reader answers: with a recording or with an error, within
//! bounded memory. Crashes, hangs and allocations beyond the limits of `fuzz/run` are findings.

use std::path::PathBuf;
use std::sync::OnceLock;

use moecast_profiles::builtin;
use moecast_profiles::model::ModelShape;
use moecast_traces::Spill;
use moecast_traces::import::{self, Input};

/// The file called `name` of this process with `bytes` in it. `fuzz/run` points `TMPDIR` at memory.
///
/// # Panics
/// When it cannot be written.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("moecast-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the inputs");
        folder
    });
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("an input");
    path
}

/// Reads a recording of `format`; where it is one, measures its loads, which looks at every pick.
pub fn import(format: &str, paths: &[PathBuf], model: Option<&ModelShape>) {
    // A budget so small that spilling is tested too.
    let spill = Spill { folder: std::env::temp_dir(), budget_bytes: 4096 };
    let input = Input { paths, model, progress: &|_| {}, spill: Some(&spill) };
    if let Ok(trace) = import::read(format, input) {
        let _ = moecast_traces::stats::load::per_layer(&trace);
    }
}

/// A small model, for formats that do not say what they are recordings of.
///
/// # Panics
/// When the preset is gone.
pub fn model() -> &'static ModelShape {
    static MODEL: OnceLock<ModelShape> = OnceLock::new();
    MODEL.get_or_init(|| builtin::model("olmoe-1b-7b").expect("a preset"))
}

/// Every format of `torch.save` files.
pub const TORCH: [&str; 3] = ["sglang-per-pass", "sglang-per-token", "sglang-stat"];

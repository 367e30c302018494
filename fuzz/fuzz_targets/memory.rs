//! Memory plans, tables of quantisation errors, and what exporters of memory plans read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_planner::MemoryPlan;
use moecast_planner::memory::bits::Errors;
use moecast_planner::memory::export::{ALL, Context, File, Setting};

fuzz_target!(|bytes: &[u8]| {
    let _ = Errors::read(bytes, "errors.csv", &[1, 2], 4);
    let setting = Setting { gpu_bytes: Some(1 << 34), ..Setting::default() };
    let context = Context {
        path: "f".to_owned(),
        layers: vec![1, 2],
        hidden_layers: Some(3),
        experts: 4,
        layer_bytes: vec![400, 400],
        setting,
    };
    let names = [
        "experts.csv",
        "ktransformers.args",
        "ktransformers.npy",
        "llama.cpp.args",
        "moe_infinity.json",
        "vllm.args",
    ];
    let file = |name: &str| File { name: name.to_owned(), bytes: bytes.to_vec() };
    let files: Vec<File> = names.into_iter().map(file).collect();
    for entry in ALL {
        let _ = (entry.read)(&files, &context);
    }
    if let Ok(plan) = MemoryPlan::read(bytes, "memory.json") {
        // What was read can be written, and is then the same plan.
        let again = MemoryPlan::read(plan.to_json().as_bytes(), "again").expect("a plan");
        assert_eq!(plan, again);
        for entry in ALL {
            let Ok(written) = (entry.write)(&plan, &setting) else { continue };
            let context = Context::of(&plan, setting, "f");
            let read = (entry.read)(&written.files, &context).expect("what was written");
            assert_eq!(read, written.residency);
        }
    }
});

//! The same inputs give the same bytes, on any number of threads.

use crate::commands::imported;
use crate::support::Scratch;

fn everything(threads: u32) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let scratch = imported();
    let threads = format!("--threads {threads}");
    scratch.ok(&format!(
        "plan --trace trace.safetensors --model config.json --cluster h200-sxm:1x4 --redundant 4 \
         --engine sglang,trtllm --out plan {threads}"
    ));
    scratch.ok(&format!(
        "simulate --trace trace.safetensors --plan plan/plan.json --model config.json --out run \
         {threads}"
    ));
    scratch.ok(&format!("trace stats trace.safetensors --out run {threads}"));
    scratch.ok(&format!("report run {threads}"));
    scratch.ok(&format!("trace split trace.safetensors --out parts {threads}"));
    scratch.ok(&format!("trace export npz trace.safetensors -o trace.npz {threads}"));
    scratch.files()
}

#[test]
fn runs_and_thread_counts_give_the_same_files() {
    let first = everything(1);
    assert!(first.len() > 20, "{} files", first.len());
    for again in [everything(1), everything(2)] {
        for ((name, bytes), (name_again, bytes_again)) in first.iter().zip(&again) {
            assert_eq!(name, name_again);
            assert!(bytes == bytes_again, "{} differs", name.display());
        }
        assert_eq!(first.len(), again.len());
    }
}

#[test]
fn the_seed_is_recorded_and_matters_where_something_is_drawn() {
    let scratch = imported();
    let plan = |seed: u32| {
        scratch
            .json(&format!("plan --trace trace.safetensors --gpus 4 --redundant 4 --seed {seed}"))
    };
    assert_eq!(plan(7)["seed"], 7);
    assert_eq!(plan(7), plan(7));
}

/// Synthetic traces, fits and cuts are the same bytes on one thread and on two.
#[test]
fn traces_do_not_depend_on_threads() {
    let scratch = Scratch::new();
    let made = |threads: u32| {
        for line in [
            "trace synth --like openmoe-8b --requests 70 --tokens 24 --batch 9 -o a",
            "trace synth --fit a --requests 3 --save fit.toml -o b",
            "trace split a --by domain --out parts",
            "trace concat parts/train.safetensors parts/heldout.safetensors -o c",
            "trace slice c --phase decode -o d",
        ] {
            scratch.ok(&format!("{line} --threads {threads} --seed 3"));
        }
        scratch.files()
    };
    assert!(made(1) == made(2));
}

//! What holds for every exporter in [`ALL`], whichever they are.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::tests::{any_plan, tiny_plan};
use super::super::{MemoryPlan, Slots};
use super::*;

/// Loads of every expert: a plan's own numbers, mixed.
fn loads_of(plan: &MemoryPlan) -> Vec<Vec<u64>> {
    let row = |layer: u64| (0..u64::from(plan.experts)).map(move |id| (id * 7 + layer * 5) % 11);
    (0..plan.layers.len() as u64).map(|layer| row(layer).collect()).collect()
}

fn setting(loads: Option<&[Vec<u64>]>) -> Setting<'_> {
    Setting {
        loads,
        architecture: tensors::find("deepseek2").ok(),
        gpu_bytes: Some(100_000),
        other_bytes: 10,
    }
}

/// Bytes of what an engine keeps.
fn bytes(plan: &MemoryPlan, residency: &Residency) -> u128 {
    let row = |(layer, row): (usize, &Vec<ExpertId>)| -> u128 {
        row.iter().map(|&id| u128::from(plan.expert_size(layer, id))).sum()
    };
    let pinned: u128 = residency.pinned.iter().enumerate().map(row).sum();
    pinned + u128::from(residency.cache_bytes)
}

/// Makes every layer of `plan` whole or empty, without slots.
fn whole(plan: &MemoryPlan) -> MemoryPlan {
    let mut plan = plan.clone();
    for row in &mut plan.pinned {
        let is_whole = row.len() * 2 > usize::from(plan.experts);
        *row = (0..plan.experts).filter(|_| is_whole).map(ExpertId).collect();
    }
    plan.slots = Slots::Global(0);
    plan.budget = u64::try_from(plan.pinned_bytes()).unwrap();
    plan.prefetcher.name = "none".to_owned();
    plan
}

#[test]
fn names_ascend_and_a_typo_is_answered() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "alphabetical");
    assert!(tensors::ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "alphabetical");
    assert!(ALL.iter().all(|entry| !entry.about.is_empty() && !entry.about.contains('\n')));
    assert!(find("llamacpp").err().unwrap().to_string().contains("did you mean `llama.cpp`?"));
}

#[test]
fn files_have_names_of_their_own_and_the_launch_text_names_the_first() {
    let mut names = BTreeSet::new();
    for entry in ALL {
        let written = (entry.write)(&tiny_plan(), &setting(None)).unwrap();
        for file in &written.files {
            assert!(!file.name.contains(['/', '\\']), "{}", file.name);
            assert!(names.insert(file.name.clone()), "{} twice", file.name);
        }
        let launch = (entry.launch)(&tiny_plan(), &written);
        assert!(launch.contains(&written.files[0].name) && launch.ends_with('\n'), "{launch}");
    }
}

#[test]
fn a_plan_that_breaks_a_law_is_written_by_none() {
    for entry in ALL {
        let plan = MemoryPlan { budget: 1, ..tiny_plan() };
        let error = (entry.write)(&plan, &setting(None)).unwrap_err().to_string();
        assert!(error.starts_with("plan: key `budget`: 1 bytes for 600"), "{error}");
    }
}

#[test]
fn what_a_format_needs_and_is_not_known_is_named() {
    let plan = MemoryPlan { hidden_layers: None, ..tiny_plan() };
    for entry in ALL {
        if let Err(error) = (entry.write)(&plan, &Setting::default()) {
            let error = error.to_string();
            assert!(error.contains("--model") || error.contains("memory of the GPU"), "{error}");
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused_or_says_something_whole() {
    for entry in ALL {
        let plan = tiny_plan();
        let written = (entry.write)(&plan, &setting(None)).unwrap();
        let context = Context::of(&plan, setting(None), "f");
        for (index, file) in written.files.iter().enumerate() {
            for end in 0..file.bytes.len() {
                let mut files = written.files.clone();
                files[index].bytes.truncate(end);
                // A shorter number or list of arguments may be one, but nothing may panic.
                if let Err(error) = (entry.read)(&files, &context) {
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
        (entry.read)(&[], &context).unwrap_err();
    }
}

fn text_of(name: &str) -> String {
    let written = (find(name).unwrap().write)(&tiny_plan(), &setting(None)).unwrap();
    String::from_utf8(written.files[0].bytes.clone()).unwrap()
}

#[test]
fn goldens() {
    // Layer 2 has as much as layer 1, and 600 bytes hold one layer of 400.
    assert_eq!(
        text_of("llama.cpp"),
        "-ngl 99 -ot blk\\.2\\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU\n"
    );
    assert_eq!(
        text_of("ktransformers"),
        "--kt-expert-placement-strategy frequency --init-expert-location ktransformers.pt \
         --kt-gpu-experts-ratio 0.4\n"
    );
    insta::assert_snapshot!(text_of("csv"), @r"
    layer,expert,count
    1,0,0
    1,1,1
    1,2,0
    1,3,0
    2,0,1
    2,1,0
    2,2,0
    2,3,1
    ");
    insta::assert_snapshot!(text_of("moe-infinity"), @r#"
    {
      "device_memory_ratio": 0.0061,
      "offload_path": "offload",
      "prefetch": true,
      "trace_capacity": 1000
    }
    "#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn reading_says_what_writing_said_and_never_more_than_the_budget(plan in any_plan()) {
        let loads = loads_of(&plan);
        for entry in ALL {
            for loads in [None, Some(&*loads)] {
                let setting = setting(loads);
                let Ok(written) = (entry.write)(&plan, &setting) else {
                    // The only plans that an engine cannot take: no room for its buffers.
                    prop_assert_eq!(entry.name, "vllm");
                    continue;
                };
                let context = Context::of(&plan, setting, "f");
                let read = (entry.read)(&written.files, &context).unwrap();
                prop_assert_eq!(&read, &written.residency, "{}", entry.name);
                prop_assert!(bytes(&plan, &read) <= u128::from(plan.budget), "{}", entry.name);
                if read.pinned != plan.pinned {
                    prop_assert!(!written.remarks.is_empty(), "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn damaged_files_are_answered_and_never_a_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let plan = tiny_plan();
        let context = Context::of(&plan, setting(None), "f");
        for entry in ALL {
            let mut files = (entry.write)(&plan, &setting(None)).unwrap().files;
            for file in &mut files {
                for (at, byte) in &edits {
                    let at = at.index(file.bytes.len());
                    file.bytes[at] = *byte;
                }
            }
            if let Err(error) = (entry.read)(&files, &context) {
                prop_assert!(!error.to_string().contains('\n'), "{}: {error}", entry.name);
            }
        }
        let mut text = plan.to_json().into_bytes();
        for (at, byte) in &edits {
            let at = at.index(text.len());
            text[at] = *byte;
        }
        if let Ok(read) = MemoryPlan::read(&text, "f") {
            prop_assert_eq!(MemoryPlan::read(read.to_json().as_bytes(), "f").unwrap(), read);
        }
    }

    #[test]
    fn single_experts_survive_where_the_engine_knows_them(plan in any_plan()) {
        let compute = "cpu".to_owned();
        let plan = MemoryPlan { slots: Slots::Global(0), compute, ..plan };
        for name in ["csv", "ktransformers"] {
            let written = (find(name).unwrap().write)(&plan, &setting(None)).unwrap();
            prop_assert_eq!(&written.residency.pinned, &plan.pinned);
            // A table says the bits; flags cannot, and say so.
            let lost = rounding::own_bits(&plan).filter(|_| name != "csv");
            prop_assert_eq!(written.remarks, Vec::from_iter(lost));
        }
    }

    #[test]
    fn whole_layers_survive_as_they_are(plan in any_plan()) {
        let plan = whole(&plan);
        let written = (llama_cpp::ENTRY.write)(&plan, &setting(None)).unwrap();
        prop_assert_eq!(&written.residency.pinned, &plan.pinned);
        let text = String::from_utf8(written.files[0].bytes.clone()).unwrap();
        prop_assert!(!text.contains([',', '*', '"']), "{}", text);
        // vLLM keeps as many bytes at most, of the last layers.
        let written = (vllm::ENTRY.write)(&plan, &setting(None)).unwrap();
        let kept: Vec<bool> = written.residency.pinned.iter().map(|row| !row.is_empty()).collect();
        prop_assert!(kept.is_sorted());
    }
}

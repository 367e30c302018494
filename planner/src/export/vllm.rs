//! vLLM: the file of `eplb_config.initial_mapping_path` in proposal #41141, which no release
//! loads yet. The launch text says so and names the flags that come nearest in a release.
//!
//! Schema, JSON lines with one record: `{"record_type": "eplb_initial_mapping", "version": 1,
//! "num_redundant_experts": P - E, "num_slots": P, "initial_global_assignments": {"0": [P logical
//! experts], ...}}`, keys being ordinals among the MoE layers as text.
//! Refused: another version or record, more than one record, another key, a layer that is missing
//! or foreign, counts that do not agree with the rows.

use moecast_profiles::ids::ExpertId;
use moecast_sim::Placement;

use super::node::{Key, one_line};
use super::{Context, Entry, File, shape, tree};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The entry.
pub(super) const ENTRY: Entry = Entry {
    name: "vllm",
    about: "vLLM proposal #41141, JSON lines; no release loads it, see its launch text",
    write,
    read,
    launch,
};

const NAME: &str = "vllm.jsonl";
const RECORD_TYPE: &str = "eplb_initial_mapping";
const VERSION: u64 = 1;

fn write(plan: &Plan) -> Result<Vec<File>> {
    plan.check()?;
    let layers: Vec<String> = plan
        .placement
        .layers()
        .iter()
        .enumerate()
        .map(|(layer, row)| format!("\"{layer}\": {}", shape::list(row)))
        .collect();
    let text = format!(
        "{{\"record_type\": \"{RECORD_TYPE}\", \"version\": {VERSION}, \
         \"num_redundant_experts\": {}, \"num_slots\": {}, \
         \"initial_global_assignments\": {{{}}}}}\n",
        shape::redundant(&plan.placement),
        plan.placement.slots(),
        layers.join(", ")
    );
    Ok(vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }])
}

fn read(text: &[u8], context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let (first_line, record) = only_record(tree::utf8(text, path)?, path)?;
    let record = tree::json_from_line(record.as_bytes(), path, first_line)?;
    if let Some(version) = record.peek_int("version").filter(|found| *found != VERSION.into()) {
        let expected = format!("{VERSION}, the only one that the proposal has");
        return Err(Error::invalid(path, "key `version`", version.to_string(), expected));
    }
    let [record_type, version, redundant, num_slots, assignments] = record.fields([
        "record_type",
        "version",
        "num_redundant_experts",
        "num_slots",
        "initial_global_assignments",
    ])?;
    version.expect_number(VERSION, "")?;
    let place = record_type.place();
    let found = record_type.text()?;
    if found != RECORD_TYPE {
        return Err(Error::invalid(path, place, one_line(&found), RECORD_TYPE));
    }
    let keys: Vec<Key> =
        (0..context.layers.len()).map(|layer| Key::Text(layer.to_string())).collect();
    let rows = assignments
        .entries(&keys, "ordinals of MoE layers")?
        .into_iter()
        .map(|entry| entry.row(context.experts))
        .collect::<Result<Vec<_>>>()?;
    let placement = shape::placement(path, context.experts, context.ranks, rows)?;
    num_slots.expect_number(placement.slots().into(), ", the slots of every layer")?;
    let why = format!(", {} slots less {} experts", placement.slots(), placement.experts());
    redundant.expect_number(shape::redundant(&placement).into(), &why)?;
    Ok(placement)
}

/// The only line that is not blank, and its number.
fn only_record<'t>(text: &'t str, path: &str) -> Result<(usize, &'t str)> {
    let mut records = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let Some(record) = records.next() else {
        return Err(Error::invalid(path, "the file", "no record", format!("one {RECORD_TYPE}")));
    };
    match records.next() {
        None => Ok(record),
        Some((line, _)) => {
            let expected = format!("one {RECORD_TYPE} and nothing else");
            Err(Error::invalid(path, format!("line {line}"), "a second record", expected))
        }
    }
}

/// The flags of a release that come nearest, and what they do with this plan.
fn nearest_flags(placement: &Placement) -> (String, &'static str) {
    let redundant = shape::redundant(placement);
    let (ranks, per_rank) = (placement.ranks(), placement.slots_per_rank());
    let every_row = |expert_of: fn(u16, u16, u16) -> u16| {
        let expected: Vec<ExpertId> =
            (0..placement.slots()).map(|slot| ExpertId(expert_of(slot, per_rank, ranks))).collect();
        redundant == 0 && placement.layers().iter().all(|row| *row == expected)
    };
    if every_row(|slot, _, _| slot) {
        let flags = "--enable-expert-parallel --expert-placement-strategy linear";
        return (flags.to_owned(), "That is this placement exactly: experts in order.");
    }
    if every_row(|slot, per_rank, ranks| slot % per_rank * ranks + slot / per_rank) {
        let flags = "--enable-expert-parallel --expert-placement-strategy round_robin";
        let what = "That is this placement exactly: experts dealt to the ranks in turn. Look in\n\
                    the log: the engine falls back to linear where it does not support this.";
        return (flags.to_owned(), what);
    }
    let flags = format!(
        "--enable-expert-parallel --enable-eplb \\\n        \
         --eplb-config '{{\"num_redundant_experts\": {redundant}}}'"
    );
    let what = "That gives the engine as many slots as this plan, but not this placement: it\n\
                starts in order and then balances by the load that it sees itself.";
    (flags, what)
}

fn launch(plan: &Plan) -> String {
    let (flags, what) = nearest_flags(&plan.placement);
    let redundant = shape::redundant(&plan.placement);
    let ranks = plan.placement.ranks();
    format!(
        "No release of vLLM loads a placement from a file. {NAME} is written for proposal #41141\n\
         (https://github.com/vllm-project/vllm/pull/41141); with a build that has it, add to\n\
         `vllm serve`, with expert parallelism over {ranks} ranks:\n\
         \n    --enable-expert-parallel --enable-eplb \\\n        --eplb-config \
         '{{\"num_redundant_experts\": {redundant}, \"initial_mapping_path\": \"{NAME}\"}}'\n\
         \n\
         In a release the nearest is:\n\
         \n    {flags}\n\
         \n\
         {what}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_refused, golden, tiny_context, tiny_plan};
    use super::*;

    #[test]
    fn one_record_with_ordinals_as_text() {
        let text = golden(&ENTRY);
        assert_eq!(text.find('\n'), Some(text.len() - 1), "one line is one record");
        // Broken into lines here for the eye only.
        insta::assert_snapshot!(text.replace(", \"", ",\n\""), @r#"
        {"record_type": "eplb_initial_mapping",
        "version": 1,
        "num_redundant_experts": 2,
        "num_slots": 6,
        "initial_global_assignments": {"0": [0, 1, 2, 3, 0, 1],
        "1": [3, 2, 1, 0, 3, 2]}}
        "#);
    }

    fn launch_of(row: &[u16]) -> String {
        let row: Vec<ExpertId> = row.iter().copied().map(ExpertId).collect();
        let placement = Placement::new(4, 2, vec![row.clone(), row]).unwrap();
        launch(&Plan { placement, ..tiny_plan() })
    }

    #[test]
    fn the_nearest_flags_of_a_release_are_named_and_the_text_says_that_it_loads_no_file() {
        assert!(launch_of(&[0, 1, 2, 3]).contains("--expert-placement-strategy linear"));
        // Two ranks: rank 0 holds experts 0 and 2, rank 1 holds 1 and 3.
        assert!(launch_of(&[0, 2, 1, 3]).contains("--expert-placement-strategy round_robin"));
        assert!(!launch_of(&[3, 2, 1, 0]).contains("--expert-placement-strategy"));
        insta::assert_snapshot!(launch(&tiny_plan()), @r#"
        No release of vLLM loads a placement from a file. vllm.jsonl is written for proposal #41141
        (https://github.com/vllm-project/vllm/pull/41141); with a build that has it, add to
        `vllm serve`, with expert parallelism over 2 ranks:

            --enable-expert-parallel --enable-eplb \
                --eplb-config '{"num_redundant_experts": 2, "initial_mapping_path": "vllm.jsonl"}'

        In a release the nearest is:

            --enable-expert-parallel --enable-eplb \
                --eplb-config '{"num_redundant_experts": 2}'

        That gives the engine as many slots as this plan, but not this placement: it
        starts in order and then balances by the load that it sees itself.
        "#);
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "\"version\": 1",
            "\"version\": 2, \"new\": 1",
            "key `version`: 2; expected 1, the only one that the proposal has",
        ),
        ("\"version\": 1", "\"version\": \"1\"", "key `version`: text \"1\"; expected 1"),
        (
            "eplb_initial_mapping",
            "eplb_load_stats",
            "key `record_type`: eplb_load_stats; expected eplb_initial_mapping",
        ),
        (
            "\"num_slots\": 6",
            "\"num_slots\": 7",
            "key `num_slots`: 7; expected 6, the slots of every layer",
        ),
        (
            "\"num_redundant_experts\": 2",
            "\"num_redundant_experts\": 0",
            "key `num_redundant_experts`: 0; expected 2, 6 slots less 4 experts",
        ),
        (
            "\"num_slots\": 6, ",
            "",
            "the file: no key `num_slots`; expected a map with `record_type`, `version`, \
                     `num_redundant_experts`, `num_slots`, `initial_global_assignments`",
        ),
        (
            "\"num_slots\": 6, ",
            "\"num_slots\": 6, \"num_slots\": 6, ",
            "line 1, column 112: duplicate key `num_slots`; expected complete JSON \
                     without duplicate keys",
        ),
        (
            "\"1\": [",
            "\"01\": [",
            "key `initial_global_assignments`: no key \"1\"; expected ordinals of MoE \
                     layers as keys: 0, 1",
        ),
        (
            "\"1\": [",
            "\"0\": [",
            "line 1, column 178: duplicate key `0`; expected complete JSON without \
                     duplicate keys",
        ),
        (
            "\"1\": [",
            "\"2\": [0, 1, 2, 3, 0, 1], \"1\": [",
            "key `initial_global_assignments`: unknown key `2`; expected no keys but \
                     ordinals of MoE layers: 0, 1",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0]",
            "key `initial_global_assignments.1`: 4 slots; expected 6, as in key \
                     `initial_global_assignments.0`",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0, 3, 9]",
            "key `initial_global_assignments.1[5]`: 9; expected an expert id below 4",
        ),
        (
            "}}\n",
            "}}\n{}\n",
            "line 2: a second record; expected one eplb_initial_mapping \
                  and nothing else",
        ),
    ];

    #[test]
    fn what_is_no_initial_mapping_is_refused() {
        check_refused(&ENTRY, REFUSED);
        let error = read(b"\n \n", &tiny_context()).unwrap_err().to_string();
        assert_eq!(error, "f: the file: no record; expected one eplb_initial_mapping");
        let error = read(b"\n\n{\"a\"", &tiny_context()).unwrap_err().to_string();
        assert!(error.starts_with("f: line 3, column 4: "), "{error}");
    }
}

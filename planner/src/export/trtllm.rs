//! TensorRT-LLM: the file of `moe_config.load_balancer`, read by `MoeLoadBalancerConfig` (the
//! PyTorch backend, 1.0 and later) in the form that its own `generate_eplb_config.py` writes.
//!
//! Schema, YAML with exactly three keys: `num_slots: P`, `initial_global_assignments:
//! {absolute layer number: [P logical experts]}` for every MoE layer, and
//! `layer_updates_per_iter: 0`, which keeps the placement as it is.
//! Refused: another key, a layer that is missing (the engine's KeyError) or that has no experts, a
//! layer number written as text, a row of another length than `num_slots` (its ValueError), any
//! other `layer_updates_per_iter` (then the engine moves the experts and this is not the
//! placement that it runs).

use std::fmt::Write;

use moecast_sim::Placement;

use super::node::Key;
use super::{Context, Entry, File, shape, tree};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The entry.
pub(super) const ENTRY: Entry = Entry {
    name: "trtllm",
    about: "TensorRT-LLM moe_config.load_balancer, YAML",
    write,
    read,
    launch,
};

const NAME: &str = "trtllm.yaml";

fn write(plan: &Plan) -> Result<Vec<File>> {
    plan.check()?;
    let mut text = format!("num_slots: {}\n", plan.placement.slots());
    text.push_str("initial_global_assignments:\n");
    for (layer, row) in plan.layers.iter().zip(plan.placement.layers()) {
        writeln!(text, "  {layer}: {}", shape::list(row)).expect("a string grows");
    }
    text.push_str("layer_updates_per_iter: 0\n");
    Ok(vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }])
}

fn read(text: &[u8], context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let [num_slots, assignments, updates] = tree::yaml(text, path)?.fields([
        "num_slots",
        "initial_global_assignments",
        "layer_updates_per_iter",
    ])?;
    updates.expect_number(0, ", which keeps the placement as it is")?;
    let slots: usize = num_slots.number::<u16>("a number of slots up to 65535")?.into();
    let keys: Vec<Key> = context.layers.iter().map(|layer| Key::Int((*layer).into())).collect();
    let mut rows = Vec::with_capacity(keys.len());
    for entry in assignments.entries(&keys, "absolute MoE layer numbers")? {
        let row = entry.row(context.experts)?;
        if row.experts.len() != slots {
            let found = format!("{} slots", row.experts.len());
            let expected = format!("{slots}, as `num_slots` says");
            return Err(Error::invalid(path, row.place, found, expected));
        }
        rows.push(row);
    }
    shape::placement(path, context.experts, context.ranks, rows)
}

fn launch(plan: &Plan) -> String {
    format!(
        "Name the file in the YAML with extra LLM API options:\n\
         \n    enable_attention_dp: true\n    moe_config:\n      load_balancer: {NAME}\n\
         \n\
         and run with expert parallelism over {} ranks. The engine turns the balancer off\n\
         without a word when the model's architecture is not on its list, when expert parallelism\n\
         is 1, or when attention data parallelism is off. Multi-token-prediction layers count as\n\
         MoE layers there: with them on, the engine wants an entry for each, and this plan has\n\
         entries for the layers of the recording only.\n",
        plan.placement.ranks()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_refused, golden, tiny_context, tiny_plan};
    use super::*;
    use moecast_profiles::ids::ExpertId;

    #[test]
    fn three_keys_with_absolute_layers() {
        insta::assert_snapshot!(golden(&ENTRY), @r"
        num_slots: 6
        initial_global_assignments:
          1: [0, 1, 2, 3, 0, 1]
          2: [3, 2, 1, 0, 3, 2]
        layer_updates_per_iter: 0
        ");
    }

    #[test]
    fn block_style_any_order_and_aliases_read_the_same() {
        // What a YAML library writes from the same data; equal rows become one list and an alias.
        let text = "initial_global_assignments:\n  2: &id001\n  - 0\n  - 1\n  - 2\n  - 3\n  1: \
                    *id001\nlayer_updates_per_iter: 0\nnum_slots: 4\n";
        let row: Vec<ExpertId> = (0..4).map(ExpertId).collect();
        let expected = Placement::new(4, 2, vec![row.clone(), row]).unwrap();
        assert_eq!(read(text.as_bytes(), &tiny_context()).unwrap(), expected);
    }

    #[test]
    fn a_file_beyond_the_parsers_default_limits_reads_back() {
        // 300 layers of 1024 slots are more nodes than the YAML parser allows unasked.
        let row: Vec<ExpertId> = (0..1024).map(ExpertId).collect();
        let placement = Placement::new(1024, 2, vec![row; 300]).unwrap();
        let layers: Vec<u16> = (0..300).collect();
        let plan = Plan { placement, layers, hidden_layers: None, ..tiny_plan() };
        let context = Context { experts: 1024, layers: plan.layers.clone(), ..tiny_context() };
        let files = write(&plan).unwrap();
        assert_eq!(read(&files[0].bytes, &context).unwrap(), plan.placement);
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "num_slots: 6\n",
            "",
            "the file: no key `num_slots`; expected a map with `num_slots`, \
                     `initial_global_assignments`, `layer_updates_per_iter`",
        ),
        (
            "num_slots: 6\n",
            "num_slot: 6\n",
            "the file: unknown key `num_slot`; expected `num_slots`, or no such key",
        ),
        (
            "num_slots: 6\n",
            "num_slots: 8\n",
            "key `initial_global_assignments.1`: 6 slots; expected 8, as `num_slots` says",
        ),
        (
            "num_slots: 6\n",
            "num_slots: 99999999999999999999\n",
            "key `num_slots`: 1e20; expected a number of slots up to 65535",
        ),
        (
            "layer_updates_per_iter: 0",
            "layer_updates_per_iter: 1",
            "key `layer_updates_per_iter`: 1; expected 0, which keeps the placement as it \
                     is",
        ),
        (
            "  2: [3",
            "  5: [3",
            "key `initial_global_assignments`: no key 2; expected absolute MoE layer \
                     numbers as keys: 1, 2",
        ),
        (
            "  2: [3",
            "  \"2\": [3",
            "key `initial_global_assignments`: no key 2; expected absolute MoE layer \
                     numbers as keys: 1, 2",
        ),
        (
            "  2: [3",
            "  0: [0, 1, 2, 3, 0, 1]\n  2: [3",
            "key `initial_global_assignments`: unknown key `0`; expected no keys but \
                     absolute MoE layer numbers: 1, 2",
        ),
        (
            "  2: [3, 2, 1, 0, 3, 2]",
            "  2: [3, 2, 1, 0, 3]",
            "key `initial_global_assignments.2`: 5 slots; expected 6, as `num_slots` says",
        ),
        (
            "  2: [3, 2, 1, 0, 3, 2]",
            "  2: [3, 2, 1, 0, 3, 4]",
            "key `initial_global_assignments.2[5]`: 4; expected an expert id below 4",
        ),
        (
            "  2: [3, 2, 1, 0, 3, 2]",
            "  2: [3, 2, 1, 0, 3, two]",
            "key `initial_global_assignments.2[5]`: text \"two\"; expected an expert id \
                     below 4",
        ),
        (
            "  2: [3, 2, 1, 0, 3, 2]",
            "  2: [3, 2, 1, 1, 3, 2]",
            "key `initial_global_assignments.2`: no slot with expert 0; expected every \
                     expert in every layer",
        ),
    ];

    #[test]
    fn what_the_engine_would_choke_on_is_refused() {
        check_refused(&ENTRY, REFUSED);
        for twice in ["num_slots: 6\n", "  2: [3, 2, 1, 0, 3, 2]\n"] {
            let text = golden(&ENTRY).replacen(twice, &twice.repeat(2), 1);
            let error = read(text.as_bytes(), &tiny_context()).unwrap_err().to_string();
            assert!(error.contains("duplicate") && !error.contains('\n'), "{error}");
        }
    }
}

//! SGLang: the file of `--init-expert-location`, read by `init_by_mapping` in
//! `srt/eplb/expert_location.py` (0.4.6 and later, the 0.5 releases included).
//!
//! Schema: `{"physical_to_logical_map": [[logical expert] * P] * L}` and no other key, because the
//! engine passes the keys on as arguments. L counts all hidden layers: the rows of dense layers
//! are never used but must be there, as long as the others and with ids in range. What the format
//! has no room for stands in `sglang.meta.json` beside it.
//! Refused: a plan without the number of hidden layers, another key, a row of another length, an
//! id out of range (in dense rows too: the engine indexes with it), a MoE row without every
//! expert, a number of slots that does not divide by the ranks. `logical_count`, which the same
//! flag takes, holds loads and not a placement.

use std::fmt::Write;

use moecast_profiles::ids::ExpertId;
use moecast_sim::Placement;
use serde::Serialize;

use super::{Context, Entry, File, shape, tree};
use crate::error::{Error, Result};
use crate::plan::{Plan, Predicted, Provenance, nested};

/// The entry.
pub(super) const ENTRY: Entry =
    Entry { name: "sglang", about: "SGLang --init-expert-location, JSON", write, read, launch };

const NAME: &str = "sglang.json";
const META_NAME: &str = "sglang.meta.json";
const KEY: &str = "physical_to_logical_map";

/// Most ids that a file may hold: far above any model, far below what fills a memory.
const IDS_MAX: u64 = 1 << 26;

/// What the engine's own file has no room for.
#[derive(Serialize)]
struct Meta<'a> {
    experts: u16,
    slots: u16,
    ranks: u16,
    predicted: &'a Predicted,
    provenance: &'a Provenance,
}

fn write(plan: &Plan) -> Result<Vec<File>> {
    plan.check()?;
    let Some(hidden_layers) = plan.hidden_layers else {
        let expected = "how many layers the model has, dense ones included: plan with --model";
        return Err(Error::problem("key `hidden_layers`", "null", expected));
    };
    let placement = &plan.placement;
    let ids = u64::from(hidden_layers) * u64::from(placement.slots());
    if ids > IDS_MAX {
        let found = format!("{hidden_layers} layers of {} slots", placement.slots());
        let expected = format!("at most {IDS_MAX} slots in all layers together");
        return Err(Error::problem("key `hidden_layers`", found, expected));
    }
    let identity: Vec<ExpertId> =
        (0..placement.slots()).map(|slot| ExpertId(slot % placement.experts())).collect();
    let mut planned = plan.layers.iter().zip(placement.layers()).peekable();
    let mut text = format!("{{\"{KEY}\": [\n");
    for layer in 0..hidden_layers {
        let row =
            planned.next_if(|(number, _)| **number == layer).map_or(&identity, |(_, row)| row);
        let end = if layer + 1 == hidden_layers { "" } else { "," };
        writeln!(text, "{}{end}", shape::list(row)).expect("a string grows");
    }
    text.push_str("]}\n");
    let meta = File { name: META_NAME.to_owned(), bytes: meta(plan)?.into_bytes() };
    Ok(vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }, meta])
}

fn meta(plan: &Plan) -> Result<String> {
    let (model, layers) = (nested(&plan.model, "")?, shape::list(&plan.layers));
    let meta = Meta {
        experts: plan.placement.experts(),
        slots: plan.placement.slots(),
        ranks: plan.placement.ranks(),
        predicted: &plan.predicted,
        provenance: &plan.provenance,
    };
    let rest = nested(&meta, "")?;
    let rest = rest.trim_start_matches('{');
    Ok(format!("{{\n  \"model\": {model},\n  \"layers\": {layers},{rest}\n"))
}

fn read(text: &[u8], context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let [map] = tree::json(text, path)?.fields([KEY])?;
    let place = map.place();
    let items = map.items("one row per hidden layer")?;
    let needed = context.layers.iter().max().map_or(0, |last| usize::from(*last) + 1);
    if items.len() < needed {
        let found = format!("{} rows", items.len());
        let expected = format!("a row for every hidden layer, at least {needed}");
        return Err(Error::invalid(path, place, found, expected));
    }
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        rows.push(item.row(context.experts)?);
    }
    // Dense rows are checked for what the engine does with them: make a tensor, index by id.
    let slots = rows[0].experts.len();
    if let Some(odd) = rows.iter().find(|row| row.experts.len() != slots) {
        let found = format!("{} slots", odd.experts.len());
        let expected = format!("{slots}, as in {}", rows[0].place);
        return Err(Error::invalid(path, &odd.place, found, expected));
    }
    let rows = (0..)
        .zip(rows)
        .filter_map(|(layer, row)| context.layers.contains(&layer).then_some(row))
        .collect();
    shape::placement(path, context.experts, context.ranks, rows)
}

fn launch(plan: &Plan) -> String {
    let (ranks, redundant) = (plan.placement.ranks(), shape::redundant(&plan.placement));
    format!(
        "Add to the arguments of `python -m sglang.launch_server`:\n\
         \n    --ep-size {ranks} --ep-num-redundant-experts {redundant} \
         --init-expert-location {NAME}\n\
         \n\
         The engine checks that experts + redundant experts = {slots} and that this divides by\n\
         the ranks. Leave --enable-eplb out: it replaces this placement by one of its own while\n\
         the engine runs. {META_NAME} says where the placement comes from; the engine does not\n\
         read it, and refuses any such key in {NAME}.\n",
        slots = plan.placement.slots(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_refused, golden, tiny_context, tiny_plan};
    use super::*;

    #[test]
    fn every_hidden_layer_has_a_row_and_dense_ones_count_up() {
        insta::assert_snapshot!(golden(&ENTRY), @r#"
        {"physical_to_logical_map": [
        [0, 1, 2, 3, 0, 1],
        [0, 1, 2, 3, 0, 1],
        [3, 2, 1, 0, 3, 2]
        ]}
        "#);
    }

    #[test]
    fn the_side_car_says_what_the_format_has_no_room_for() {
        let files = write(&tiny_plan()).unwrap();
        insta::assert_snapshot!(String::from_utf8(files[1].bytes.clone()).unwrap(), @r#"
        {
          "model": "tiny",
          "layers": [1, 2],
          "experts": 4,
          "slots": 6,
          "ranks": 2,
          "predicted": {
            "imbalance": {
              "linear": {
                "train": 1.5,
                "heldout": 1.625
              },
              "plan": {
                "train": 1.25,
                "heldout": 1.625
              }
            },
            "imbalance_bound": {
              "train": 1.125,
              "heldout": null
            },
            "step_time_us": {}
          },
          "provenance": {
            "tool": "0.1.0",
            "algorithm": "eplb",
            "seed": 7,
            "trace_sha256": "00ff",
            "synthetic": false,
            "heldout": 0.25,
            "cluster": "",
            "engine": ""
          }
        }
        "#);
        // The law beside it: plain JSON whose placement figures are those of the plan.
        let meta: serde_json::Value = serde_json::from_slice(&files[1].bytes).unwrap();
        assert_eq!(meta["slots"], 6);
        assert_eq!(meta["provenance"]["algorithm"], "eplb");
    }

    #[test]
    fn without_a_model_the_error_says_what_to_pass() {
        let plan = Plan { hidden_layers: None, ..tiny_plan() };
        assert_eq!(
            write(&plan).unwrap_err().to_string(),
            "plan: key `hidden_layers`: null; expected how many layers the model has, dense ones \
             included: plan with --model"
        );
    }

    #[test]
    fn a_dense_row_is_ignored_but_has_the_shape_of_the_others() {
        let text = golden(&ENTRY).replacen("[0, 1, 2, 3, 0, 1]", "[3, 3, 3, 3, 3, 3]", 1);
        let expected = tiny_plan().placement;
        assert_eq!(read(text.as_bytes(), &tiny_context()).unwrap(), expected);
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "physical_to_logical_map",
            "logical_count",
            "the file: unknown key `logical_count`; expected no keys but \
                     `physical_to_logical_map`",
        ),
        (
            "{\"physical_to_logical_map\"",
            "{\"model\": 1, \"physical_to_logical_map\"",
            "the file: unknown key `model`; expected no keys but `physical_to_logical_map`",
        ),
        (
            "]}",
            "], \"physical_to_logical_map\": []}",
            "line 5, column 33: duplicate key `physical_to_logical_map`; expected \
                     complete JSON without duplicate keys",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0, 3]",
            "key `physical_to_logical_map[2]`: 5 slots; expected 6, as in key \
                     `physical_to_logical_map[0]`",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0, 3, 4]",
            "key `physical_to_logical_map[2][5]`: 4; expected an expert id below 4",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0, 3, -1]",
            "key `physical_to_logical_map[2][5]`: -1; expected an expert id below 4",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 3, 3, 2]",
            "key `physical_to_logical_map[2]`: no slot with expert 0; expected every \
                     expert in every layer",
        ),
        (
            "[3, 2, 1, 0, 3, 2]",
            "[3, 2, 1, 0, 3, 2.0]",
            "key `physical_to_logical_map[2][5]`: 2.0; expected an expert id below 4",
        ),
        (
            ",\n[3, 2, 1, 0, 3, 2]",
            "",
            "key `physical_to_logical_map`: 2 rows; expected a row for every hidden \
                     layer, at least 3",
        ),
        (
            "{\"physical_to_logical_map\": [",
            "[[",
            "line 5, column 2: expected `,` or `]`; expected complete JSON without \
                     duplicate keys",
        ),
    ];

    #[test]
    fn what_the_engine_would_choke_on_is_refused() {
        check_refused(&ENTRY, REFUSED);
    }

    #[test]
    fn a_list_does_not_pass_for_the_map() {
        let error = read(b"[[[0, 1, 2, 3]]]", &tiny_context()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f: the file: a list; expected a map with `physical_to_logical_map`"
        );
    }
}

//! vllm-ascend: the file of `additional_config.eplb_config.expert_map_path`, read by its expert
//! load balancer (the releases that go with vLLM 0.10 and later).
//!
//! Schema, JSON: `{"moe_layer_count": M, "layer_list": [{"layer_id": i, "device_count": R,
//! "device_list": [{"device_id": d, "device_expert": [logical experts]}]}]}`. Layers are ordinals
//! among the MoE layers. The engine takes layers and devices by position, so ids must count up.
//! Refused, written or read: two copies of one expert on one device, of which the engine's inverse
//! map keeps only one. Refused when read: another key, counts or ids that do not agree with the
//! lists, devices with different numbers of experts.

use moecast_profiles::ids::ExpertId;
use moecast_sim::Placement;

use super::cursor::{At, Row};
use super::{Context, Entry, File, shape, tree};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The entry.
pub(super) const ENTRY: Entry = Entry {
    name: "vllm-ascend",
    about: "vllm-ascend eplb_config.expert_map_path, JSON",
    write,
    read,
    launch,
};

const NAME: &str = "vllm-ascend.json";

fn write(plan: &Plan) -> Result<Vec<File>> {
    plan.check()?;
    let placement = &plan.placement;
    if let Some((layer, device, expert)) = shape::second_copy(placement) {
        let place = format!("MoE layer {layer}, device {device}");
        let expected = "one copy of an expert on a device, for the engine's map keeps only one: \
                        plan with an algorithm that spreads copies, or with fewer slots";
        return Err(Error::problem(place, format!("expert {expert} twice"), expected));
    }
    let per_rank = usize::from(placement.slots_per_rank());
    let layers: Vec<String> = (0..)
        .zip(placement.layers())
        .map(|(layer, row)| layer_text(layer, placement.ranks(), row, per_rank))
        .collect();
    let text = format!(
        "{{\"moe_layer_count\": {}, \"layer_list\": [\n{}\n]}}\n",
        layers.len(),
        layers.join(",\n")
    );
    Ok(vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }])
}

fn layer_text(layer: u16, ranks: u16, row: &[ExpertId], per_rank: usize) -> String {
    let device = |(device, held): (usize, &[ExpertId])| {
        let experts = shape::list(held);
        format!("    {{\"device_id\": {device}, \"device_expert\": {experts}}}")
    };
    let devices: Vec<String> = row.chunks(per_rank).enumerate().map(device).collect();
    format!(
        "  {{\"layer_id\": {layer}, \"device_count\": {ranks}, \"device_list\": [\n{}\n  ]}}",
        devices.join(",\n")
    )
}

fn read(text: &[u8], context: &Context) -> Result<Placement> {
    let path = &*context.path;
    let [count, list] = tree::json(text, path)?.fields(["moe_layer_count", "layer_list"])?;
    let layers = context.layers.len();
    count.expect_number(layers as u64, ", the number of MoE layers")?;
    let place = list.place();
    let items = list.items("layers")?;
    if items.len() != layers {
        let found = format!("{} layers", items.len());
        return Err(Error::invalid(path, place, found, format!("{layers}, as `moe_layer_count`")));
    }
    let rows = (0..).zip(items).map(|(layer, item)| read_layer(item, layer, context));
    let placement =
        shape::placement(path, context.experts, context.ranks, rows.collect::<Result<_>>()?)?;
    if let Some((layer, device, expert)) = shape::second_copy(&placement) {
        let place = format!("key `layer_list[{layer}].device_list[{device}]`");
        let expected = "one copy of an expert on a device";
        return Err(Error::invalid(path, place, format!("expert {expert} twice"), expected));
    }
    Ok(placement)
}

fn read_layer(item: At<'_>, layer: u64, context: &Context) -> Result<Row> {
    let place = item.place();
    let [id, count, list] = item.fields(["layer_id", "device_count", "device_list"])?;
    id.expect_number(layer, ", the position in the list")?;
    count.expect_number(context.ranks.into(), ", the number of ranks")?;
    let list_place = list.place();
    let items = list.items("devices")?;
    let path = &*context.path;
    if items.len() != usize::from(context.ranks) {
        let found = format!("{} devices", items.len());
        let expected = format!("{}, as `device_count`", context.ranks);
        return Err(Error::invalid(path, list_place, found, expected));
    }
    let mut experts = Vec::new();
    let mut first: Option<(usize, String)> = None;
    for (device, item) in (0..).zip(items) {
        let [id, held] = item.fields(["device_id", "device_expert"])?;
        id.expect_number(device, ", the position in the list")?;
        let held = held.row(context.experts)?;
        let (slots, as_in) = first.get_or_insert((held.experts.len(), held.place.clone()));
        if held.experts.len() != *slots {
            let found = format!("{} experts", held.experts.len());
            let expected = format!("{slots}, as in {as_in}");
            return Err(Error::invalid(path, held.place, found, expected));
        }
        experts.extend(held.experts);
    }
    Ok(Row { place, experts })
}

fn launch(plan: &Plan) -> String {
    format!(
        "Add to `vllm serve`, with expert parallelism over {} devices:\n\
         \n    --additional-config '{{\"eplb_config\": {{\"expert_map_path\": \"{NAME}\"}}}}'\n\
         \n\
         Leave dynamic_eplb off: it replaces this placement by one of its own while the engine\n\
         runs.\n",
        plan.placement.ranks()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_refused, golden, tiny_plan};
    use super::*;

    #[test]
    fn layers_are_ordinals_and_devices_hold_blocks_of_slots() {
        insta::assert_snapshot!(golden(&ENTRY), @r#"
        {"moe_layer_count": 2, "layer_list": [
          {"layer_id": 0, "device_count": 2, "device_list": [
            {"device_id": 0, "device_expert": [0, 1, 2]},
            {"device_id": 1, "device_expert": [3, 0, 1]}
          ]},
          {"layer_id": 1, "device_count": 2, "device_list": [
            {"device_id": 0, "device_expert": [3, 2, 1]},
            {"device_id": 1, "device_expert": [0, 3, 2]}
          ]}
        ]}
        "#);
    }

    #[test]
    fn two_copies_on_one_device_are_refused_by_name() {
        let row = |ids: [u16; 6]| ids.map(ExpertId).to_vec();
        let rows = vec![row([0, 1, 2, 3, 0, 1]), row([0, 1, 2, 3, 1, 3])];
        let placement = Placement::new(4, 2, rows).unwrap();
        let error = write(&Plan { placement, ..tiny_plan() }).unwrap_err().to_string();
        assert_eq!(
            error,
            "plan: MoE layer 1, device 1: expert 3 twice; expected one copy of an expert on a \
             device, for the engine's map keeps only one: plan with an algorithm that spreads \
             copies, or with fewer slots"
        );
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "[0, 3, 2]",
            "[0, 3, 3]",
            "key `layer_list[1].device_list[1]`: expert 3 twice; expected one copy of an \
                     expert on a device",
        ),
        (
            "[0, 3, 2]",
            "[0, 3]",
            "key `layer_list[1].device_list[1].device_expert`: 2 experts; expected 3, as \
                     in key `layer_list[1].device_list[0].device_expert`",
        ),
        (
            "[0, 3, 2]",
            "[0, 3, 4]",
            "key `layer_list[1].device_list[1].device_expert[2]`: 4; expected an expert \
                     id below 4",
        ),
        (
            "[0, 3, 2]",
            "[0, 3, null]",
            "key `layer_list[1].device_list[1].device_expert[2]`: null; expected an \
                     expert id below 4",
        ),
        (
            "\"moe_layer_count\": 2",
            "\"moe_layer_count\": 3",
            "key `moe_layer_count`: 3; expected 2, the number of MoE layers",
        ),
        (
            "\"moe_layer_count\": 2, ",
            "",
            "the file: no key `moe_layer_count`; expected a map with `moe_layer_count`, \
                     `layer_list`",
        ),
        (
            "\"layer_id\": 1",
            "\"layer_id\": 2",
            "key `layer_list[1].layer_id`: 2; expected 1, the position in the list",
        ),
        (
            "\"layer_id\": 1, \"device_count\": 2",
            "\"layer_id\": 1, \"device_count\": 4",
            "key `layer_list[1].device_count`: 4; expected 2, the number of ranks",
        ),
        (
            "\"device_id\": 1",
            "\"device_id\": 0",
            "key `layer_list[0].device_list[1].device_id`: 0; expected 1, the position \
                     in the list",
        ),
        (
            "\"device_id\": 1, ",
            "\"device_id\": 1, \"rank\": 1, ",
            "key `layer_list[0].device_list[1]`: unknown key `rank`; expected no keys \
                     but `device_id`, `device_expert`",
        ),
        (
            "\"device_id\": 1, ",
            "\"device_id\": 1, \"device_id\": 1, ",
            "line 4, column 35: duplicate key `device_id`; expected complete JSON without \
                     duplicate keys",
        ),
        (
            ",\n    {\"device_id\": 1, \"device_expert\": [3, 0, 1]}",
            "",
            "key `layer_list[0].device_list`: 1 devices; expected 2, as `device_count`",
        ),
        (
            "{\"device_id\": 1, \"device_expert\": [3, 0, 1]}",
            "[1, [3, 0, 1]]",
            "key `layer_list[0].device_list[1]`: a list; expected a map with `device_id`, \
                     `device_expert`",
        ),
    ];

    #[test]
    fn what_the_engine_would_misread_is_refused() {
        check_refused(&ENTRY, REFUSED);
    }
}

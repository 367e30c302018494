//! The attention of a configuration: latent where it states the rank of a compressed cache,
//! grouped-query otherwise.

use super::fields::{Fields, show};
use crate::Result;
use crate::model::Attention;
use crate::model::validate::{HEAD_DIM_MAX, HEADS_MAX, WIDTH_MAX, WINDOW_MAX};

/// Reads the attention of a model of width `hidden`.
pub(super) fn attention(fields: &Fields<'_>, hidden_layers: u16, hidden: u32) -> Result<Attention> {
    let heads = fields.required(&["num_attention_heads"], 1..=HEADS_MAX)?;
    let kv_lora_rank = fields.number(&["kv_lora_rank"], 1..=WIDTH_MAX)?;
    match kv_lora_rank {
        Some(kv_lora_rank) => latent(fields, heads, kv_lora_rank),
        None => grouped(fields, heads, hidden_layers, hidden),
    }
}

fn latent(fields: &Fields<'_>, heads: u32, kv_lora_rank: u32) -> Result<Attention> {
    Ok(Attention::Mla {
        heads,
        q_lora_rank: fields.number(&["q_lora_rank"], 1..=WIDTH_MAX)?.unwrap_or(0),
        kv_lora_rank,
        nope_head_dim: fields.required(&["qk_nope_head_dim"], 1..=HEAD_DIM_MAX)?,
        rope_head_dim: fields.required(&["qk_rope_head_dim"], 0..=HEAD_DIM_MAX)?,
        v_head_dim: fields.required(&["v_head_dim"], 1..=HEAD_DIM_MAX)?,
    })
}

fn grouped(fields: &Fields<'_>, heads: u32, hidden_layers: u16, hidden: u32) -> Result<Attention> {
    let kv_heads = fields.number(&["num_key_value_heads"], 1..=heads)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads, {heads}");
        return Err(fields.invalid("num_key_value_heads", kv_heads.to_string(), expected));
    }
    let head_dim = match fields.number(&["head_dim"], 1..=HEAD_DIM_MAX)? {
        Some(head_dim) => head_dim,
        None => head_dim_of(fields, heads, hidden)?,
    };
    let window = window(fields)?;
    let windowed_layers = match window {
        Some(window) => windowed_layers(fields, hidden_layers, window)?,
        None => 0,
    };
    // A window that no layer has is no window: some files state the width and switch it off.
    let window = window.filter(|_| windowed_layers > 0);
    Ok(Attention::Gqa { heads, kv_heads, head_dim, window, windowed_layers })
}

/// Without `head_dim` the heads share the residual stream.
fn head_dim_of(fields: &Fields<'_>, heads: u32, hidden: u32) -> Result<u32> {
    let head_dim = hidden / heads;
    if hidden.is_multiple_of(heads) && head_dim <= HEAD_DIM_MAX {
        return Ok(head_dim);
    }
    let found = format!("nothing, and hidden_size {hidden} for {heads} heads");
    let expected = format!("a whole number from 1 to {HEAD_DIM_MAX}");
    Err(fields.invalid("head_dim", found, expected))
}

/// The sliding window in tokens, unless the file switches it off.
fn window(fields: &Fields<'_>) -> Result<Option<u32>> {
    if let Some((key, value)) = fields.find(&["use_sliding_window"])? {
        match value.as_bool() {
            Some(false) => return Ok(None),
            Some(true) => {}
            None => return Err(fields.invalid(key, show(value), "true or false".to_owned())),
        }
    }
    fields.number(&["sliding_window"], 1..=WINDOW_MAX)
}

/// How many layers have the window.
fn windowed_layers(fields: &Fields<'_>, hidden_layers: u16, window: u32) -> Result<u16> {
    if let Some(kinds) = fields.per_layer("layer_types", hidden_layers)? {
        let sliding = kinds.iter().filter(|kind| *kind == "sliding_attention").count();
        return Ok(u16::try_from(sliding).expect("at most one for each layer"));
    }
    if let Some(full) = fields.number(&["max_window_layers"], 0..=u16::MAX)? {
        return Ok(hidden_layers.saturating_sub(full));
    }
    // Only Mistral's family is known to mean every layer; gpt-oss means every second one.
    match fields.text(&["model_type"])? {
        Some("mixtral" | "phimoe") => Ok(hidden_layers),
        _ => Err(fields.invalid(
            "layer_types",
            format!("nothing, and sliding_window {window}"),
            "the kind of each layer, or max_window_layers".to_owned(),
        )),
    }
}

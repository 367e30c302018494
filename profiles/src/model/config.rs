//! Reads a Hugging Face `config.json` into a [`ModelShape`].
//!
//! The reader goes by key names, not by architecture, because new families reuse the names of old
//! ones. Where a file says something that a [`ModelShape`] cannot express and that changes which
//! weights or layers there are, the answer is an error; where it only changes how attention is
//! computed, the shape's `source` says so.

mod attention;
mod fields;
mod json;
mod layers;
mod storage;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::ModelShape;
use super::validate::{EXPERTS_MAX, LAYERS_MAX, VOCAB_MAX, WIDTH_MAX};
use crate::{Error, Result};
use fields::{Fields, invalid, show};
use json::Strict;

/// The largest file that is read. Real ones with a long list of unquantised modules have 100 KB.
const FILE_BYTES_MAX: u64 = 16 << 20;

const EXPERTS: &[&str] = &["n_routed_experts", "num_experts", "num_local_experts"];
const TOP_K: &[&str] = &[
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_top_k",
    "top_k_experts",
];
const SHARED_EXPERTS: &[&str] = &["n_shared_experts", "num_shared_experts"];
const SHARED_INTER: &[&str] = &[
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_intermediate_size",
    "share_expert_dim",
];
const EXPERT_GROUPS: &[&str] = &["n_group", "num_expert_group"];

/// Keys whose presence means that the model has a structure which a [`ModelShape`] cannot express.
const NOT_DESCRIBED: &[(&str, &str)] = &[
    ("attn_layer_period", "layers without attention"),
    ("compress_ratios", "attention over compressed tokens"),
    ("expert_dtype", "experts stored otherwise than quantization_config says"),
    ("expert_ffn_hidden_size", "two attentions and two dense networks in every layer"),
    ("expert_layer_period", "experts in every n-th layer"),
    ("global_head_dim", "heads that differ between layers"),
    ("hybrid_layer_pattern", "heads that differ between layers"),
    ("hybrid_override_pattern", "layers without attention"),
    ("interleave_moe_layer_step", "experts in every n-th layer"),
    ("layers_block_type", "layers without attention"),
    ("linear_attn_config", "linear attention"),
    ("linear_num_key_heads", "linear attention"),
    ("moe_latent_size", "experts narrower than the residual stream"),
    ("routed_expert_hidden_size", "experts narrower than the residual stream"),
];

/// Kinds of layers that have attention and its cache as a [`ModelShape`] means them.
const LAYER_TYPES: &[&str] = &["deepseek_sparse_attention", "full_attention", "sliding_attention"];

/// Keys that change how long attention takes and nothing else.
const NOT_COSTED: &[&str] = &["index_topk", "sparse_attention_config"];

/// Reads the `config.json` at `path`.
///
/// The model is called after the folder that the file lies in, or after the file where it has
/// another name than `config.json`.
///
/// # Errors
/// When the file cannot be read, is no model configuration, describes no MoE model, or describes
/// one with a structure that a [`ModelShape`] cannot express.
pub fn read_config(path: &Path) -> Result<ModelShape> {
    let shown = path.display().to_string();
    let read = |source| Error::Read { path: shown.clone(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    let has_side_file = path.with_file_name("hf_quant_config.json").exists();
    parse(&bytes, &shown, &name_of(path), has_side_file)
}

/// The folder's name, or the file's where it is not called `config.json`.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let folder = path.parent().and_then(Path::file_name);
    match (stem.as_deref(), folder) {
        (Some("config"), Some(folder)) => folder.to_string_lossy().into_owned(),
        _ => stem.unwrap_or_else(|| "config".to_owned()),
    }
}

/// The shape that `bytes` of the file at `path` describe.
///
/// ModelOpt may put the quantisation into a file of its own; `has_side_file` says that one exists,
/// so that its model is not taken for an unquantised one.
fn parse(bytes: &[u8], path: &str, name: &str, has_side_file: bool) -> Result<ModelShape> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let expected = format!("a config.json of at most {FILE_BYTES_MAX} bytes");
        return Err(invalid(path, "file", "a larger file".to_owned(), expected));
    }
    let Strict(value) = serde_json::from_slice(bytes).map_err(|error| {
        invalid(path, "file", error.to_string(), "JSON in which no key stands twice".to_owned())
    })?;
    let root = Fields::new(path, "file", &value)?;
    let text = root.object("text_config")?.unwrap_or(root);
    if has_side_file && storage::quantization(&text, &root)?.is_none() {
        return Err(root.invalid(
            "quantization_config",
            "nothing, and a hf_quant_config.json beside the file".to_owned(),
            "the quantisation in config.json".to_owned(),
        ));
    }
    shape(&text, &root, name)
}

fn shape(text: &Fields<'_>, root: &Fields<'_>, name: &str) -> Result<ModelShape> {
    let experts = experts(text)?;
    refuse_what_is_not_described(text)?;
    let hidden_layers = text.required(&["num_hidden_layers"], 1..=LAYERS_MAX)?;
    let hidden = text.required(&["hidden_size"], 1..=WIDTH_MAX)?;
    let moe_layers = layers::moe_layers(text, hidden_layers)?;
    let has_dense_layers = moe_layers.len() < usize::from(hidden_layers);
    let expert_inter = expert_inter(text)?;
    let storage = storage::storage(text, root, hidden_layers)?;
    let shape = ModelShape {
        name: name.to_owned(),
        source: source(text, root)?,
        hidden_layers,
        moe_layers,
        hidden,
        experts,
        zero_experts: text.number(&["zero_expert_num"], 0..=EXPERTS_MAX)?.unwrap_or(0),
        top_k: text.required(TOP_K, 1..=experts)?,
        expert_inter,
        shared_inter: shared_inter(text, expert_inter)?,
        dense_inter: if has_dense_layers { dense_inter(text)? } else { 0 },
        expert_groups: expert_groups(text, experts)?,
        attention: attention::attention(text, hidden_layers, hidden)?,
        vocab: text.required(&["vocab_size"], 1..=VOCAB_MAX)?,
        expert_type: storage.experts,
        dense_type: storage.dense,
    };
    shape.validate_in(text.path())?;
    Ok(shape)
}

/// Routed experts; a model without any is not ours.
fn experts(fields: &Fields<'_>) -> Result<u16> {
    let experts = fields.number(EXPERTS, 0..=EXPERTS_MAX)?;
    let found = match experts {
        Some(0) => "0 experts: a dense model",
        None => "no experts: a dense model",
        Some(experts) => return Ok(experts),
    };
    let expected = "a Mixture-of-Experts model, which has its routed experts in one of these keys";
    Err(fields.invalid(&EXPERTS.join(" or "), found.to_owned(), expected.to_owned()))
}

fn refuse_what_is_not_described(fields: &Fields<'_>) -> Result<()> {
    let refuse = |key: &str, value: &Value, what: &str| {
        let found = format!("{} ({what})", show(value));
        Err(fields.invalid(key, found, "a model without it: no model shape says this".to_owned()))
    };
    for (key, what) in NOT_DESCRIBED {
        if let Some((key, value)) = fields.find(&[key])? {
            return refuse(key, value, what);
        }
    }
    for kind in fields.list(&["layer_types"])?.unwrap_or_default() {
        if !kind.as_str().is_some_and(|kind| LAYER_TYPES.contains(&kind)) {
            return refuse("layer_types", kind, "another kind of layer");
        }
    }
    // MiniMax: 1 is attention as everywhere, 0 is linear attention.
    for kind in fields.list(&["attn_type_list"])?.unwrap_or_default() {
        if *kind != 1 {
            return refuse("attn_type_list", kind, "linear attention");
        }
    }
    Ok(())
}

/// Width of an expert; families without dense layers call it as if it were dense.
fn expert_inter(fields: &Fields<'_>) -> Result<u32> {
    match fields.number(&["moe_intermediate_size"], 1..=WIDTH_MAX)? {
        Some(width) => Ok(width),
        None => fields.required(&["intermediate_size"], 1..=WIDTH_MAX),
    }
}

fn dense_inter(fields: &Fields<'_>) -> Result<u32> {
    match fields.number(&["dense_intermediate_size"], 1..=WIDTH_MAX)? {
        Some(width) => Ok(width),
        None => fields.required(&["intermediate_size"], 1..=WIDTH_MAX),
    }
}

/// All shared experts together: their number times the width of one, which is a routed expert's
/// where the file states none.
fn shared_inter(fields: &Fields<'_>, expert_inter: u32) -> Result<u32> {
    let width = fields.number(SHARED_INTER, 0..=WIDTH_MAX)?;
    let count = fields.number(SHARED_EXPERTS, 0..=u32::from(EXPERTS_MAX))?;
    let count = count.unwrap_or(u32::from(width.is_some()));
    let total = u64::from(count) * u64::from(width.unwrap_or(expert_inter));
    u32::try_from(total).ok().filter(|total| *total <= WIDTH_MAX).ok_or_else(|| {
        let found = format!("{count} shared experts, {total} wide together");
        fields.invalid(SHARED_EXPERTS[0], found, format!("at most {WIDTH_MAX} together"))
    })
}

/// Groups that the router limits its choice to; a choice of all groups is no limit.
fn expert_groups(fields: &Fields<'_>, experts: u16) -> Result<u16> {
    let groups = fields.number(EXPERT_GROUPS, 1..=experts)?.unwrap_or(1);
    if !experts.is_multiple_of(groups) {
        let expected = format!("a divisor of the {experts} experts");
        return Err(fields.invalid(EXPERT_GROUPS[0], groups.to_string(), expected));
    }
    let chosen = fields.number(&["topk_group"], 1..=groups)?;
    Ok(if chosen == Some(groups) { 1 } else { groups })
}

/// Where the shape comes from, and what of the file it leaves out.
fn source(text: &Fields<'_>, root: &Fields<'_>) -> Result<String> {
    let mut source = format!("{} (Hugging Face config.json)", text.path());
    for key in NOT_COSTED {
        if text.find(&[key])?.is_some() {
            source.push_str(&format!("; {key} is left out: attention counts as full"));
        }
    }
    if storage::data_type(text, root)? == Some("float32") {
        source.push_str("; stored as float32, counted as the 16 bits that engines serve");
    }
    Ok(source)
}

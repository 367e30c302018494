//! How the weights of a checkpoint are stored.

use serde_json::Value;

use super::fields::Fields;
use crate::Result;
use crate::model::DataType;

/// The types of a checkpoint's weights.
pub(super) struct Storage {
    /// Routed experts.
    pub(super) experts: DataType,
    /// Everything else.
    pub(super) dense: DataType,
}

/// What a quantisation that this crate can describe is called.
const DESCRIBED: &str = "fp8, mxfp4, or no quantisation";

/// Reads the types from the text model's fields and the whole file's.
pub(super) fn storage(text: &Fields<'_>, root: &Fields<'_>, hidden_layers: u16) -> Result<Storage> {
    match quantization(text, root)? {
        None => {
            sixteen_bits(text, root)?;
            Ok(Storage { experts: DataType::Bf16, dense: DataType::Bf16 })
        }
        Some(fields) => quantized(&fields, hidden_layers),
    }
}

/// The quantisation, which stands beside or inside the text model.
pub(super) fn quantization<'a>(text: &Fields<'a>, root: &Fields<'a>) -> Result<Option<Fields<'a>>> {
    match text.object("quantization_config")? {
        Some(fields) => Ok(Some(fields)),
        None => root.object("quantization_config"),
    }
}

fn quantized(fields: &Fields<'_>, hidden_layers: u16) -> Result<Storage> {
    let key = "quantization_config.quant_method";
    let method = fields.text(&["quant_method"])?;
    let algorithm = fields.text(&["quant_algo"])?;
    let format = fields.text(&["format"])?;
    let fp8 = match (method, algorithm, format) {
        (Some("mxfp4"), None, _) => false,
        (Some("fp8" | "fbgemm_fp8"), None | Some("FP8"), _)
        | (Some("modelopt"), Some("FP8"), _)
        | (Some("compressed-tensors"), None, Some("float-quantized")) => true,
        _ => {
            let parts = [method, algorithm, format].into_iter().flatten();
            let found = parts.collect::<Vec<_>>().join(" ");
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            return Err(fields.invalid(key, found, DESCRIBED.to_owned()));
        }
    };
    if !fp8 {
        return Ok(Storage { experts: DataType::Mxfp4, dense: DataType::Bf16 });
    }
    let kept = keeps_attention(fields, hidden_layers)?;
    let dense = if kept { DataType::Bf16 } else { DataType::Fp8 };
    Ok(Storage { experts: DataType::Fp8, dense })
}

/// Whether the list of modules that stay unquantised holds the attention of most layers.
///
/// The lists hold norms, routers and single layers as well, which weigh little.
fn keeps_attention(fields: &Fields<'_>, hidden_layers: u16) -> Result<bool> {
    let list = fields.list(&["modules_to_not_convert", "ignored_layers", "ignore"])?;
    let names = list.unwrap_or_default().iter().filter_map(Value::as_str);
    let attention: Vec<&str> = names.filter(|name| is_attention(name)).collect();
    let of_all = attention.iter().any(|name| !name.contains(|c: char| c.is_ascii_digit()));
    Ok(of_all || attention.len() * 2 > usize::from(hidden_layers))
}

/// Whether a module name or pattern means an attention block or its output projection.
fn is_attention(name: &str) -> bool {
    name.rsplit_once("self_attn")
        .is_some_and(|(_, rest)| matches!(rest.trim_matches(['.', '*']), "" | "o_proj"))
}

/// Unquantised weights must be 16 bits wide, or 32 and served as 16.
fn sixteen_bits(text: &Fields<'_>, root: &Fields<'_>) -> Result<()> {
    match data_type(text, root)? {
        None | Some("bfloat16" | "float16" | "float32") => Ok(()),
        Some(other) => {
            let expected = "bfloat16, float16 or float32".to_owned();
            Err(text.invalid("dtype", other.to_owned(), expected))
        }
    }
}

/// The type that the file names for unquantised weights.
pub(super) fn data_type<'a>(text: &Fields<'a>, root: &Fields<'a>) -> Result<Option<&'a str>> {
    let keys = ["dtype", "torch_dtype"];
    match text.text(&keys)? {
        Some(name) => Ok(Some(name)),
        None => root.text(&keys),
    }
}

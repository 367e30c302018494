//! Which layers have experts. Families say it in five ways, and several may stand together: a layer
//! has experts where none of them says otherwise.

use serde_json::Value;

use super::fields::{Fields, show};
use crate::Result;

/// A rule of a configuration: whether layer number `.0` may have experts.
type Rule = Box<dyn Fn(u16) -> bool>;

/// The absolute numbers of the layers with experts, ascending.
pub(super) fn moe_layers(fields: &Fields<'_>, hidden_layers: u16) -> Result<Vec<u16>> {
    let rules = [
        after_dense_layers(fields, hidden_layers)?,
        by_frequency(fields, hidden_layers)?,
        by_sparse_step(fields, hidden_layers)?,
        by_exception(fields, hidden_layers)?,
        by_kind(fields, hidden_layers)?,
    ];
    let layers: Vec<u16> =
        (0..hidden_layers).filter(|layer| rules.iter().all(|rule| rule(*layer))).collect();
    if layers.is_empty() {
        let keys = "first_k_dense_replace, moe_layer_freq, decoder_sparse_step, mlp_only_layers";
        let found = format!("no layer with experts among {hidden_layers}");
        return Err(fields.invalid(keys, found, "at least one".to_owned()));
    }
    Ok(layers)
}

/// DeepSeek: the first layers are dense.
fn after_dense_layers(fields: &Fields<'_>, hidden_layers: u16) -> Result<Rule> {
    let first = fields.number(&["first_k_dense_replace"], 0..=hidden_layers)?.unwrap_or(0);
    Ok(Box::new(move |layer| layer >= first))
}

/// DeepSeek: every n-th layer counted from 0, or one 0 or 1 for each layer.
fn by_frequency(fields: &Fields<'_>, hidden_layers: u16) -> Result<Rule> {
    let key = "moe_layer_freq";
    let is_list = fields.find(&[key])?.is_some_and(|(_, value)| value.is_array());
    if !is_list {
        let every = fields.number(&[key], 1..=hidden_layers)?.unwrap_or(1);
        return Ok(Box::new(move |layer| layer.is_multiple_of(every)));
    }
    flags(fields, key, hidden_layers, |value| match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err("0 (dense) or 1 (experts) for each layer"),
    })
}

/// Qwen: every n-th layer counted from 1.
fn by_sparse_step(fields: &Fields<'_>, hidden_layers: u16) -> Result<Rule> {
    let step = fields.number(&["decoder_sparse_step"], 1..=hidden_layers)?.unwrap_or(1);
    Ok(Box::new(move |layer| (layer + 1).is_multiple_of(step)))
}

/// Qwen: the layers in a list are dense.
fn by_exception(fields: &Fields<'_>, hidden_layers: u16) -> Result<Rule> {
    let key = "mlp_only_layers";
    let mut dense = vec![false; usize::from(hidden_layers)];
    for value in fields.list(&[key])?.unwrap_or_default() {
        let layer = value.as_u64().and_then(|layer| usize::try_from(layer).ok());
        let Some(flag) = layer.and_then(|layer| dense.get_mut(layer)) else {
            let expected = format!("layer numbers below {hidden_layers}");
            return Err(fields.invalid(key, show(value), expected));
        };
        *flag = true;
    }
    Ok(Box::new(move |layer| !dense[usize::from(layer)]))
}

/// Transformers 5: the kind of every layer by name.
fn by_kind(fields: &Fields<'_>, hidden_layers: u16) -> Result<Rule> {
    flags(fields, "mlp_layer_types", hidden_layers, |value| match value.as_str() {
        Some("dense") => Ok(false),
        Some("sparse") => Ok(true),
        _ => Err("\"dense\" or \"sparse\" for each layer"),
    })
}

/// The rule of a list with one entry for each layer; without the list, every layer passes.
fn flags(
    fields: &Fields<'_>,
    key: &str,
    hidden_layers: u16,
    read: fn(&Value) -> std::result::Result<bool, &'static str>,
) -> Result<Rule> {
    let Some(list) = fields.per_layer(key, hidden_layers)? else { return Ok(Box::new(|_| true)) };
    let mut flags = Vec::new();
    for value in list {
        let flag = read(value).map_err(|valid| fields.invalid(key, show(value), valid.into()))?;
        flags.push(flag);
    }
    Ok(Box::new(move |layer| flags[usize::from(layer)]))
}

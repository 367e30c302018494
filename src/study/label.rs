//! Short names of points, from the values of their keys.

use toml::Value;

/// Whether `key` is about what clients ask.
pub(crate) fn is_of_load(key: &str) -> bool {
    key == "load" || key.starts_with("load.")
}

/// Whether `key` changes what a service costs or must keep, but not what it does.
fn is_beside(key: &str) -> bool {
    key == "price_per_gpu_hour" || key == "slo" || key.starts_with("slo.")
}

/// Every key with its value.
pub(crate) fn all(values: &[(String, Value)]) -> String {
    let parts: Vec<String> =
        values.iter().map(|(key, value)| format!("{key} = {}", text(value))).collect();
    parts.join(", ")
}

/// What tells a setting from the others: the values of keys that are not of the load.
pub(crate) fn series(keys: &[String], values: &[Option<Value>]) -> String {
    short(keys, values, |key| !is_of_load(key) && !is_beside(key))
}

/// What tells a load from the others.
pub(crate) fn load(keys: &[String], values: &[Option<Value>]) -> String {
    short(keys, values, is_of_load)
}

/// Values of the keys that `wanted` picks: names by themselves, figures behind the last part of
/// their key where that is clear.
fn short(keys: &[String], values: &[Option<Value>], wanted: fn(&str) -> bool) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    for (key, value) in keys.iter().zip(values).filter(|(key, _)| wanted(key)) {
        let Some(value) = value else { continue };
        let unique = keys.iter().filter(|other| last(other) == last(key)).count() == 1;
        let name = if unique { last(key) } else { key.clone() };
        parts.push(match value {
            Value::String(text) if unique => text.clone(),
            value => format!("{name} {}", text(value)),
        });
    }
    parts.join(", ")
}

/// A value as people read it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Table(table) => {
            let parts: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} {}", text(value))).collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_by_themselves_and_figures_behind_their_key() {
        let keys =
            ["gpu", "layout.tensor", "decode.layout.data", "load.set.clients", "slo.ttft_ms"];
        let keys = keys.map(str::to_owned);
        let values = [
            Some(Value::String("b200".to_owned())),
            Some(Value::Integer(8)),
            None,
            Some(Value::Float(64.0)),
            Some(Value::Integer(500)),
        ];
        assert_eq!(series(&keys, &values), "b200, tensor 8");
        assert_eq!(load(&keys, &values), "clients 64.0");
        let twice = ["layout.tensor", "decode.layout.tensor"].map(str::to_owned);
        let values = [Some(Value::Integer(8)), Some(Value::Integer(4))];
        assert_eq!(series(&twice, &values), "layout.tensor 8, decode.layout.tensor 4");
    }
}

//! Files whose keys are changed one by one: dotted keys of a table, and what is wrong with them.

use std::path::Path;

use anyhow::{Context, Result};
use moecast_profiles::registry::nearest;
use toml::{Table, Value};

use crate::{files, serve};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file of one shape; the error names the line.
pub(crate) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = String::from_utf8(files::read_small(path, FILE_BYTES_MAX)?)
        .with_context(|| format!("{shown}: expected UTF-8 text"))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{shown}: line {line}: {}", serve::plain(error.message()))
    })
}

/// `a.b.c = value` for everything that `table` holds.
pub(crate) fn flat(table: Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                let inner = flat(inner).into_iter();
                found.extend(inner.map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => found.push((key, value)),
        }
    }
    found
}

/// Puts `value` where the dotted `key` says.
pub(crate) fn set(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let mut place = table;
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let inner = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let kind = inner.type_str();
        place = inner
            .as_table_mut()
            .with_context(|| format!("{key}: {part} is a {kind}; expected a table"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

pub(crate) fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table()?.get(part))
}

/// What the parser says of a changed table, with the changed key that it is about.
pub(crate) fn explained(error: &toml::de::Error, changes: &[(String, Value)]) -> anyhow::Error {
    let message = serve::plain(error.message());
    let Some(rest) = message.strip_prefix("key `") else { return anyhow::anyhow!("{message}") };
    let name = rest.split('`').next().unwrap_or_default();
    let has = |(key, _): &&(String, Value)| key.split('.').any(|part| part == name);
    let Some((key, _)) = changes.iter().find(has) else { return anyhow::anyhow!("{message}") };
    // The same path with the valid key that is nearest.
    let valid: Vec<&str> =
        message.split("valid keys are ").nth(1).unwrap_or_default().split(", ").collect();
    let near = nearest(name, &valid).map(|near| {
        let parts: Vec<&str> =
            key.split('.').map(|part| if part == name { near } else { part }).collect();
        format!("did you mean `{}`? ", parts.join("."))
    });
    let near = near.unwrap_or_default();
    anyhow::anyhow!("key `{key}`: unknown; {near}valid keys are {}", valid.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_set_in_a_table_that_was_not_there() {
        let mut service = table("model = \"m\"");
        set(&mut service, "decode.layout.tensor", Value::Integer(4)).unwrap();
        assert_eq!(find(&service, "decode.layout.tensor"), Some(&Value::Integer(4)));
        assert_eq!(find(&service, "decode.layout.data"), None);
        let error = set(&mut service, "model.name", Value::Integer(1)).unwrap_err();
        assert_eq!(error.to_string(), "model.name: model is a string; expected a table");
    }
}

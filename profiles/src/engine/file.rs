//! Engines in files: figures, what they are like, and what versions change.
//!
//! `like = "NAME"` starts from the shipped engine of that name; each key of the file then replaces
//! the key of that engine as a whole. `[[versions]]` does the same from the file itself, for the
//! versions `from` (included) `until` (not included).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{ALL, Engine, Version, VersionRange, invalid};
use crate::registry::find as find_entry;
use crate::{Error, Result};

/// The bounds of an entry of `[[versions]]`; its other keys replace those of the engine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    from: Option<Version>,
    until: Option<Version>,
}

impl Engine {
    /// Reads an engine from the `text` of a file that errors call `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which key is wrong, or that a shipped engine it is like is unknown.
    pub fn read(text: &str, path: &str) -> Result<Self> {
        let mut table = table(text, path)?;
        let versions = match table.remove("versions") {
            None => Vec::new(),
            Some(Value::Array(versions)) => versions,
            Some(_) => return Err(invalid(path, "versions", "one value", "[[versions]] entries")),
        };
        let mut engine = resolve(table.clone(), path)?;
        for (index, version) in versions.into_iter().enumerate() {
            let place = format!("{path}, entry {} of versions", index + 1);
            let Value::Table(mut changes) = version else {
                return Err(invalid(&place, "versions", "no table", "[[versions]] entries"));
            };
            let mut bounds = Table::new();
            for key in ["from", "until"] {
                bounds.extend(changes.remove(key).map(|value| (key.to_owned(), value)));
            }
            if let Some(key) = ["name", "versions"].iter().find(|key| changes.contains_key(**key)) {
                return Err(invalid(&place, key, "a change", "figures alone"));
            }
            let Bounds { from, until } = typed(bounds, &place)?;
            let range = VersionRange { from, until };
            let taken = engine.versions().find(|other| range.overlaps(other));
            if let Some(taken) = taken.filter(|_| !range.is_empty()) {
                let found = format!("{range} and {taken}");
                return Err(invalid(&place, "from", &found, "ranges that do not overlap"));
            }
            if range.is_empty() {
                return Err(invalid(&place, "from", &range.to_string(), "from before until"));
            }
            let mut all = table.clone();
            all.extend(changes);
            engine.versions.push((range, resolve(all, &place)?));
        }
        Ok(engine)
    }
}

/// The keys of a file over those of the engine that it is like.
fn table(text: &str, path: &str) -> Result<Table> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        invalid(path, &format!("line {line}"), &one_line(error.message()), "valid TOML")
    })?;
    let Some(like) = table.remove("like") else { return Ok(table) };
    let Some(like) = like.as_str() else {
        return Err(invalid(path, "like", "no text", "the name of a shipped engine"));
    };
    let preset = find_entry("engine", ALL, like)
        .map_err(|error| invalid(path, "like", &error.to_string(), "a shipped engine"))?;
    let mut base = self::table(preset.text(), &format!("engine {like}"))?;
    base.extend(table);
    Ok(base)
}

fn resolve(table: Table, path: &str) -> Result<Engine> {
    let engine: Engine = typed(table, path)?;
    engine.validate(path)?;
    Ok(engine)
}

fn typed<T: DeserializeOwned>(table: Table, path: &str) -> Result<T> {
    table.try_into().map_err(|error: toml::de::Error| Error::Invalid {
        path: path.to_owned(),
        key: "file".to_owned(),
        found: one_line(&error.to_string()),
        expected: "a valid engine".to_owned(),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

//! Reads request traces of one JSON object a line.

use std::path::Path;

use moecast_profiles::registry::nearest;
use serde::de::DeserializeOwned;
use serde_json::Number;

use super::text::{Line, each_line, short};
use crate::error::{Error, Result};

/// Shows every line of `path` to `visit`, parsed as a `T` that refuses unknown keys. `shape` is
/// what a line looks like and `keys` are its keys, for errors.
pub(super) fn each_object<T: DeserializeOwned>(
    path: &Path,
    shape: &str,
    keys: &[&str],
    mut visit: impl FnMut(Line<'_>, T) -> Result<()>,
) -> Result<()> {
    each_line(path, |line| {
        if !line.text.starts_with('{') {
            return Err(line.error(format!("`{}`", short(line.text)), shape));
        }
        match serde_json::from_str(line.text) {
            Ok(object) => visit(line, object),
            Err(error) => Err(explain(&line, shape, keys, &error)),
        }
    })
}

/// The line of the file is known better than serde knows it, and so are the keys.
fn explain(line: &Line<'_>, shape: &str, keys: &[&str], error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let found = text.split(" at line ").next().unwrap_or(&text);
    let place = format!("line {}, column {}", line.number, error.column());
    if let Some(rest) = found.strip_prefix("unknown field `") {
        let key = rest.split("`, ").next().unwrap_or(rest);
        let found = format!("unknown key `{}`", short(key));
        let expected = match nearest(key, keys) {
            Some(near) => format!("`{near}` in {shape}"),
            None => shape.to_owned(),
        };
        return Error::invalid(line.path, place, found, expected);
    }
    let found = found.replace("field `", "key `").escape_debug().to_string();
    Error::invalid(line.path, place, found, shape)
}

/// Nanoseconds of `number` units of `unit_nanos` each: exact for whole numbers, rounded to the
/// nanosecond for others.
pub(super) fn nanos(line: &Line<'_>, key: &str, number: &Number, unit_nanos: u32) -> Result<i128> {
    if let Some(whole) = number.as_i128() {
        // A JSON integer has 64 bits: times a unit of 32 bits it stays far below 128.
        return Ok(whole * i128::from(unit_nanos));
    }
    let nanos = number.as_f64().unwrap_or(f64::NAN) * f64::from(unit_nanos);
    if nanos.abs() < 1e24 {
        #[expect(clippy::cast_possible_truncation, reason = "in range")]
        return Ok(nanos.round() as i128);
    }
    Err(line.error(format!("{key} {number}"), "a time within the age of the universe"))
}

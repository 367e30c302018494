//! Typed questions to a JSON object, answered with the value or with an error that names the file,
//! the key, what was found and what would be right.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// How much of a wrong value an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// One object of a configuration file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    path: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object `value` of the file at `path`, where `key` says what the object is.
    pub(super) fn new(path: &'a str, key: &str, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(invalid(path, key, show(other), "an object".to_owned())),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &'a str {
        self.path
    }

    /// The value of the first of `keys` that is there and not null.
    ///
    /// Configurations state one fact under several names; two that disagree are an error.
    pub(super) fn find<'k>(&self, keys: &[&'k str]) -> Result<Option<(&'k str, &'a Value)>> {
        let mut stated = keys.iter().filter_map(|key| {
            let value = self.map.get(*key)?;
            (!value.is_null()).then_some((*key, value))
        });
        let Some((key, value)) = stated.next() else { return Ok(None) };
        if let Some((other, differs)) = stated.find(|(_, differs)| *differs != value) {
            let expected = format!("{}, as `{key}` says", show(value));
            return Err(self.invalid(other, show(differs), expected));
        }
        Ok(Some((key, value)))
    }

    /// The whole number under one of `keys`; `None` where no key is there.
    pub(super) fn number<T>(&self, keys: &[&str], valid: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let Some((key, value)) = self.find(keys)? else { return Ok(None) };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        match number.filter(|number| valid.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.invalid(key, show(value), whole_number(&valid))),
        }
    }

    /// As [`Self::number`], where the model cannot be described without it.
    pub(super) fn required<T>(&self, keys: &[&str], valid: RangeInclusive<T>) -> Result<T>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let expected = whole_number(&valid);
        self.number(keys, valid)?
            .ok_or_else(|| self.invalid(&keys.join(" or "), "nothing".to_owned(), expected))
    }

    /// The text under one of `keys`.
    pub(super) fn text(&self, keys: &[&str]) -> Result<Option<&'a str>> {
        let Some((key, value)) = self.find(keys)? else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.invalid(key, show(value), "a text".into()));
        text.map(Some)
    }

    /// The list under one of `keys`.
    pub(super) fn list(&self, keys: &[&str]) -> Result<Option<&'a [Value]>> {
        let Some((key, value)) = self.find(keys)? else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.invalid(key, show(value), "a list".into()));
        list.map(|list| Some(list.as_slice()))
    }

    /// The list of one entry per layer under `key`.
    pub(super) fn per_layer(&self, key: &str, layers: u16) -> Result<Option<&'a [Value]>> {
        let Some(list) = self.list(&[key])? else { return Ok(None) };
        if list.len() == usize::from(layers) {
            return Ok(Some(list));
        }
        let expected = format!("{layers} entries, one for each hidden layer");
        Err(self.invalid(key, format!("{} entries", list.len()), expected))
    }

    /// The object under `key`.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        let Some((key, value)) = self.find(&[key])? else { return Ok(None) };
        Fields::new(self.path, key, value).map(Some)
    }

    /// The error that `found` stands under `key` where `expected` should.
    pub(super) fn invalid(&self, key: &str, found: String, expected: String) -> Error {
        invalid(self.path, key, found, expected)
    }
}

/// The error of this reader.
pub(super) fn invalid(path: &str, key: &str, found: String, expected: String) -> Error {
    Error::Invalid { path: path.to_owned(), key: key.to_owned(), found, expected }
}

/// The beginning of `value` as JSON.
pub(super) fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn whole_number<T: Display>(valid: &RangeInclusive<T>) -> String {
    format!("a whole number from {} to {}", valid.start(), valid.end())
}

//! JSON that says which version of its format it is of.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What is looked at first: a newer file may hold keys that this build does not know.
#[derive(Deserialize)]
struct Head {
    version: Option<u32>,
}

/// The value that `text` holds, which is `what`. `path` is named in errors.
///
/// # Errors
/// When the text is of another version or does not hold such a value.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &[u8],
    path: &str,
    version: u32,
    what: &str,
) -> Result<T> {
    let head = serde_json::from_slice::<Head>(text).ok().and_then(|head| head.version);
    if let Some(found) = head.filter(|found| *found != version) {
        let place = "key `version`".to_owned();
        return Err(Error::invalid(path, place, found.to_string(), &version.to_string()));
    }
    serde_json::from_slice(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Error::invalid(path, place, error.to_string(), what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[allow(dead_code, reason = "read by serde only")]
        version: u32,
    }

    fn answer(text: &str) -> String {
        parse::<File>(text.as_bytes(), "a.json", 1, "a file").unwrap_err().to_string()
    }

    #[test]
    fn a_newer_version_is_told_before_its_new_keys() {
        let newer = answer("{\"version\": 2, \"news\": []}");
        assert_eq!(newer, "a.json: key `version`: 2; expected 1");
        let wrong = answer("{\"version\": 1, \"news\": []}");
        assert!(wrong.starts_with("a.json: line 1, column") && wrong.contains("news"), "{wrong}");
    }
}

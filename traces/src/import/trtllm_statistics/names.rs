//! The names of tensors in a safetensors file: the crate keeps the last of two equal ones, so the
//! header is looked through once more.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// The names in the header, sorted, each once.
struct Names(BTreeSet<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header of safetensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Names, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    let shown = super::short(&name);
                    if !names.insert(name) {
                        return Err(A::Error::custom(format!("tensor `{shown}` twice")));
                    }
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// The tensors of a file that is known to be well-formed, sorted.
pub(super) fn tensor_names(path: &str, bytes: &[u8]) -> Result<BTreeSet<String>> {
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(8);
    let header = bytes.get(8..end).unwrap_or_default();
    let mut names: Names = serde_json::from_slice(header).map_err(|error| {
        let found = error.to_string();
        let found = found.split(" at line ").next().unwrap_or_default();
        Error::invalid(path, "header", found, "each tensor once")
    })?;
    names.0.remove("__metadata__");
    Ok(names.0)
}

/// A number as Python prints it: digits only, no leading zero.
pub(super) fn plain(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// Pass and layer of a tensor called `{iteration}_{layer}`.
pub(super) fn key(name: &str) -> Option<super::Key> {
    let (pass, layer) = name.split_once('_')?;
    Some((plain(pass)?, u16::try_from(plain(layer)?).ok()?))
}

/// Whether a file begins with a header of safetensors in which a tensor has such a name.
pub(super) fn begins_with_key(head: &[u8]) -> bool {
    let Some((_, header)) = head.split_at_checked(8) else { return false };
    header
        .split(|&byte| byte == b'"')
        .skip(1)
        .step_by(2)
        .any(|text| std::str::from_utf8(text).is_ok_and(|text| key(text).is_some()))
        && header.trim_ascii_start().starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_pass_and_a_layer() {
        assert_eq!(key("100_3"), Some((100, 3)));
        assert_eq!(key("0_0"), Some((0, 0)));
        for wrong in ["100", "100_", "_3", "0100_3", "100_None", "1_2_3", "+1_2", "1_65536"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_may_not_occur_twice() {
        let header = b"{\"__metadata__\":{},\"2_1\":1,\"1_1\":{\"a\":[]}}";
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), b"data"].concat();
        let names: Vec<String> = tensor_names("a", &file).unwrap().into_iter().collect();
        assert_eq!(names, ["1_1", "2_1"]);
        let header = b"{\"2_1\":1,\"2_1\":2}";
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat();
        let error = tensor_names("a", &file).unwrap_err().to_string();
        assert_eq!(error, "a: header: tensor `2_1` twice; expected each tensor once");
    }
}

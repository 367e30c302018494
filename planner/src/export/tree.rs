//! Reads JSON and YAML from files that nobody vouches for.

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::cursor::At;
use super::node::{Node, one_line};
use crate::error::{Error, Result};

/// Deepest nesting of a YAML plan; the only format that we read has three levels.
const YAML_DEPTH_MAX: usize = 8;

/// Reads JSON. `file` is named in errors.
///
/// # Errors
/// When the text is no JSON or a map in it has a key twice.
pub(crate) fn json<'a>(text: &[u8], file: &'a str) -> Result<At<'a>> {
    json_from_line(text, file, 1)
}

/// Reads JSON that starts at line `first_line` of its file.
///
/// # Errors
/// When the text is no JSON or a map in it has a key twice.
pub(crate) fn json_from_line<'a>(text: &[u8], file: &'a str, first_line: usize) -> Result<At<'a>> {
    let node: Node = serde_json::from_slice(text).map_err(|error| {
        let line = first_line - 1 + error.line();
        let place = format!("line {line}, column {}", error.column());
        let message = error.to_string();
        let found = message.rsplit_once(" at line ").map_or(&*message, |(found, _)| found);
        Error::invalid(file, place, one_line(found), "complete JSON without duplicate keys")
    })?;
    Ok(At::root(file, node))
}

/// Reads YAML. `file` is named in errors.
///
/// Aliases are followed, because a generator that writes one list for two layers makes them, but
/// within the parser's limits on replayed events; merge keys and unknown tags are refused, and so
/// are integers that YAML 1.1, which the engines read, takes for something else (`010`, `1_000`).
///
/// # Errors
/// When the text is no YAML, a map in it has a key twice, or a limit is passed.
pub(crate) fn yaml<'a>(text: &[u8], file: &'a str) -> Result<At<'a>> {
    let text = utf8(text, file)?;
    // A document without aliases cannot have more events than twice its bytes, so what we wrote
    // ourselves always passes; aliases have limits of their own.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            max_documents: 1,
            max_events: text.len().saturating_mul(2).saturating_add(16),
            max_nodes: text.len().saturating_add(16),
            max_merge_keys: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or_else(
            || "the file".to_owned(),
            |location| format!("line {}, column {}", location.line(), location.column()),
        );
        let message = error.to_string();
        let found = message.rsplit_once(" at line ").map_or(&*message, |(found, _)| found);
        Error::invalid(file, place, one_line(found), "complete YAML without duplicate keys")
    })?;
    Ok(At::root(file, node))
}

/// The text of a file.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn utf8<'t>(text: &'t [u8], file: &str) -> Result<&'t str> {
    std::str::from_utf8(text).map_err(|error| {
        let place = format!("byte {}", error.valid_up_to());
        Error::invalid(file, place, "bytes that are no UTF-8", "UTF-8 text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(read: fn(&[u8], &'static str) -> Result<At<'static>>, text: &str) -> String {
        match read(text.as_bytes(), "f") {
            Ok(at) => format!("accepted as {:?}", at.node()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_key_twice_is_refused_however_deep_it_lies() {
        assert_eq!(
            message(json, "{\"a\": {\"b\": 1, \"b\": 2}}"),
            "f: line 1, column 22: duplicate key `b`; expected complete JSON without duplicate keys"
        );
        let yaml_message = message(yaml, "a: {3: 1, 3: 2}");
        assert!(yaml_message.contains("duplicate"), "{yaml_message}");
        // The same integer, spelled twice.
        let yaml_message = message(yaml, "a: {3: 1, 0x3: 2}");
        assert!(yaml_message.contains("duplicate"), "{yaml_message}");
    }

    #[test]
    fn a_message_stays_on_one_line_and_short() {
        let text = format!("{{\"a\\nb\": 1, \"a\\nb\": 2, \"{}\": 3}}", "x".repeat(1000));
        let line = message(json, &text);
        assert!(line.contains("duplicate key `a\\nb`") && !line.contains('\n'), "{line}");
        assert_eq!(one_line(&"y".repeat(200)).len(), 83);
    }

    #[test]
    fn yaml_numbers_that_engines_read_otherwise_are_text() {
        // PyYAML reads 010 as 8 and 1_0 as 10; neither may pass for the integer ten.
        for spelled in ["010", "1_0", "\"10\"", "!!str 10"] {
            let text = format!("a: {spelled}");
            assert!(
                message(yaml, &text).contains("Text(\""),
                "{spelled}: {}",
                message(yaml, &text)
            );
        }
    }

    #[test]
    fn alias_bombs_deep_nesting_merges_and_tags_are_refused() {
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let wide = format!("a: &a [{}]\nb: [{}]", "1, ".repeat(2000), "*a, ".repeat(20_000));
        let deep = "[".repeat(100_000);
        let merge = "a: &a {b: 1}\nc: {<<: *a}";
        for text in [&*bomb, &*wide, &*deep, merge, "a: !python/object:os.system 1", "a: *b"] {
            let found = message(yaml, text);
            assert!(!found.starts_with("accepted"), "{found:.200}");
        }
        let found = message(json, &deep);
        assert!(found.contains("recursion limit"), "{found:.200}");
    }
}

//! Files of command-line arguments: words between blanks, as `$(cat FILE)` gives them to a program,
//! where quotes would be part of a word.

use super::Context;
use crate::error::{Error, Result};
use crate::export::node::one_line;
use crate::export::tree::utf8;

/// What a shell would not leave alone in an unquoted substitution.
const SPECIAL: [char; 5] = ['*', '?', '[', '"', '\''];

/// The words of `bytes`.
pub(super) fn words<'b>(bytes: &'b [u8], context: &Context<'_>) -> Result<Vec<&'b str>> {
    let words: Vec<&str> = utf8(bytes, &context.path)?.split_ascii_whitespace().collect();
    match words.iter().find(|word| word.contains(SPECIAL)) {
        Some(word) => {
            let expected = "words that a shell takes as they are";
            Err(invalid(context, word, expected))
        }
        None => Ok(words),
    }
}

/// The value after `flag`.
pub(super) fn value<'w>(
    words: &mut impl Iterator<Item = &'w str>,
    flag: &str,
    context: &Context<'_>,
) -> Result<&'w str> {
    words.next().ok_or_else(|| invalid(context, flag, "a value after it"))
}

/// The number after `flag`.
pub(super) fn number<'w, T: std::str::FromStr>(
    words: &mut impl Iterator<Item = &'w str>,
    flag: &str,
    context: &Context<'_>,
) -> Result<T> {
    let word = value(words, flag, context)?;
    word.parse().map_err(|_| invalid(context, word, &format!("a number after {flag}")))
}

/// An error about `word`.
pub(super) fn invalid(context: &Context<'_>, word: &str, expected: &str) -> Error {
    Error::invalid(&context.path, "arguments", format!("`{}`", one_line(word)), expected)
}

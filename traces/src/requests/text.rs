//! Reads line-based request traces: one line at a time, with its number, and never more than
//! [`LINE_BYTES_MAX`] of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use super::builder::{Arrival, RequestTraceBuilder};
use super::shown;
use crate::error::{Error, Result};

/// Longest line that is read: the hashes of a prompt of a hundred million tokens.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// One line and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) path: &'a str,
    /// From 1.
    pub(super) number: u64,
    /// Without its ending and the blanks around it; never empty.
    pub(super) text: &'a str,
}

impl Line<'_> {
    /// An error at this line.
    pub(super) fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::invalid(self.path, format!("line {}", self.number), found, expected)
    }

    /// `text` as a number; the error names `column` and `expected`.
    pub(super) fn number<T: FromStr>(&self, column: &str, text: &str, expected: &str) -> Result<T> {
        text.parse().map_err(|_| self.error(format!("{column} `{}`", short(text)), expected))
    }

    /// `text` as a number of tokens.
    pub(super) fn tokens(&self, column: &str, text: &str) -> Result<u32> {
        self.number(column, text, "a whole number of tokens from 0 to 4294967295")
    }

    /// Pushes the request of this line.
    pub(super) fn push(
        &self,
        arrival: Arrival<'_>,
        builder: &mut RequestTraceBuilder,
    ) -> Result<()> {
        builder.push(arrival).map_err(|refusal| self.error(refusal.found, refusal.expected))
    }
}

/// Shows every line of `path` that is not blank to `visit`, in order.
pub(super) fn each_line(path: &Path, mut visit: impl FnMut(Line<'_>) -> Result<()>) -> Result<()> {
    let name = shown(path);
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut buffer = Vec::new();
    for number in 1.. {
        buffer.clear();
        let mut limited = reader.by_ref().take(LINE_BYTES_MAX + 1);
        let count =
            limited.read_until(b'\n', &mut buffer).map_err(|error| Error::io(path, error))?;
        if count == 0 {
            break;
        }
        let line = Line { path: &name, number, text: "" };
        if count as u64 > LINE_BYTES_MAX {
            return Err(line.error(format!("more than {LINE_BYTES_MAX} bytes"), "a shorter line"));
        }
        let skip = if number == 1 && buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let text = std::str::from_utf8(&buffer[skip..]).map_err(|error| {
            let column = error.valid_up_to() + 1;
            line.error(format!("a byte that is not UTF-8 at column {column}"), "text")
        })?;
        let text = text.trim_ascii();
        if !text.is_empty() {
            visit(Line { text, ..line })?;
        }
    }
    Ok(())
}

/// Text from a file as messages quote it: printable and not long.
pub(super) fn short(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    match escaped.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &escaped[..end]),
        None => escaped,
    }
}

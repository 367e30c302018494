//! Reads line-based recordings: one line at a time, with its number, and never more than
//! [`LINE_BYTES_MAX`] of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use super::{Progress, shown};
use crate::error::{Error, Result};

/// Longest line that is read; a line of 64 layers with 8 experts each is 3 KB.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// The lines of one file.
pub(super) struct Lines<'a> {
    path: String,
    reader: BufReader<File>,
    number: u64,
    buffer: Vec<u8>,
    progress: &'a Progress<'a>,
}

impl<'a> Lines<'a> {
    pub(super) fn open(path: &Path, progress: &'a Progress<'a>) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(Self { path: shown(path), reader, number: 0, buffer: Vec::new(), progress })
    }

    /// The next line that is not blank, with its number from 1 and without its ending.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &str)>> {
        loop {
            self.buffer.clear();
            let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX + 1);
            let count = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(|error| Error::io(&self.path, error))?;
            if count == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.progress.add(count as u64);
            if count as u64 > LINE_BYTES_MAX {
                let found = format!("more than {LINE_BYTES_MAX} bytes");
                return Err(self.error(self.number, found, "a shorter line"));
            }
            if !self.buffer.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        let skip = if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        match std::str::from_utf8(&self.buffer[skip..]) {
            Ok(line) => Ok(Some((self.number, line.trim_ascii()))),
            Err(error) => {
                let found = format!("a byte that is not UTF-8 at column {}", error.valid_up_to());
                Err(self.error(self.number, found, "text"))
            }
        }
    }

    /// An error at line `number` of this file.
    pub(super) fn error(
        &self,
        number: u64,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Error {
        line_error(&self.path, number, found, expected)
    }
}

/// An error at line `number` of `path`.
pub(super) fn line_error(
    path: &str,
    number: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::invalid(path, format!("line {number}"), found, expected)
}

/// Where a row stands, for the errors of its fields.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) path: &'a str,
    pub(super) number: u64,
}

impl Row<'_> {
    /// `text` as a number; the error names `column` and `expected`.
    pub(super) fn number<T: FromStr>(self, column: &str, text: &str, expected: &str) -> Result<T> {
        text.trim_ascii().parse().map_err(|_| {
            let found = format!("{column} `{}`", short(text));
            line_error(self.path, self.number, found, expected)
        })
    }
}

/// Text from a file as messages quote it: printable and not long.
pub(super) fn short(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    match escaped.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &escaped[..end]),
        None => escaped,
    }
}

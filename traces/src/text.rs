//! Reads line-based recordings: one line at a time, with its number, and never more than
//! [`LINE_BYTES_MAX`] of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Longest line that is read; a line of 64 layers with 8 experts each is 3 KB, the hashes of a
/// prompt of a hundred million tokens are as much as this.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// The lines of one file.
pub(crate) struct Lines {
    path: String,
    reader: BufReader<File>,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        let path = path.display().to_string();
        Ok(Self { path, reader, number: 0, buffer: Vec::new() })
    }

    /// The next line that is not blank. `read` is told the bytes of every line.
    pub(crate) fn next(&mut self, read: impl Fn(u64)) -> Result<Option<Line<'_>>> {
        let skip = loop {
            self.buffer.clear();
            let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX + 1);
            let count = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(|error| Error::io(&self.path, error))?;
            if count == 0 {
                return Ok(None);
            }
            self.number += 1;
            read(count as u64);
            if count as u64 > LINE_BYTES_MAX {
                let found = format!("more than {LINE_BYTES_MAX} bytes");
                return Err(line_error(&self.path, self.number, found, "a shorter line"));
            }
            let marked = self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf");
            let skip = if marked { 3 } else { 0 };
            if !self.buffer[skip..].iter().all(u8::is_ascii_whitespace) {
                break skip;
            }
        };
        let row = Row { path: &self.path, number: self.number };
        match std::str::from_utf8(&self.buffer[skip..]) {
            Ok(line) => Ok(Some(Line { row, text: line.trim_ascii() })),
            Err(error) => {
                let column = error.valid_up_to() + 1;
                let found = format!("a byte that is not UTF-8 at column {column}");
                Err(row.error(found, "text"))
            }
        }
    }
}

/// One line, without its ending and the blanks around it.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) row: Row<'a>,
    pub(crate) text: &'a str,
}

/// Where a line stands, for the errors of its fields.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) path: &'a str,
    /// From 1.
    pub(crate) number: u64,
}

impl Row<'_> {
    /// An error at this line.
    pub(crate) fn error(self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        line_error(self.path, self.number, found, expected)
    }

    /// `text` as a number; the error names `column` and `expected`.
    pub(crate) fn number<T: FromStr>(self, column: &str, text: &str, expected: &str) -> Result<T> {
        text.trim_ascii()
            .parse()
            .map_err(|_| self.error(format!("{column} `{}`", short(text)), expected))
    }
}

/// An error at line `number` of `path`.
pub(crate) fn line_error(
    path: &str,
    number: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::invalid(path, format!("line {number}"), found, expected)
}

/// Text from a file as messages quote it: printable and not long.
pub(crate) fn short(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    match escaped.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &escaped[..end]),
        None => escaped,
    }
}

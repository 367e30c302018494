//! Hands out the JSON values of a file one by one: those of a list, or any number of them one
//! after the other. Only the value that is being looked at is held.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::{Progress, shown};
use crate::error::{Error, Result};

/// One value and where it begins, both counted from 1.
pub(super) struct Value<'a> {
    pub(super) bytes: &'a [u8],
    line: usize,
    column: usize,
}

impl Value<'_> {
    /// What serde found in these bytes, and the line and column of the file.
    pub(super) fn fault(&self, error: &serde_json::Error) -> (String, String) {
        let text = error.to_string();
        let found = text.split(" at line ").next().unwrap_or_default().to_owned();
        let before = if error.line() <= 1 { self.column - 1 } else { 0 };
        let line = self.line + error.line().saturating_sub(1);
        (found, format!("line {line}, column {}", before + error.column()))
    }
}

/// The values of one file.
pub(super) struct Values<'a> {
    path: String,
    reader: BufReader<File>,
    bytes_max: usize,
    progress: &'a Progress<'a>,
    buffer: Vec<u8>,
    /// Where the next byte stands, from 0.
    line: usize,
    column: usize,
    list: List,
}

/// Where in a list the next value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    First,
    Later,
}

impl<'a> Values<'a> {
    /// Opens `path`, whose values may have `bytes_max` bytes each.
    pub(super) fn open(path: &Path, bytes_max: usize, progress: &'a Progress<'a>) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let mut values = Self {
            path: shown(path),
            reader: BufReader::with_capacity(1 << 18, file),
            bytes_max,
            progress,
            buffer: Vec::new(),
            line: 0,
            column: 0,
            list: List::None,
        };
        if values.fill()?.starts_with(b"\xef\xbb\xbf") {
            values.reader.consume(3);
        }
        if values.peek()? == Some(b'[') {
            values.consume(1)?;
            values.list = List::First;
        }
        Ok(values)
    }

    /// Whether the file is one list.
    pub(super) fn is_list(&self) -> bool {
        self.list != List::None
    }

    /// The next value, which may be cut or no JSON at all: the parser says so.
    pub(super) fn next(&mut self) -> Result<Option<Value<'_>>> {
        let first = match (self.list, self.peek()?) {
            (List::None, None) => return Ok(None),
            (List::None, Some(_)) => true,
            (_, None) => return Err(self.broken("the end of the file")),
            (_, Some(b']')) => {
                self.consume(1)?;
                return match self.peek()? {
                    None => Ok(None),
                    Some(_) => Err(self.broken("more behind the list")),
                };
            }
            (List::First, Some(_)) => true,
            (List::Later, Some(b',')) => false,
            (List::Later, Some(_)) => return Err(self.broken("a value without a comma before it")),
        };
        if !first {
            self.consume(1)?;
            self.peek()?;
        }
        if self.list == List::First {
            self.list = List::Later;
        }
        let (line, column) = (self.line + 1, self.column + 1);
        self.read_value()?;
        Ok(Some(Value { bytes: &self.buffer, line, column }))
    }

    fn broken(&self, found: &str) -> Error {
        let place = format!("list, line {}, column {}", self.line + 1, self.column + 1);
        Error::invalid(&self.path, place, found, "[value, ...]")
    }

    fn fill(&mut self) -> Result<&[u8]> {
        self.reader.fill_buf().map_err(|error| Error::io(&self.path, error))
    }

    /// The next byte that is no blank, which is not consumed.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = bytes.get(blanks).copied();
            self.consume(blanks)?;
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Goes on behind the next `count` bytes of the reader's buffer.
    fn consume(&mut self, count: usize) -> Result<()> {
        let bytes = &self.fill()?[..count];
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let behind = bytes.iter().rev().take_while(|&&byte| byte != b'\n').count();
        self.column = if lines > 0 { behind } else { self.column + behind };
        self.line += lines;
        self.reader.consume(count);
        self.progress.add(count as u64);
        Ok(())
    }

    /// Fills the buffer with the next value.
    fn read_value(&mut self) -> Result<()> {
        self.buffer.clear();
        let mut scan = Scan::default();
        loop {
            // The field, not the method: buffer and reader are borrowed together.
            let bytes = self.reader.fill_buf().map_err(|error| Error::io(&self.path, error))?;
            let end = scan.feed(bytes);
            let count = end.unwrap_or(bytes.len());
            if self.buffer.len() + count > self.bytes_max {
                let place = format!("line {}, column {}", self.line + 1, self.column + 1);
                let found = format!("a value of more than {} bytes", self.bytes_max);
                return Err(Error::invalid(&self.path, place, found, "a smaller one"));
            }
            self.buffer.extend_from_slice(&bytes[..count]);
            let over = end.is_some() || bytes.is_empty();
            self.consume(count)?;
            if over {
                return Ok(());
            }
        }
    }
}

/// Looks for the end of a value; knows brackets and strings only.
#[derive(Default)]
struct Scan {
    begun: bool,
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Scan {
    /// Number of the next bytes that belong to the value, once its end is among them.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
            } else if self.string {
                at += bytes[at..].iter().position(|&byte| byte == b'"' || byte == b'\\')?;
                self.escaped = bytes[at] == b'\\';
                self.string = self.escaped;
                if !self.string && self.depth == 0 {
                    return Some(at + 1);
                }
            } else {
                let first = !std::mem::replace(&mut self.begun, true);
                match bytes[at] {
                    b'"' => self.string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' | b',' if first => return Some(at + 1),
                    b'}' | b']' if self.depth == 1 => return Some(at + 1),
                    b'}' | b']' if self.depth > 1 => self.depth -= 1,
                    b'}' | b']' | b',' if self.depth == 0 => return Some(at),
                    byte if self.depth == 0 && byte.is_ascii_whitespace() => return Some(at),
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::tests::{file, ignore_progress};
    use super::*;

    fn values(text: &str) -> std::result::Result<Vec<(String, usize, usize)>, String> {
        let input = Input { paths: &[], model: None, progress: &ignore_progress, spill: None };
        let progress = Progress::new(&input);
        let (_folder, path) = file("a.json", text.as_bytes());
        let mut values = Values::open(&path, 20, &progress).unwrap();
        let mut found = Vec::new();
        loop {
            match values.next() {
                Ok(Some(Value { bytes, line, column })) => {
                    found.push((String::from_utf8(bytes.to_vec()).unwrap(), line, column));
                }
                Ok(None) => return Ok(found),
                Err(error) => {
                    return Err(error.to_string().split_once("a.json: ").unwrap().1.into());
                }
            }
        }
    }

    #[test]
    fn values_are_found_where_they_are() {
        let found = |text: &str| -> Vec<(String, usize, usize)> { values(text).unwrap() };
        let value = |text: &str, line, column| (text.to_owned(), line, column);
        assert_eq!(found(" \n "), []);
        assert_eq!(found("[ ]\n"), []);
        let (first, second) = ("{\"a\": \"}\\\"]\"}", "[{}, [\n]]");
        let expected = [value(first, 2, 2), value(second, 2, 15)];
        assert_eq!(found(&format!("\n {first}{second}")), expected);
        let expected = [value(first, 1, 3), value(second, 2, 1), value("17", 3, 6)];
        assert_eq!(found(&format!("[ {first},\n{second} , 17]")), expected);
        assert_eq!(
            found("1 \"a b\" {"),
            [value("1", 1, 1), value("\"a b\"", 1, 3), value("{", 1, 9)]
        );
        assert_eq!(found("}"), [value("}", 1, 1)]);
    }

    #[test]
    fn what_is_no_list_is_told() {
        let expected = "expected [value, ...]";
        let cases = [
            ("[1", format!("list, line 1, column 3: the end of the file; {expected}")),
            (
                "[1 \n2]",
                format!("list, line 2, column 1: a value without a comma before it; {expected}"),
            ),
            ("[1] 2", format!("list, line 1, column 5: more behind the list; {expected}")),
            (
                "{\"a\": \"0123456789abcd\"}",
                "line 1, column 1: a value of more than 20 bytes; expected a smaller one"
                    .to_owned(),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(values(text), Err(expected));
        }
    }
}

//! The lines of a recording, as importers read them: with progress.

use std::path::Path;

use super::Progress;
use crate::error::Result;
use crate::text;
pub(super) use crate::text::{Row, line_error, short};

/// The lines of one file.
pub(super) struct Lines<'a> {
    lines: text::Lines,
    progress: &'a Progress<'a>,
}

impl<'a> Lines<'a> {
    pub(super) fn open(path: &Path, progress: &'a Progress<'a>) -> Result<Self> {
        Ok(Self { lines: text::Lines::open(path)?, progress })
    }

    /// The next line that is not blank, with its number from 1 and without its ending.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &str)>> {
        let line = self.lines.next(|bytes| self.progress.add(bytes))?;
        Ok(line.map(|line| (line.row.number, line.text)))
    }
}

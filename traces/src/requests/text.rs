//! The lines of a request trace: each is shown with the place where it stands.

use std::ops::Deref;
use std::path::Path;

use super::builder::{Arrival, RequestTraceBuilder};
use crate::error::Result;
pub(super) use crate::text::short;
use crate::text::{Lines, Row};

/// One line and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    row: Row<'a>,
    /// Without its ending and the blanks around it; never empty.
    pub(super) text: &'a str,
}

impl<'a> Deref for Line<'a> {
    type Target = Row<'a>;

    fn deref(&self) -> &Row<'a> {
        &self.row
    }
}

impl Line<'_> {
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
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next(|_| {})? {
        visit(Line { row: line.row, text: line.text })?;
    }
    Ok(())
}

//! Reads comma-separated request traces whose header line names the columns, in any order.

use std::path::Path;

use moecast_profiles::registry::nearest;

use super::text::{Line, each_line, short};
use crate::error::{Error, Result};

/// The columns of a format.
pub(super) struct Columns<const N: usize> {
    /// Those that a file must have and that the reader is given, in this order.
    pub(super) wanted: [&'static str; N],
    /// Those that a file may have and that are not kept.
    pub(super) ignored: &'static [&'static str],
}

impl<const N: usize> Columns<N> {
    /// Whether `line` is a header with these columns.
    pub(super) fn recognise(&self, line: &str) -> bool {
        let found: Vec<&str> = line.split(',').map(str::trim_ascii).collect();
        self.wanted.iter().all(|name| found.contains(name))
    }

    /// Which of the wanted columns each column of the header is.
    fn parse(&self, line: &Line<'_>) -> Result<Vec<Option<usize>>> {
        let mut seen: Vec<&str> = Vec::new();
        let mut columns = Vec::new();
        for name in line.text.split(',').map(str::trim_ascii) {
            let wanted = self.wanted.iter().position(|wanted| *wanted == name);
            if wanted.is_none() && !self.ignored.contains(&name) {
                return Err(self.unknown(line, name));
            }
            if seen.contains(&name) {
                return Err(line.error(format!("column `{name}` twice"), "each column once"));
            }
            seen.push(name);
            columns.push(wanted);
        }
        match self.wanted.iter().find(|name| !seen.contains(name)) {
            Some(missing) => Err(line.error(format!("no column `{missing}`"), self.header())),
            None => Ok(columns),
        }
    }

    fn unknown(&self, line: &Line<'_>, name: &str) -> Error {
        let valid: Vec<&str> = self.wanted.iter().chain(self.ignored).copied().collect();
        let found = format!("unknown column `{}`", short(name));
        match nearest(name, &valid) {
            Some(near) => line.error(found, format!("`{near}` in {}", self.header())),
            None => line.error(found, self.header()),
        }
    }

    fn header(&self) -> String {
        format!("the header `{}`", self.wanted.join(","))
    }

    /// Shows the wanted fields of every row of `path` to `visit`, in order.
    pub(super) fn each_row(
        &self,
        path: &Path,
        mut visit: impl FnMut(Line<'_>, [&str; N]) -> Result<()>,
    ) -> Result<()> {
        let mut columns: Option<Vec<Option<usize>>> = None;
        each_line(path, |line| {
            let Some(columns) = &columns else {
                columns = Some(self.parse(&line)?);
                return Ok(());
            };
            let mut fields = [""; N];
            let mut count = 0;
            for field in line.text.split(',') {
                if let Some(&Some(wanted)) = columns.get(count) {
                    fields[wanted] = field.trim_ascii();
                }
                count += 1;
            }
            if count != columns.len() {
                let found = format!("{count} fields in `{}`", short(line.text));
                return Err(line.error(found, format!("{} fields", columns.len())));
            }
            visit(line, fields)
        })?;
        match columns {
            Some(_) => Ok(()),
            None => {
                let path = super::shown(path);
                Err(Error::invalid(path, "line 1", "an empty file", self.header()))
            }
        }
    }
}

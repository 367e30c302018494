//! Comma-separated rows under a line of column names.

use std::collections::BTreeMap;

use crate::import::check::invalid;
use crate::{Error, Result};

/// A file of rows.
pub(super) struct Csv<'a> {
    path: &'a str,
    columns: BTreeMap<&'a str, usize>,
    text: &'a str,
}

/// One row; its number is the line's in the file, counted from 1.
pub(super) struct Line<'a> {
    csv: &'a Csv<'a>,
    pub(super) number: usize,
    fields: Vec<&'a str>,
}

impl<'a> Csv<'a> {
    /// # Errors
    /// A name that two columns have.
    pub(super) fn new(path: &'a str, text: &'a str) -> Result<Self> {
        let mut columns = BTreeMap::new();
        for (index, name) in split(text.lines().next().unwrap_or("")).into_iter().enumerate() {
            if columns.insert(name, index).is_some() {
                let found = format!("two columns `{name}`");
                return Err(invalid(path, "line 1", found, "each column once"));
            }
        }
        Ok(Self { path, columns, text })
    }

    /// The operators that have a median.
    pub(super) fn operators(&self) -> impl Iterator<Item = &'a str> {
        let operator = |name: &&'a str| name.strip_prefix("time_stats.")?.strip_suffix(".median");
        self.columns.keys().filter_map(operator)
    }

    /// # Errors
    /// Each line that has not as many fields as there are columns.
    pub(super) fn lines(&'a self) -> impl Iterator<Item = Result<Line<'a>>> {
        let rows = (1..).zip(self.text.lines()).skip(1).filter(|(_, line)| !line.trim().is_empty());
        rows.map(|(number, line)| {
            let line = Line { csv: self, number, fields: split(line) };
            if line.fields.len() == self.columns.len() {
                return Ok(line);
            }
            let found = format!("{} fields", line.fields.len());
            Err(line.invalid("row", found, &format!("{}, one a column", self.columns.len())))
        })
    }
}

/// Fields of a line; a comma inside quotes does not end one.
fn split(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let fields = line.split(move |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    fields.map(|field| field.trim().trim_matches('"')).collect()
}

impl Line<'_> {
    pub(super) fn invalid(&self, column: &str, found: impl Into<String>, expected: &str) -> Error {
        invalid(self.csv.path, format!("line {}, {column}", self.number), found, expected)
    }

    pub(super) fn text(&self, column: &str) -> Result<&str> {
        let index = self.csv.columns.get(column);
        let field = index.and_then(|index| self.fields.get(*index));
        field.copied().ok_or_else(|| self.invalid(column, "no such column", "a profile of Vidur"))
    }

    pub(super) fn count(&self, column: &str) -> Result<u64> {
        let text = self.text(column)?;
        // Some columns were written as floats because others of the same table are empty.
        let whole = text.strip_suffix(".0").unwrap_or(text);
        whole.parse().map_err(|_| self.invalid(column, text, "a whole number"))
    }

    pub(super) fn flag(&self, column: &str) -> Result<bool> {
        match self.text(column)? {
            "True" | "true" => Ok(true),
            "False" | "false" => Ok(false),
            other => Err(self.invalid(column, other, "True or False")),
        }
    }

    /// The median of `operator`, microseconds.
    pub(super) fn median_us(&self, operator: &str) -> Result<f64> {
        let column = format!("time_stats.{operator}.median");
        let text = self.text(&column)?;
        match text.parse::<f64>() {
            Ok(ms) if ms.is_finite() && ms > 0.0 => Ok(ms * 1e3),
            _ => Err(self.invalid(&column, text, "milliseconds above 0")),
        }
    }
}

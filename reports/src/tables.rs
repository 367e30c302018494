//! Rows behind a figure, and their CSV.

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number; one that is none (NaN, infinity) leaves its field empty.
    Number(f64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// A table in long form: one observation per row.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Names of the columns, with units.
    pub columns: &'static [&'static str],
    /// As many cells per row as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// The table as RFC 4180 wants it, with a line of names and bare line feeds.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                match cell {
                    Cell::Text(name) => text.push_str(&quoted(name)),
                    Cell::Count(count) => text.push_str(&count.to_string()),
                    Cell::Number(number) if number.is_finite() => {
                        text.push_str(&number.to_string());
                    }
                    Cell::Number(_) => {}
                }
            }
            text.push('\n');
        }
        text
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        let row = vec![Cell::from("a,\"b\""), Cell::from(3_u64), Cell::from(f64::NAN)];
        let rows = Rows { columns: &["name", "count", "share"], rows: vec![row] };
        assert_eq!(rows.csv(), "name,count,share\n\"a,\"\"b\"\"\",3,\n");
    }
}

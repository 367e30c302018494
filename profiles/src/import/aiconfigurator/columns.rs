//! Columns of a Parquet table in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::decode::{Decoder, Plain};
use super::pages;
use crate::Result;
use crate::import::check::invalid;

/// The densest table of release 0.12.0 has one row in two bytes; figures that differ do not
/// come denser than this.
const ROWS_PER_BYTE_MAX: usize = 8;

/// An opened table.
pub(super) struct Table {
    /// As errors write it.
    pub(super) path: String,
    /// Rows, checked against the size of the file.
    pub(super) rows: usize,
    file: SerializedFileReader<Bytes>,
}

/// A column of texts: few different ones, many times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    names: Vec<String>,
    index: Vec<u32>,
}

impl Texts {
    pub(super) fn get(&self, row: usize) -> &str {
        &self.names[self.index[row] as usize]
    }

    /// `self/other` in each row.
    pub(super) fn join(&self, other: &Self) -> Self {
        let mut pairs = BTreeMap::new();
        let mut names = Vec::new();
        let rows = self.index.iter().zip(&other.index);
        let index = rows.map(|(&a, &b)| {
            *pairs.entry((a, b)).or_insert_with(|| {
                let (a, b) = (&self.names[a as usize], &other.names[b as usize]);
                names.push(format!("{a}/{b}"));
                (names.len() - 1) as u32
            })
        });
        Self { index: index.collect(), names }
    }

    /// Every text changed by `change`.
    pub(super) fn map(mut self, change: impl Fn(&str) -> String) -> Self {
        self.names = self.names.iter().map(|name| change(name)).collect();
        self
    }

    /// Every text through `value`, by row.
    pub(super) fn values<T: Clone>(&self, value: impl Fn(&str) -> T) -> Vec<T> {
        let values: Vec<T> = self.names.iter().map(|name| value(name)).collect();
        self.index.iter().map(|&index| values[index as usize].clone()).collect()
    }
}

impl Table {
    /// # Errors
    /// What is no Parquet, or claims more rows than its bytes can hold.
    pub(super) fn open(bytes: Vec<u8>, path: String) -> Result<Self> {
        let size = bytes.len();
        let bytes = Bytes::from(bytes);
        let file = SerializedFileReader::new(bytes.clone());
        let file = file.map_err(|error| damaged(&path, "file", &error))?;
        let claimed = file.metadata().file_metadata().num_rows();
        let most = size.saturating_mul(ROWS_PER_BYTE_MAX);
        let rows = usize::try_from(claimed).ok().filter(|rows| *rows <= most && *rows > 0);
        let rows = rows.ok_or_else(|| {
            let expected = format!("1 to {most}, which {size} bytes can hold");
            invalid(&path, "rows", claimed.to_string(), expected)
        })?;
        for group in file.metadata().row_groups() {
            for chunk in group.columns() {
                // The crate asserts that these are not negative.
                let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                let length = chunk.compressed_size();
                pages::check(&bytes, start, length, rows).map_err(|found| {
                    let key = chunk.column_path().string();
                    invalid(&path, key, found, "an undamaged Parquet table")
                })?;
            }
        }
        Ok(Self { path, rows, file })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        let columns = self.file.metadata().file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.path().string() == name)
    }

    /// Column `name` of type `kind`, all rows.
    fn column<T: Plain>(&self, name: &str, kind: Type) -> Result<Vec<T>> {
        let at = |found: &str, expected: &str| invalid(&self.path, name, found, expected);
        let Some(index) = self.position(name) else {
            let columns = self.file.metadata().file_metadata().schema_descr().columns();
            let names: Vec<String> =
                columns.iter().map(|column| column.name().to_owned()).collect();
            let expected = format!("a column of that name beside {}", names.join(", "));
            return Err(at("no such column", &expected));
        };
        let column = self.file.metadata().file_metadata().schema_descr().column(index);
        let simple = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        if column.physical_type() != kind || !simple {
            let found = format!("a column of {}", column.physical_type());
            return Err(at(&found, &format!("one {kind} a row")));
        }
        let mut decoder = Decoder::new(column.max_def_level() > 0);
        for group in 0..self.file.num_row_groups() {
            let group = self.file.get_row_group(group);
            let pages = group.and_then(|group| group.get_column_page_reader(index));
            let mut pages = pages.map_err(|error| damaged(&self.path, name, &error))?;
            while decoder.values.len() <= self.rows {
                let page = pages.get_next_page();
                let Some(page) = page.map_err(|error| damaged(&self.path, name, &error))? else {
                    break;
                };
                decoder.page(&page).map_err(|found| at(&found, "an undamaged table"))?;
            }
        }
        if decoder.values.len() != self.rows {
            let found = format!("{} values", decoder.values.len());
            return Err(at(&found, &format!("{}, one a row", self.rows)));
        }
        Ok(decoder.values)
    }

    /// Column `name` of whole numbers.
    ///
    /// # Errors
    /// A column that is missing or damaged, a row without a value, a number below 0.
    pub(super) fn counts(&self, name: &str) -> Result<Vec<u64>> {
        let values = self.column::<i64>(name, Type::INT64)?;
        let mut counts = Vec::with_capacity(values.len());
        for (row, value) in (1..).zip(values) {
            counts.push(u64::try_from(value).map_err(|_| {
                invalid(&self.path, format!("row {row}, {name}"), value.to_string(), "a count")
            })?);
        }
        Ok(counts)
    }

    /// Column `name` of times in units of `unit_us` microseconds.
    ///
    /// # Errors
    /// A column that is missing or damaged, a row without a value or whose value is below 0.
    pub(super) fn times(&self, name: &str, unit_us: f64) -> Result<Vec<f64>> {
        let mut values = self.column::<f64>(name, Type::DOUBLE)?;
        for (row, value) in (1..).zip(&mut values) {
            if !(value.is_finite() && *value >= 0.0) {
                let key = format!("row {row}, {name}");
                return Err(invalid(&self.path, key, value.to_string(), "a time above 0"));
            }
            *value *= unit_us;
        }
        Ok(values)
    }

    /// Column `name` of texts.
    ///
    /// # Errors
    /// A column that is missing or damaged, a row without a value or that is no text.
    pub(super) fn texts(&self, name: &str) -> Result<Texts> {
        let values = self.column::<Bytes>(name, Type::BYTE_ARRAY)?;
        let mut known: BTreeMap<&[u8], u32> = BTreeMap::new();
        let mut texts = Texts { names: Vec::new(), index: Vec::with_capacity(values.len()) };
        for (row, value) in values.iter().enumerate() {
            let bytes: &[u8] = value;
            let index = match known.get(bytes) {
                Some(index) => *index,
                None => {
                    let text = std::str::from_utf8(bytes).map_err(|_| {
                        let key = format!("row {}, {name}", row + 1);
                        invalid(&self.path, key, "bytes that are no text", "UTF-8")
                    })?;
                    texts.names.push(text.to_owned());
                    let index = (texts.names.len() - 1) as u32;
                    known.insert(bytes, index);
                    index
                }
            };
            texts.index.push(index);
        }
        Ok(texts)
    }
}

fn damaged(path: &str, key: &str, error: &ParquetError) -> crate::Error {
    // Some of the crate's messages have several lines.
    let found = error.to_string().replace(['\n', '\r'], " ");
    invalid(path, key, found, "an undamaged Parquet table")
}

//! Parquet tables made by the crate's own writer.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The values of a column.
#[derive(Clone, Debug)]
pub(super) enum Column {
    Counts(Vec<i64>),
    /// Counts of which some are missing.
    Gaps(Vec<Option<i64>>),
    Texts(Vec<String>),
    Times(Vec<f64>),
}

use Column::{Counts, Gaps, Texts, Times};

/// A file of one row group.
pub(super) fn write(columns: &[(&str, Column)]) -> Vec<u8> {
    write_packed(columns, Compression::SNAPPY)
}

/// A file of one row group in a compression: the wheel has both Snappy and Zstandard.
pub(super) fn write_packed(columns: &[(&str, Column)], packed: Compression) -> Vec<u8> {
    let fields: Vec<String> = columns
        .iter()
        .map(|(name, column)| match column {
            Counts(_) | Gaps(_) => format!("optional int64 {name};"),
            Texts(_) => format!("optional byte_array {name} (UTF8);"),
            Times(_) => format!("optional double {name};"),
        })
        .collect();
    let schema = format!("message schema {{ {} }}", fields.join(" "));
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(packed).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = file.next_row_group().unwrap();
    for (_, column) in columns {
        let mut writer = group.next_column().unwrap().unwrap();
        match (writer.untyped(), column) {
            (ColumnWriter::Int64ColumnWriter(writer), Counts(values)) => {
                writer.write_batch(values, Some(&vec![1; values.len()]), None).unwrap();
            }
            (ColumnWriter::Int64ColumnWriter(writer), Gaps(values)) => {
                let levels: Vec<i16> =
                    values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<i64> = values.iter().copied().flatten().collect();
                writer.write_batch(&values, Some(&levels), None).unwrap();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), Texts(values)) => {
                let values: Vec<ByteArray> =
                    values.iter().map(|text| text.as_str().into()).collect();
                writer.write_batch(&values, Some(&vec![1; values.len()]), None).unwrap();
            }
            (ColumnWriter::DoubleColumnWriter(writer), Times(values)) => {
                writer.write_batch(values, Some(&vec![1; values.len()]), None).unwrap();
            }
            _ => unreachable!("the schema above gives each column its type"),
        }
        writer.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

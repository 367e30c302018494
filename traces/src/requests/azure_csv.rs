//! Reads the Azure LLM inference traces: `TIMESTAMP,ContextTokens,GeneratedTokens`, one row a
//! request. The release of 2023 writes `2023-11-16 18:15:46.6805900`, that of 2024
//! `2024-05-10 00:00:00.009930+00:00`; both are parsed in integers, to the nanosecond.
//!
//! Refused: other columns, rows that are not sorted by time. Left out, and counted: requests
//! without context or generated tokens.

use std::path::PathBuf;

use super::Entry;
use super::builder::{Arrival, RequestTraceBuilder};
use super::clock;
use super::csv::Columns;
use super::text::short;
use super::trace::RequestHeader;
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry {
    name: "azure-csv",
    about: "Azure LLM inference traces of 2023 and 2024: TIMESTAMP,ContextTokens,GeneratedTokens",
    recognise: |line| COLUMNS.recognise(line),
    read,
};

const COLUMNS: Columns<3> =
    Columns { wanted: ["TIMESTAMP", "ContextTokens", "GeneratedTokens"], ignored: &[] };

fn read(paths: &[PathBuf]) -> Result<RequestTraceBuilder> {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new(ENTRY.name, false));
    for path in paths {
        COLUMNS.each_row(path, |line, [time, input, output]| {
            let stamp = clock::timestamp(time).ok_or_else(|| {
                let found = format!("TIMESTAMP `{}`", short(time));
                line.error(found, "a time like 2023-11-16 18:15:46.6805900")
            })?;
            let arrival = Arrival {
                stamp,
                input_tokens: line.tokens("ContextTokens", input)?,
                output_tokens: line.tokens("GeneratedTokens", output)?,
                prefix_hashes: &[],
            };
            line.push(arrival, &mut builder)
        })?;
    }
    Ok(builder)
}

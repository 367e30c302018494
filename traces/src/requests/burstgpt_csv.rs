//! Reads the BurstGPT traces: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log
//! Type`, one row a request, time in seconds since midnight of the first day. The files of
//! release 2 also have `Session ID` and `Elapsed time`; they, the model and the kind of log are
//! not kept. Files that carry on from one another are given in their order.
//!
//! Refused: other columns, rows that are not sorted by time. Left out, and counted: requests
//! without response tokens, which had failed. Counted: totals that are not the sum.

use std::path::PathBuf;

use super::Entry;
use super::builder::{Arrival, RequestTraceBuilder};
use super::clock;
use super::csv::Columns;
use super::text::short;
use super::trace::RequestHeader;
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry {
    name: "burstgpt-csv",
    about: "BurstGPT: Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
    recognise: |line| COLUMNS.recognise(line),
    read,
};

const COLUMNS: Columns<6> = Columns {
    wanted: ["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"],
    ignored: &["Session ID", "Elapsed time"],
};

fn read(paths: &[PathBuf]) -> Result<RequestTraceBuilder> {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new(ENTRY.name, false));
    builder.call_without_output("failed requests (no response tokens)");
    let mut odd_totals = 0;
    for path in paths {
        COLUMNS.each_row(path, |line, [time, _model, input, output, total, _log]| {
            let stamp = clock::seconds(time).ok_or_else(|| {
                line.error(format!("Timestamp `{}`", short(time)), "seconds, such as 45 or 0.123")
            })?;
            let arrival = Arrival {
                stamp,
                input_tokens: line.tokens("Request tokens", input)?,
                output_tokens: line.tokens("Response tokens", output)?,
                prefix_hashes: &[],
            };
            let total = line.tokens("Total tokens", total)?;
            odd_totals +=
                u64::from(arrival.input_tokens.checked_add(arrival.output_tokens) != Some(total));
            line.push(arrival, &mut builder)
        })?;
    }
    let words = "rows whose total is not the sum of request and response tokens";
    builder.header_mut().count(odd_totals, words);
    Ok(builder)
}

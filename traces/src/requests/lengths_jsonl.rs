//! Reads JSON lines of lengths, as they are taken from ShareGPT and the like:
//! `{"input_tokens": n, "output_tokens": n}`, with `"arrival"` in seconds in every line or in
//! none. Without arrivals all requests arrive at once, which a remark says: such a trace is meant
//! to lend its lengths to a generator.
//!
//! Refused: other keys, repeated keys, arrivals that decrease or that only some lines have. Left
//! out, and counted: requests without input or output tokens.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Number;

use super::Entry;
use super::builder::{Arrival, RequestTraceBuilder};
use super::jsonl::{each_object, nanos};
use super::trace::RequestHeader;
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry {
    name: "lengths-jsonl",
    about: "JSON lines {\"input_tokens\": n, \"output_tokens\": n}, perhaps \"arrival\" in seconds",
    recognise: |line| line.starts_with('{') && line.contains("\"input_tokens\""),
    read,
};

const SHAPE: &str = "{\"input_tokens\": n, \"output_tokens\": n, \"arrival\": seconds}";
const KEYS: &[&str] = &["input_tokens", "output_tokens", "arrival"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    input_tokens: u32,
    output_tokens: u32,
    arrival: Option<Number>,
}

fn read(paths: &[PathBuf]) -> Result<RequestTraceBuilder> {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new(ENTRY.name, false));
    let mut timed = None;
    for path in paths {
        each_object(path, SHAPE, KEYS, |line, recorded: Recorded| {
            let is_timed = recorded.arrival.is_some();
            if *timed.get_or_insert(is_timed) != is_timed {
                let found = if is_timed { "an arrival" } else { "no arrival" };
                return Err(line.error(found, "arrivals in every line or in none"));
            }
            let stamp = match &recorded.arrival {
                Some(seconds) => nanos(&line, "arrival", seconds, 1_000_000_000)?,
                None => 0,
            };
            let arrival = Arrival {
                stamp,
                input_tokens: recorded.input_tokens,
                output_tokens: recorded.output_tokens,
                prefix_hashes: &[],
            };
            line.push(arrival, &mut builder)
        })?;
    }
    if timed == Some(false) {
        let remark = "no arrivals are recorded: all requests arrive at once";
        builder.header_mut().remarks.push(remark.to_owned());
    }
    Ok(builder)
}

//! Reads the Mooncake traces: JSON lines with `timestamp` in milliseconds, `input_length`,
//! `output_length` and `hash_ids`, one id for every 512 tokens of the prompt, the last block
//! perhaps partly filled. Equal ids stand for equal prompts up to the end of that block.
//!
//! Refused: other keys, repeated keys, lines that are not sorted by time. Counted: a number of
//! ids that is not that of the prompt's blocks (those too many are left out, those too few stand
//! for the start of the prompt), an id twice in one prompt. Left out, and counted: requests
//! without input or output.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Number;

use super::Entry;
use super::builder::{Arrival, RequestTraceBuilder};
use super::jsonl::{each_object, nanos};
use super::trace::{PREFIX_BLOCK_TOKENS, RequestHeader};
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry {
    name: "mooncake-jsonl",
    about: "Mooncake JSON lines: timestamp in ms, lengths, hash_ids of 512-token prefix blocks",
    recognise: |line| line.starts_with('{') && line.contains("\"input_length\""),
    read,
};

const SHAPE: &str =
    "{\"timestamp\": ms, \"input_length\": n, \"output_length\": n, \"hash_ids\": [ids]}";
const KEYS: &[&str] = &["timestamp", "input_length", "output_length", "hash_ids"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    timestamp: Number,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

fn read(paths: &[PathBuf]) -> Result<RequestTraceBuilder> {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new(ENTRY.name, false));
    let (mut too_many, mut too_few, mut repeated) = (0, 0, 0);
    let mut sorted = Vec::new();
    for path in paths {
        each_object(path, SHAPE, KEYS, |line, mut recorded: Recorded| {
            let ids = &mut recorded.hash_ids;
            let blocks = u64::from(recorded.input_length.div_ceil(PREFIX_BLOCK_TOKENS));
            too_many += u64::from(ids.len() as u64 > blocks);
            too_few += u64::from((ids.len() as u64) < blocks);
            ids.truncate(usize::try_from(blocks).unwrap_or(usize::MAX));
            sorted.clone_from(ids);
            sorted.sort_unstable();
            repeated += u64::from(sorted.windows(2).any(|pair| pair[0] == pair[1]));
            let arrival = Arrival {
                stamp: nanos(&line, "timestamp", &recorded.timestamp, 1_000_000)?,
                input_tokens: recorded.input_length,
                output_tokens: recorded.output_length,
                prefix_hashes: ids,
            };
            line.push(arrival, &mut builder)
        })?;
    }
    let header = builder.header_mut();
    header.count(too_many, "prompts with more hash_ids than blocks of 512 tokens, cut");
    header.count(too_few, "prompts with fewer hash_ids than blocks of 512 tokens");
    header.count(repeated, "prompts that hold one of their hash_ids twice");
    Ok(builder)
}

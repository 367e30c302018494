//! The request trace itself: one row a request, sorted by arrival.

use moecast_profiles::units::{Nanos, SimTime};
use serde::Serialize;

use crate::header::InputDigest;

/// Tokens of a prompt that one prefix hash stands for, as Mooncake recorded them.
pub const PREFIX_BLOCK_TOKENS: u32 = 512;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// When it arrives, counted from the first arrival of its trace.
    pub arrival: SimTime,
    /// Tokens of the prompt, at least 1.
    pub input_tokens: u32,
    /// Tokens of the answer, at least 1.
    pub output_tokens: u32,
    /// Ids of the prompt's blocks of [`PREFIX_BLOCK_TOKENS`] tokens, the last one perhaps partly
    /// filled. Two requests with the same id hold the same tokens up to the end of that block.
    /// Empty where the recording does not know them.
    pub prefix: &'a [u32],
}

/// What a request trace is a recording of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestHeader {
    /// Name of the reader or generator.
    pub source: String,
    /// True when a generator made it.
    pub synthetic: bool,
    /// What a reader should know: records that were left out, assumptions, oddities.
    pub remarks: Vec<String>,
    /// The files it was made from.
    pub inputs: Vec<InputDigest>,
}

impl RequestHeader {
    /// A header without remarks and inputs.
    #[must_use]
    pub fn new(source: &str, synthetic: bool) -> Self {
        Self { source: source.to_owned(), synthetic, ..Self::default() }
    }
}

/// Requests in the order of their arrival, made by a
/// [`RequestTraceBuilder`](super::RequestTraceBuilder). Never empty; the first arrival is 0;
/// arrivals never decrease; lengths are at least 1; prefix ids are dense and numbered in the
/// order in which they first occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTrace {
    pub(super) header: RequestHeader,
    pub(super) arrivals: Vec<SimTime>,
    pub(super) input_tokens: Vec<u32>,
    pub(super) output_tokens: Vec<u32>,
    /// Where the prefix of each request ends in `blocks`; empty when no prefixes are known.
    pub(super) prefix_ends: Vec<usize>,
    pub(super) blocks: Vec<u32>,
    pub(super) distinct_blocks: u32,
}

impl RequestTrace {
    /// What this is a recording of.
    #[must_use]
    pub fn header(&self) -> &RequestHeader {
        &self.header
    }

    /// Number of requests, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arrivals.len()
    }

    /// Request `index`, which must be below [`count`](Self::count).
    #[must_use]
    pub fn get(&self, index: usize) -> Request<'_> {
        Request {
            arrival: self.arrivals[index],
            input_tokens: self.input_tokens[index],
            output_tokens: self.output_tokens[index],
            prefix: self.prefix(index),
        }
    }

    /// All requests, in the order of their arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Request<'_>> {
        (0..self.count()).map(|index| self.get(index))
    }

    /// Arrival of every request.
    #[must_use]
    pub fn arrivals(&self) -> &[SimTime] {
        &self.arrivals
    }

    /// Prompt length of every request, in tokens.
    #[must_use]
    pub fn input_tokens(&self) -> &[u32] {
        &self.input_tokens
    }

    /// Answer length of every request, in tokens.
    #[must_use]
    pub fn output_tokens(&self) -> &[u32] {
        &self.output_tokens
    }

    /// Time from the first arrival to the last.
    #[must_use]
    pub fn duration(&self) -> Nanos {
        self.arrivals.last().map_or(Nanos(0), |last| last.since(SimTime(0)))
    }

    /// Prefix blocks of all requests, repeated ones included.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Different prefix blocks: their ids are all numbers below this one.
    #[must_use]
    pub fn distinct_blocks(&self) -> u32 {
        self.distinct_blocks
    }

    fn prefix(&self, index: usize) -> &[u32] {
        let Some(&end) = self.prefix_ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |before| self.prefix_ends[before]);
        &self.blocks[start..end]
    }
}

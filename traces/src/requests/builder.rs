//! What readers and generators push requests into: the one place that checks them.

use std::collections::HashMap;

use moecast_profiles::units::SimTime;

use super::trace::{PREFIX_BLOCK_TOKENS, RequestHeader, RequestTrace};
use crate::error::Error;

/// A request as it was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When it arrived: nanoseconds on the recording's own clock, whatever its zero.
    pub stamp: i128,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// Hashes of the prompt's blocks of [`PREFIX_BLOCK_TOKENS`] tokens; empty when not known.
    pub prefix_hashes: &'a [u64],
}

/// Why a request or a whole trace is not valid; the caller knows where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl Refusal {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }

    /// The error for this refusal at `place` of `path`.
    #[must_use]
    pub fn at(self, path: impl Into<String>, place: impl Into<String>) -> Error {
        Error::invalid(path, place, self.found, self.expected)
    }
}

/// Makes a [`RequestTrace`] of requests in the order of their arrival.
#[derive(Debug)]
pub struct RequestTraceBuilder {
    trace: RequestTrace,
    /// Looked up, never iterated.
    ids: HashMap<u64, u32>,
    first: i128,
    last: Option<i128>,
    without_input: u64,
    without_output: u64,
    output_missing: &'static str,
}

impl RequestTraceBuilder {
    /// A builder without requests.
    #[must_use]
    pub fn new(header: RequestHeader) -> Self {
        let trace = RequestTrace {
            header,
            arrivals: Vec::new(),
            input_tokens: Vec::new(),
            output_tokens: Vec::new(),
            prefix_ends: Vec::new(),
            blocks: Vec::new(),
            distinct_blocks: 0,
        };
        Self {
            trace,
            ids: HashMap::new(),
            first: 0,
            last: None,
            without_input: 0,
            without_output: 0,
            output_missing: "requests without output tokens",
        }
    }

    /// The header, to be added to.
    pub fn header_mut(&mut self) -> &mut RequestHeader {
        &mut self.trace.header
    }

    /// What the remark calls requests without output tokens, where the recording knows more.
    pub(super) fn call_without_output(&mut self, words: &'static str) {
        self.output_missing = words;
    }

    /// Adds a request. One without input or without output tokens is left out, counted, and
    /// named in a remark.
    ///
    /// # Errors
    /// When it arrived before the one pushed before it, or more than 584 years after the first;
    /// when it has more prefix blocks than its prompt fills; when ids run out.
    pub fn push(&mut self, arrival: Arrival<'_>) -> Result<(), Refusal> {
        if let Some(last) = self.last.filter(|&last| arrival.stamp < last) {
            let early = last.saturating_sub(arrival.stamp);
            let found = format!("an arrival {early} ns before the previous one");
            return Err(Refusal::new(found, "requests sorted by arrival"));
        }
        self.last = Some(arrival.stamp);
        if arrival.output_tokens == 0 {
            self.without_output += 1;
            return Ok(());
        }
        if arrival.input_tokens == 0 {
            self.without_input += 1;
            return Ok(());
        }
        if self.trace.arrivals.is_empty() {
            self.first = arrival.stamp;
        }
        let since = arrival.stamp.saturating_sub(self.first);
        let since = u64::try_from(since).map_err(|_| {
            let found = format!("{since} ns after the first arrival");
            Refusal::new(found, format!("at most {} ns", u64::MAX))
        })?;
        self.push_prefix(&arrival)?;
        self.trace.arrivals.push(SimTime(since));
        self.trace.input_tokens.push(arrival.input_tokens);
        self.trace.output_tokens.push(arrival.output_tokens);
        Ok(())
    }

    fn push_prefix(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        let blocks_max = arrival.input_tokens.div_ceil(PREFIX_BLOCK_TOKENS);
        if arrival.prefix_hashes.len() as u64 > u64::from(blocks_max) {
            let found = format!("{} prefix blocks", arrival.prefix_hashes.len());
            let expected = format!("at most {blocks_max}: {} tokens", arrival.input_tokens);
            return Err(Refusal::new(found, expected));
        }
        let trace = &mut self.trace;
        if arrival.prefix_hashes.is_empty() && trace.prefix_ends.is_empty() {
            return Ok(());
        }
        // The first prefix of a recording may come late: those before it have none.
        trace.prefix_ends.resize(trace.arrivals.len(), 0);
        for &hash in arrival.prefix_hashes {
            let id = *self.ids.entry(hash).or_insert(trace.distinct_blocks);
            if id == trace.distinct_blocks {
                trace.distinct_blocks = id
                    .checked_add(1)
                    .ok_or_else(|| Refusal::new("2^32 different blocks", "fewer"))?;
            }
            trace.blocks.push(id);
        }
        trace.prefix_ends.push(trace.blocks.len());
        Ok(())
    }

    /// The validated trace, with a remark on every kind of request that was left out.
    ///
    /// # Errors
    /// When no request is left.
    pub fn finish(mut self) -> Result<RequestTrace, Refusal> {
        let words = [
            (self.without_output, self.output_missing),
            (self.without_input, "requests without input tokens"),
        ];
        for (count, words) in words {
            self.trace.header.count(count, &format!("{words}, left out"));
        }
        if self.trace.arrivals.is_empty() {
            let left_out = self.without_input + self.without_output;
            let found = match left_out {
                0 => "no requests".to_owned(),
                _ => format!("no requests but {left_out} without input or output tokens"),
            };
            return Err(Refusal::new(found, "at least one request"));
        }
        Ok(self.trace)
    }
}

impl RequestHeader {
    /// Adds the remark "`words`: `count`", unless nothing was counted.
    pub(super) fn count(&mut self, count: u64, words: &str) {
        if count > 0 {
            self.remarks.push(format!("{words}: {count}"));
        }
    }
}

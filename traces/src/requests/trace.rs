//! The request trace itself: one row a request, sorted by arrival.

use moecast_profiles::units::{Nanos, SimTime};
use serde::Serialize;

use crate::error::{Error, Result};
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

    /// Requests per second between the first arrival and the last; none where all arrive at once.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean over far fewer than 2^53 requests")]
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.duration().0 as f64 / 1e9;
        (seconds > 0.0).then(|| (self.count() - 1) as f64 / seconds)
    }

    /// The same requests at another rate: times between arrivals become `factor` times as long,
    /// rounded to nanoseconds.
    ///
    /// # Errors
    /// When `factor` is not above 0, or the requests would take more than 292 years.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "arrivals stay below 2^63; microseconds of a year are exact"
    )]
    pub fn stretched(&self, factor: f64) -> Result<Self> {
        let longest = self.duration().0 as f64 * factor;
        if !(factor > 0.0 && longest < 9.2e18) {
            let found = format!("arrivals {factor} times as far apart");
            let expected = "a factor above 0, and at most 292 years in all";
            return Err(Error::invalid(&self.header.source, "arrivals", found, expected));
        }
        let at = |time: &SimTime| SimTime((time.0 as f64 * factor).round() as u64);
        let arrivals = self.arrivals.iter().map(at).collect();
        let mut stretched = Self { arrivals, ..self.clone() };
        stretched
            .header
            .remarks
            .push(format!("times between arrivals were multiplied by {factor}"));
        Ok(stretched)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::builder::{Arrival, RequestTraceBuilder};

    fn trace(stamps: &[i128]) -> RequestTrace {
        let mut builder = RequestTraceBuilder::new(RequestHeader::new("toy", true));
        for &stamp in stamps {
            let arrival = Arrival { stamp, input_tokens: 3, output_tokens: 2, prefix_hashes: &[7] };
            builder.push(arrival).unwrap();
        }
        builder.finish().unwrap()
    }

    /// Two requests in the two seconds after the first: at half the gaps, twice the rate.
    #[test]
    fn a_stretched_trace_has_its_requests_at_another_rate() {
        let trace = trace(&[5, 1_000_000_005, 2_000_000_005]);
        assert_eq!(trace.rate(), Some(1.0));
        let twice = trace.stretched(0.5).unwrap();
        assert_eq!(twice.rate(), Some(2.0));
        assert_eq!(twice.get(1).arrival, SimTime(500_000_000));
        assert_eq!(twice.get(1).prefix, trace.get(1).prefix);
        assert_eq!(twice.stretched(2.0).unwrap().arrivals(), trace.arrivals());
    }

    #[test]
    fn no_rate_and_no_factor_that_has_no_meaning() {
        let same = trace(&[1, 1]);
        assert_eq!(same.rate(), None);
        assert!(same.stretched(1e300).is_ok(), "0 stays 0");
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(same.stretched(factor).is_err(), "{factor}");
        }
        assert!(trace(&[0, 1_000_000_000]).stretched(1e10).is_err());
    }
}

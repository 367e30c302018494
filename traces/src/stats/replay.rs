//! A recording as one queue of tokens: what a server that runs one request at a time would see.
//!
//! Requests follow each other in the order in which they first appear; tokens of a request follow
//! its positions. Statistics of locality are defined on that queue, because the order of a
//! batched recording mixes requests.
//! Cost: one sort of the rows where they are not in that order; one pass over the file per layer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use moecast_profiles::ids::MoeLayer;

use crate::trace::{NO_EXPERT, RoutingTrace, TokenColumns};

/// Tokens of one stretch of a sample: long against what a cache remembers.
pub const STRETCH: usize = 2048;

/// The tokens of a recording, request after request.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    trace: &'a RoutingTrace,
    columns: &'a TokenColumns,
    /// Row of every token of the queue; `None` where that is the order of the rows.
    rows: Option<Vec<usize>>,
    requests: Vec<Range<usize>>,
}

impl<'a> Replay<'a> {
    /// The queue of `trace`; `None` where the recording only counted.
    #[must_use]
    pub fn new(trace: &'a RoutingTrace) -> Option<Self> {
        let columns = trace.tokens()?;
        let (request, position) = (&columns.request[..], &columns.position[..]);
        let mut first: HashMap<u32, usize> = HashMap::new();
        let keys: Vec<(usize, u32)> = (0..request.len())
            .map(|row| (*first.entry(request[row]).or_insert(row), position[row]))
            .collect();
        let rows = (!keys.is_sorted()).then(|| {
            let mut rows: Vec<usize> = (0..keys.len()).collect();
            rows.sort_by_key(|&row| keys[row]);
            rows
        });
        let requests = boundaries(request, rows.as_deref());
        Some(Self { trace, columns, rows, requests })
    }

    /// A queue of at most about `pairs_max` (token, expert) pairs: evenly spaced stretches of
    /// [`STRETCH`] tokens of this one, in order, one at least; all of it where it is short.
    #[must_use]
    pub fn sample(&self, pairs_max: usize) -> Self {
        let header = self.trace.header();
        let width = header.moe_layers() * usize::from(header.top_k);
        let (tokens, stretches) = (self.tokens(), (pairs_max / width / STRETCH).max(1));
        if tokens <= (pairs_max / width).max(STRETCH) {
            return self.clone();
        }
        let room = tokens - STRETCH;
        let rows: Vec<usize> = (0..stretches)
            .map(|stretch| stretch * room / (stretches - 1).max(1))
            .flat_map(|start| start..start + STRETCH)
            .map(|token| self.row(token))
            .collect();
        let requests = boundaries(&self.columns.request, Some(&rows));
        Self { rows: Some(rows), requests, ..*self }
    }

    /// The row of token number `token` in the recording.
    #[must_use]
    pub fn row(&self, token: usize) -> usize {
        self.rows.as_ref().map_or(token, |rows| rows[token])
    }

    /// Tokens in the queue.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.as_ref().map_or(self.columns.step.len(), Vec::len)
    }

    /// The part of the queue that each request owns, in order.
    #[must_use]
    pub fn requests(&self) -> &[Range<usize>] {
        &self.requests
    }

    /// The recording.
    #[must_use]
    pub fn trace(&self) -> &'a RoutingTrace {
        self.trace
    }

    /// The queue as one layer sees it: an item is an expert of that layer.
    #[must_use]
    pub fn layer(&self, layer: MoeLayer) -> Stream<'_> {
        let header = self.trace.header();
        let k = usize::from(header.top_k);
        let (width, first) = (header.moe_layers() * k, layer.index() * k);
        let all = &self.columns.experts[..];
        let mut experts = Vec::with_capacity(self.tokens() * k);
        for token in 0..self.tokens() {
            let start = self.row(token) * width + first;
            experts.extend_from_slice(&all[start..start + k]);
        }
        Stream {
            experts: Cow::Owned(experts),
            rows: None,
            base: vec![0; k],
            items: usize::from(header.experts),
        }
    }

    /// The queue as the whole model sees it: an item is an expert of any layer.
    #[must_use]
    pub fn model(&self) -> Stream<'_> {
        let header = self.trace.header();
        let (k, experts) = (usize::from(header.top_k), usize::from(header.experts));
        let layers = header.moe_layers();
        Stream {
            experts: Cow::Borrowed(&self.columns.experts),
            rows: self.rows.as_deref(),
            base: (0..layers * k).map(|place| place / k * experts).collect(),
            items: layers * experts,
        }
    }
}

/// The runs of tokens that one request owns.
fn boundaries(request: &[u32], rows: Option<&[usize]>) -> Vec<Range<usize>> {
    let tokens = rows.map_or(request.len(), <[usize]>::len);
    let owner = |token: usize| request[rows.map_or(token, |rows| rows[token])];
    let mut runs = Vec::new();
    let mut start = 0;
    for token in 1..=tokens {
        if token == tokens || owner(token) != owner(start) {
            runs.push(start..token);
            start = token;
        }
    }
    runs
}

/// Events in order: one token, and the distinct items that it picked.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    /// `[rows, width]`
    experts: Cow<'a, [u16]>,
    rows: Option<&'a [usize]>,
    /// `[width]`: what is added to an expert of that place to make it an item.
    base: Vec<usize>,
    items: usize,
}

impl Stream<'_> {
    /// Number of events.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.map_or(self.experts.len() / self.width(), <[usize]>::len)
    }

    /// Number of items that can be picked.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// Most items that one event picks.
    #[must_use]
    pub fn width(&self) -> usize {
        self.base.len()
    }

    /// The items that token number `token` picked, layer by layer, slot by slot.
    #[inline]
    pub fn picks(&self, token: usize) -> impl Iterator<Item = usize> + '_ {
        self.places(token).flatten()
    }

    /// As [`Self::picks`], with `None` at every place that holds no expert.
    #[inline]
    pub(super) fn places(&self, token: usize) -> impl Iterator<Item = Option<usize>> + '_ {
        let row = self.rows.map_or(token, |rows| rows[token]);
        let width = self.base.len();
        self.experts[row * width..(row + 1) * width]
            .iter()
            .zip(&self.base)
            .map(|(&expert, &base)| (expert != NO_EXPERT).then(|| base + usize::from(expert)))
    }

    /// The item at `place` of token number `token`.
    #[inline]
    pub(super) fn item(&self, token: usize, place: usize) -> Option<usize> {
        let row = self.rows.map_or(token, |rows| rows[token]);
        let expert = self.experts[row * self.base.len() + place];
        (expert != NO_EXPERT).then(|| self.base[place] + usize::from(expert))
    }

    /// Number of (token, item) pairs.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        (0..self.tokens()).map(|token| self.picks(token).count() as u64).sum()
    }

    /// Picks per item.
    #[must_use]
    pub fn loads(&self) -> Vec<u64> {
        let mut loads = vec![0; self.items];
        for token in 0..self.tokens() {
            for item in self.picks(token) {
                loads[item] += 1;
            }
        }
        loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Phase, TokenRow, TraceBuilder};

    #[test]
    fn requests_follow_each_other() {
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 9, 1, vec![0, 4]));
        // Two requests in one batch: request 7 comes first, and its prompt is recorded backwards.
        let rows = [(7, 1, 0, [1, 2]), (7, 0, 0, [3, 4]), (2, 0, 0, [5, 6]), (7, 2, 1, [7, 8])];
        for (request, position, step, experts) in rows {
            let phase = Phase::Prefill;
            let experts = &experts;
            builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
        }
        let trace = builder.finish("test").unwrap();
        let replay = Replay::new(&trace).unwrap();
        assert_eq!(replay.requests(), [0..3, 3..4]);
        let picks = |stream: &Stream<'_>| -> Vec<usize> {
            (0..stream.tokens()).flat_map(|token| stream.picks(token).collect::<Vec<_>>()).collect()
        };
        assert_eq!(picks(&replay.layer(MoeLayer(0))), [3, 1, 7, 5]);
        assert_eq!(picks(&replay.layer(MoeLayer(1))), [4, 2, 8, 6]);
        assert_eq!(picks(&replay.model()), [3, 13, 1, 11, 7, 17, 5, 15]);
        assert_eq!(replay.model().item(2, 1), Some(17));
    }

    #[test]
    fn a_sample_is_evenly_spaced_and_ends_where_the_recording_does() {
        let length = u32::try_from(10 * STRETCH + 5).unwrap();
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 9, 1, vec![0]));
        for step in 0..length {
            let (phase, experts) = (Phase::Decode, &[u16::try_from(step % 9).unwrap()]);
            let (request, position) = (step / 3000, step % 3000);
            builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
        }
        let trace = builder.finish("test").unwrap();
        let replay = Replay::new(&trace).unwrap();
        let sample = replay.sample(3 * STRETCH + 7);
        assert_eq!(sample.tokens(), 3 * STRETCH);
        assert_eq!(sample.row(0), 0);
        assert_eq!(sample.row(STRETCH), (9 * STRETCH + 5) / 2);
        assert_eq!(sample.row(3 * STRETCH - 1), 10 * STRETCH + 4);
        let owned: usize = sample.requests().iter().map(ExactSizeIterator::len).sum();
        assert_eq!(owned, sample.tokens());
        let (layer, model) = (sample.layer(MoeLayer(0)), sample.model());
        assert_eq!((layer.tokens(), layer.loads()), (model.tokens(), model.loads()));
        assert_eq!(model.pairs(), 3 * STRETCH as u64);
        assert_eq!(replay.sample(11 * STRETCH).tokens(), replay.tokens());
        assert_eq!(replay.sample(1).tokens(), STRETCH);
    }
}

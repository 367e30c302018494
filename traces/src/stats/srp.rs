//! Segment routing best performance: how well "this expert is used in this stretch of tokens"
//! predicts the routing. Liang et al., "Not All Models Suit Expert Offloading: On Local Routing
//! Consistency of Mixture-of-Expert Models", 2025.
//!
//! For every expert and every window of m tokens, let c be the tokens of the window that the
//! expert was picked by. Predicting "active" on the windows with c >= t makes M(t) = sum of their
//! c matches out of P(t) = m x their number predictions and A = sum of all c activations;
//! F1(t) = 2M/(P + A), and SRP is its maximum over t = 0..m. P/A at that t is the cache, in
//! multiples of top-k, that such a prediction would fill. A layer or a model adds M, P and A of
//! its experts first and shares one t.
//!
//! Windows slide by one token inside one request and are full: a request of fewer than m tokens
//! has none. The recording of OLMoE in the tests is one request, where this equals the published
//! code. Cost: two steps per pick and m, whatever the number of experts.

use std::ops::Range;

use super::BySegment;
use super::replay::Stream;

/// Window lengths that are published.
pub const SEGMENTS: [u32; 4] = [4, 16, 64, 256];

/// How often a window held an expert c times.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// (window, expert) pairs that saw the expert c times, `[m + 1]`; index 0 means nothing, as
    /// experts that are never picked are never looked at.
    seen: Vec<u64>,
    /// All (window, expert) pairs.
    pairs: u64,
}

/// The best prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Its F1.
    pub srp: f64,
    /// Its predictions over activations: cache size in multiples of top-k.
    pub cache_ratio: f64,
    /// Its threshold.
    pub threshold: usize,
}

impl Windows {
    /// Counts the windows of `segment` tokens of `stream`, request by request.
    #[must_use]
    pub fn of(stream: &Stream<'_>, requests: &[Range<usize>], segment: u32) -> Self {
        let length = segment as usize;
        let mut counter = Counter {
            windows: Self { seen: vec![0; length + 1], pairs: 0 },
            count: vec![0; stream.items()],
            since: vec![0; stream.items()],
        };
        for request in requests.iter().filter(|request| request.len() >= length) {
            counter.request(stream, request.clone(), length);
        }
        counter.windows
    }

    /// Adds the windows of another layer.
    pub fn add(&mut self, other: &Self) {
        for (sum, &seen) in self.seen.iter_mut().zip(&other.seen) {
            *sum += seen;
        }
        self.pairs += other.pairs;
    }

    /// The best prediction; `None` where there is no full window, or nothing was picked in one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn best(&self) -> Option<Best> {
        let length = self.seen.len() - 1;
        let activations: u64 = (0_u64..).zip(&self.seen).map(|(count, seen)| count * seen).sum();
        if activations == 0 {
            return None;
        }
        let (mut matches, mut predicted) = (0, 0);
        let mut best: Option<Best> = None;
        for threshold in (0..=length).rev() {
            matches += threshold as u64 * self.seen[threshold];
            predicted += self.seen[threshold];
            let windows = if threshold == 0 { self.pairs } else { predicted };
            let predictions = windows * length as u64;
            let srp = 2.0 * matches as f64 / (predictions + activations) as f64;
            if best.is_none_or(|best| srp >= best.srp) {
                let cache_ratio = predictions as f64 / activations as f64;
                best = Some(Best { srp, cache_ratio, threshold });
            }
        }
        best
    }
}

/// SRP at `segment` of a long recording whose tokens pick `top_k` of `experts` uniformly: an expert
/// is in a token with p = k/E, so the tokens of a window that hold it are binomial.
#[must_use]
pub fn null(experts: u16, top_k: u16, segment: u32) -> f64 {
    let (length, share) = (f64::from(segment), f64::from(top_k) / f64::from(experts));
    if share >= 1.0 {
        return 1.0;
    }
    let ways = libm::lgamma(length + 1.0);
    let (mut matches, mut predicted, mut best) = (0.0, 0.0, 0.0_f64);
    for count in (0..=segment).rev().map(f64::from) {
        let (seen, missed) = (count, length - count);
        let arrangements = ways - libm::lgamma(seen + 1.0) - libm::lgamma(missed + 1.0);
        let chance = (arrangements + seen * share.ln() + missed * (1.0 - share).ln()).exp();
        matches += seen * chance;
        predicted += length * chance;
        best = best.max(2.0 * matches / (predicted + length * share));
    }
    best
}

/// The null at every segment length that `srp` has a value for.
pub(super) fn nulls(srp: &BySegment, experts: u16, top_k: u16) -> BySegment {
    let null = |(&segment, best): (&u32, &Option<f64>)| {
        (segment, best.map(|_| null(experts, top_k, segment)))
    };
    srp.iter().map(null).collect()
}

/// Windows are counted when an expert's count changes: `since` is the window of the last change.
struct Counter {
    windows: Windows,
    count: Vec<u32>,
    since: Vec<u64>,
}

impl Counter {
    fn request(&mut self, stream: &Stream<'_>, tokens: Range<usize>, length: usize) {
        let windows = (tokens.len() - length + 1) as u64;
        for token in tokens.start..tokens.start + length {
            for item in stream.picks(token) {
                self.count[item] += 1;
                self.since[item] = 0;
            }
        }
        for window in 1..windows {
            let old = tokens.start + usize::try_from(window).expect("a token") - 1;
            for item in stream.picks(old) {
                self.close(item, window);
                self.count[item] -= 1;
            }
            for item in stream.picks(old + length) {
                self.close(item, window);
                self.count[item] += 1;
            }
        }
        for token in tokens.end - length..tokens.end {
            for item in stream.picks(token) {
                self.close(item, windows);
                self.count[item] = 0;
            }
        }
        self.windows.pairs += windows * stream.items() as u64;
    }

    /// Counts the windows from the last change of `item` up to `window`.
    #[inline]
    fn close(&mut self, item: usize, window: u64) {
        self.windows.seen[self.count[item] as usize] += window.saturating_sub(self.since[item]);
        self.since[item] = window;
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::MoeLayer;
    use proptest::prelude::*;

    use super::super::replay::Replay;
    use super::super::testing::{renamed, trace, traces};
    use super::*;
    use crate::RoutingTrace;

    fn best(trace: &RoutingTrace, segment: u32) -> Option<Best> {
        let replay = Replay::new(trace).unwrap();
        Windows::of(&replay.model(), replay.requests(), segment).best()
    }

    /// The definition, word by word.
    fn by_definition(trace: &RoutingTrace, segment: usize) -> Option<Best> {
        let replay = Replay::new(trace).unwrap();
        let stream = replay.model();
        let mut counts = Vec::new();
        for request in replay.requests() {
            for start in request.start..(request.end + 1).saturating_sub(segment) {
                for item in 0..stream.items() {
                    let held = |token: &usize| stream.picks(*token).any(|pick| pick == item);
                    counts.push((start..start + segment).filter(held).count());
                }
            }
        }
        let activations: usize = counts.iter().sum();
        let score = |threshold: usize| {
            let chosen: Vec<usize> = counts.iter().copied().filter(|&c| c >= threshold).collect();
            let (matches, predictions) = (chosen.iter().sum::<usize>(), chosen.len() * segment);
            let cache_ratio = predictions as f64 / activations as f64;
            let srp = 2.0 * matches as f64 / (predictions + activations) as f64;
            Best { srp, cache_ratio, threshold }
        };
        let scores = (0..=segment).map(score).filter(|_| activations > 0);
        scores.reduce(|best, next| if next.srp > best.srp { next } else { best })
    }

    proptest! {
        #[test]
        fn equals_its_definition(trace in traces(), segment in 1_u32..7) {
            prop_assert_eq!(best(&trace, segment), by_definition(&trace, segment as usize));
        }

        #[test]
        fn names_of_experts_do_not_matter(trace in traces(), shift in 1_u16..5) {
            prop_assert_eq!(best(&trace, 4), best(&renamed(&trace, shift), 4));
        }
    }

    #[test]
    fn constant_routing_is_predicted_perfectly() {
        let trace = trace(5, &[0; 20], &[[0, 1, 3, 4]; 20]);
        for segment in [1, 4, 16] {
            let best = best(&trace, segment).unwrap();
            assert_eq!((best.srp, best.cache_ratio), (1.0, 1.0));
        }
    }

    #[test]
    fn the_null_is_that_of_uniform_picks() {
        // Of two tokens that pick one of two, an expert is in both, one or none with 1/4, 1/2,
        // 1/4. Threshold 1 predicts 3/2 and matches 1 of 1: F1 = 2/(3/2 + 1); threshold 2: 1/1.5;
        // threshold 0: 2/3.
        assert!((null(2, 1, 2) - 0.8).abs() < 1e-12);
        assert_eq!(null(4, 4, 16), 1.0);
        let mut random = moecast_profiles::seed::Seed(3).stream("test");
        let rows: Vec<Vec<u16>> = (0..20_000)
            .map(|_| {
                let ids = rand::seq::index::sample(&mut random, 16, 3);
                ids.iter().map(|id| u16::try_from(id).unwrap()).collect()
            })
            .collect();
        let trace = super::super::testing::wide_trace(16, 3, &rows);
        for segment in SEGMENTS {
            let (found, expected) = (best(&trace, segment).unwrap().srp, null(16, 3, segment));
            assert!((found - expected).abs() < 0.005, "{segment}: {found} against {expected}");
        }
    }

    #[test]
    fn solvable_by_hand() {
        // One window of two tokens in one layer: experts seen 2, 1, 1 times. Threshold 1 predicts
        // 6 and matches 4 of 4: F1 = 8/10. Threshold 2 predicts 2 and matches 2: F1 = 4/6.
        let trace = trace(4, &[0, 0], &[[0, 1, 0, 1], [0, 2, 0, 2]]);
        let replay = Replay::new(&trace).unwrap();
        let layer = Windows::of(&replay.layer(MoeLayer(0)), replay.requests(), 2);
        let expected = Best { srp: 0.8, cache_ratio: 1.5, threshold: 1 };
        assert_eq!(layer.best(), Some(expected));
        let mut both = layer.clone();
        both.add(&layer);
        assert_eq!(both.best(), Some(expected));
    }

    #[test]
    fn windows_do_not_cross_requests_and_are_full() {
        // Two requests of two tokens: no window of three, and the requests share no expert.
        let trace =
            trace(8, &[0, 0, 1, 1], &[[0, 1, 0, 1], [0, 1, 0, 1], [2, 3, 2, 3], [2, 3, 2, 3]]);
        assert_eq!(best(&trace, 3), None);
        assert_eq!(best(&trace, 2).unwrap().srp, 1.0);
    }
}

//! Co-activation: which experts of one layer one token picks together.
//!
//! Lift is P(a, b) / (P(a) P(b)) over tokens: 1 says nothing about each other. Distinct picks
//! avoid each other a little: uniform routing has lift (k - 1)E / (k(E - 1)), which is the null.
//! Cost: k(k - 1)/2 steps per token; E x E counts.

use serde::{Deserialize, Serialize};

use super::replay::Stream;

/// Fewest tokens that must have picked a pair for it to be listed.
pub const TOKENS_MIN: u64 = 5;

/// Pairs that are listed per layer.
pub const PAIRS_MAX: usize = 8;

/// How often two experts of a layer were picked by the same token.
#[derive(Clone, Debug, PartialEq)]
pub struct Coactivation {
    experts: usize,
    tokens: u64,
    /// `[E, E]`, symmetric; the diagonal holds the picks of each expert.
    counts: Vec<u64>,
}

/// Two experts that are picked together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The smaller id.
    pub a: u16,
    /// The larger id.
    pub b: u16,
    /// Tokens that picked both.
    pub tokens: u64,
    /// That, over what independent picks would give.
    pub lift: f64,
}

/// Co-activation of a layer in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoactivationStats {
    /// Lift of every pair under uniform routing; `None` for a single expert.
    pub null_lift: Option<f64>,
    /// The pairs of largest lift among those that at least [`TOKENS_MIN`] tokens picked.
    pub pairs: Vec<Pair>,
}

impl Coactivation {
    /// Counts one layer.
    #[must_use]
    pub fn of(stream: &Stream<'_>) -> Self {
        let experts = stream.items();
        let mut counts = vec![0; experts * experts];
        let mut tokens = 0;
        let mut picks = Vec::with_capacity(stream.width());
        for token in 0..stream.tokens() {
            picks.clear();
            picks.extend(stream.picks(token));
            tokens += u64::from(!picks.is_empty());
            for (index, &a) in picks.iter().enumerate() {
                counts[a * experts + a] += 1;
                for &b in &picks[index + 1..] {
                    counts[a.min(b) * experts + a.max(b)] += 1;
                }
            }
        }
        for a in 0..experts {
            for b in 0..a {
                counts[a * experts + b] = counts[b * experts + a];
            }
        }
        Self { experts, tokens, counts }
    }

    /// Experts of the layer.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Tokens that picked both `a` and `b`; with `a` equal to `b`, those that picked it.
    #[must_use]
    pub fn tokens(&self, a: usize, b: usize) -> u64 {
        self.counts[a * self.experts + b]
    }

    /// Lift of two experts; `None` where one was never picked.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn lift(&self, a: usize, b: usize) -> Option<f64> {
        let alone = self.tokens(a, a) as f64 * self.tokens(b, b) as f64;
        (alone > 0.0).then(|| self.tokens(a, b) as f64 * self.tokens as f64 / alone)
    }

    /// At most `count` pairs that at least `tokens_min` tokens picked, largest lift first, then
    /// most tokens, then smallest ids.
    #[must_use]
    pub fn top(&self, count: usize, tokens_min: u64) -> Vec<Pair> {
        let id = |expert| u16::try_from(expert).expect("expert ids are 16 bits");
        let mut pairs = Vec::new();
        for a in 0..self.experts {
            for b in a + 1..self.experts {
                let tokens = self.tokens(a, b);
                if let Some(lift) = self.lift(a, b).filter(|_| tokens >= tokens_min.max(1)) {
                    pairs.push(Pair { a: id(a), b: id(b), tokens, lift });
                }
            }
        }
        pairs.sort_by(|one, two| two.lift.total_cmp(&one.lift).then(two.tokens.cmp(&one.tokens)));
        pairs.truncate(count);
        pairs
    }

    /// A few numbers; the null takes every token to pick `top_k`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of experts")]
    pub fn stats(&self, top_k: u16) -> CoactivationStats {
        let (experts, k) = (self.experts as f64, f64::from(top_k));
        CoactivationStats {
            null_lift: (self.experts > 1).then(|| (k - 1.0) * experts / (k * (experts - 1.0))),
            pairs: self.top(PAIRS_MAX, TOKENS_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::MoeLayer;
    use proptest::prelude::*;

    use super::super::replay::Replay;
    use super::super::testing::{trace, traces};
    use super::*;

    #[test]
    fn solvable_by_hand() {
        // {0,1} three times, {1,2} and {2,3} once: P(0)=3/5, P(1)=4/5, P(0,1)=3/5: lift 5/4.
        let rows = [[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [1, 2, 0, 1], [3, 2, 0, 1]];
        let trace = trace(4, &[0; 5], &rows);
        let found = Coactivation::of(&Replay::new(&trace).unwrap().layer(MoeLayer(0)));
        assert_eq!((found.tokens(0, 1), found.tokens(1, 0), found.tokens(2, 2)), (3, 3, 2));
        assert_eq!(found.lift(0, 1), Some(1.25));
        assert_eq!(found.lift(0, 3), Some(0.0));
        let top = found.top(2, 1);
        // {2,3}: (1/5) / (2/5 x 1/5) = 5/2.
        assert_eq!(top[0], Pair { a: 2, b: 3, tokens: 1, lift: 2.5 });
        assert_eq!(top[1], Pair { a: 0, b: 1, tokens: 3, lift: 1.25 });
        assert_eq!(found.top(9, 2).len(), 1);
        // Uniform pairs of four: P(a,b) = 1/6, P(a) = 1/2.
        assert!((found.stats(2).null_lift.unwrap() - 4.0 / 6.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_diagonal_is_the_load(trace in traces()) {
            let replay = Replay::new(&trace).unwrap();
            let layer = replay.layer(MoeLayer(1));
            let found = Coactivation::of(&layer);
            for (expert, load) in layer.loads().into_iter().enumerate() {
                prop_assert_eq!(found.tokens(expert, expert), load);
            }
        }
    }
}

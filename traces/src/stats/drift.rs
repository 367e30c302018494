//! Drift: how alike the popularity of experts is in parts of a recording: between eight equal
//! windows of time, or between domains.
//!
//! Cosine similarity and Jensen-Shannon divergence (Lin 1991, in bits: 0 is equal, 1 is disjoint)
//! of the shares of experts, per layer, then the mean over the layers in which both parts picked
//! something. Chance alone gives two parts of n and m picks from one popularity a divergence of
//! about (E - k)/(8 ln 2) x (1/n + 1/m) bits, which is printed beside it; tokens that follow each
//! other are alike, so real noise is more than that.
//! Cost: one pass over the recording; parts^2 x layers x experts.

use std::f64::consts::LN_2;

use moecast_profiles::ids::MoeLayer;
use serde::{Deserialize, Serialize};

use super::load::by_part;
use crate::trace::{Events, RoutingTrace};

/// Windows of time that a recording is cut into.
pub const WINDOWS: usize = 8;

/// Most domains that are compared.
pub const DOMAINS_MAX: usize = 64;

/// Mean over layers, `[parts, parts]`; `None` where no layer has picks in both.
pub type Matrix = Vec<Vec<Option<f64>>>;

/// How alike the parts of a recording are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// What the parts are called.
    pub parts: Vec<String>,
    /// Cosine similarity of the loads.
    pub cosine: Matrix,
    /// Jensen-Shannon divergence of the loads in bits.
    pub jensen_shannon: Matrix,
    /// The divergence that chance alone gives.
    pub null_jensen_shannon: Matrix,
}

/// Compares equal windows of time, in the order of recording: of tokens, or of steps where the
/// recording only counted. There are fewer than [`WINDOWS`] where there are fewer of those.
#[must_use]
pub fn between_windows(trace: &RoutingTrace) -> Drift {
    let rows = match trace.events() {
        Events::Tokens(columns) => columns.step.len(),
        Events::Counts(_) => trace.steps().len(),
    };
    let windows = rows.min(WINDOWS);
    let loads = by_part(trace, windows, |row| row * windows / rows);
    let parts = (0..windows).map(|window| format!("{}/{windows}", window + 1)).collect();
    compare(trace, parts, &loads)
}

/// Compares the domains that the recording names and has tokens of, the [`DOMAINS_MAX`] with the
/// most tokens where there are more; `None` where it names none.
#[must_use]
pub fn between_domains(trace: &RoutingTrace) -> Option<Drift> {
    let domain = trace.tokens()?.domain.as_ref()?;
    let names = &trace.header().domains;
    let mut tokens = vec![0_u64; names.len()];
    domain.iter().for_each(|&index| tokens[usize::from(index)] += 1);
    let mut kept: Vec<usize> = (0..names.len()).filter(|&index| tokens[index] > 0).collect();
    kept.sort_by_key(|&index| (std::cmp::Reverse(tokens[index]), index));
    kept.truncate(DOMAINS_MAX);
    kept.sort_unstable();
    // The picks of the others go to one more part, which is not compared.
    let mut part = vec![kept.len(); names.len()];
    kept.iter().enumerate().for_each(|(place, &index)| part[index] = place);
    let loads = by_part(trace, kept.len() + 1, |row| part[usize::from(domain[row])]);
    let parts = kept.iter().map(|&index| names[index].clone()).collect();
    Some(compare(trace, parts, &loads))
}

fn compare(trace: &RoutingTrace, parts: Vec<String>, loads: &[u64]) -> Drift {
    let header = trace.header();
    let (layers, experts) = (header.moe_layers(), usize::from(header.experts));
    let of = |part: usize, layer: MoeLayer| {
        let start = (part * layers + layer.index()) * experts;
        &loads[start..start + experts]
    };
    let free = f64::from(header.experts - header.top_k);
    let matrix = |measure: &dyn Fn(&[u64], &[u64]) -> f64| -> Matrix {
        let mean = |a: usize, b: usize| {
            let pairs = (0_u16..)
                .take(layers)
                .map(|layer| (of(a, MoeLayer(layer)), of(b, MoeLayer(layer))));
            let both = pairs.filter(|(a, b)| sum(a) > 0.0 && sum(b) > 0.0);
            let (total, count) = both
                .fold((0.0, 0.0), |(total, count), (a, b)| (total + measure(a, b), count + 1.0));
            (count > 0.0).then(|| total / count)
        };
        (0..parts.len()).map(|a| (0..parts.len()).map(|b| mean(a, b)).collect()).collect()
    };
    let noise = |a: &[u64], b: &[u64]| free / (8.0 * LN_2) * (1.0 / sum(a) + 1.0 / sum(b));
    Drift {
        cosine: matrix(&cosine),
        jensen_shannon: matrix(&jensen_shannon),
        null_jensen_shannon: matrix(&noise),
        parts,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn sum(loads: &[u64]) -> f64 {
    loads.iter().sum::<u64>() as f64
}

/// Cosine similarity of two loads `[E]` that are not empty.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn cosine(a: &[u64], b: &[u64]) -> f64 {
    let dot =
        |a: &[u64], b: &[u64]| -> f64 { a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Jensen-Shannon divergence in bits of two loads `[E]` that are not empty.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn jensen_shannon(a: &[u64], b: &[u64]) -> f64 {
    let (all_a, all_b) = (sum(a), sum(b));
    let term = |share: f64, middle: f64| {
        if share > 0.0 { share / 2.0 * (share / middle).log2() } else { 0.0 }
    };
    let terms = a.iter().zip(b).map(|(&a, &b)| {
        let (a, b) = (a as f64 / all_a, b as f64 / all_b);
        let middle = f64::midpoint(a, b);
        term(a, middle) + term(b, middle)
    });
    terms.sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::wide_trace;
    use super::*;
    use crate::{Header, TraceBuilder};

    #[test]
    fn solvable_by_hand() {
        assert!((cosine(&[1, 1], &[5, 5]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1, 0], &[0, 2]).abs() < 1e-12);
        assert!((jensen_shannon(&[1, 0], &[0, 2]) - 1.0).abs() < 1e-12);
        assert!(jensen_shannon(&[1, 3], &[2, 6]).abs() < 1e-12);
        // {1, 0} and {1/2, 1/2}, middle {3/4, 1/4}: (log2(4/3) + (log2(2/3) + 1)/2) / 2.
        let expected = 0.5 * (4.0_f64 / 3.0).log2() + 0.25 * ((2.0_f64 / 3.0).log2() + 1.0);
        assert!((jensen_shannon(&[4, 0], &[1, 1]) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_change_in_the_middle_splits_the_windows() {
        let rows: Vec<Vec<u16>> = (0..80).map(|token| vec![u16::from(token >= 40)]).collect();
        let drift = between_windows(&wide_trace(4, 1, &rows));
        assert_eq!(drift.parts.len(), 8);
        assert_eq!(drift.parts[7], "8/8");
        assert_eq!(drift.jensen_shannon[0][3], Some(0.0));
        assert_eq!(drift.jensen_shannon[0][4], Some(1.0));
        assert_eq!(drift.cosine[3][4], Some(0.0));
        assert_eq!(between_domains(&wide_trace(4, 1, &rows)), None);
    }

    #[test]
    fn domains_are_compared_by_name() {
        let rows: Vec<Vec<u16>> = (0..6).map(|token| vec![u16::from(token % 3 == 0)]).collect();
        let plain = wide_trace(4, 1, &rows);
        let mut header = plain.header().clone();
        header.domains = ["code", "law", "unused"].map(str::to_owned).to_vec();
        let mut columns = plain.tokens().unwrap().clone();
        columns.domain = Some(vec![0, 1, 1, 0, 1, 1].into());
        let trace = RoutingTrace::new(header, Events::Tokens(columns), "test").unwrap();
        let drift = between_domains(&trace).unwrap();
        // A domain without a token is not compared.
        assert_eq!(drift.parts, ["code", "law"]);
        assert_eq!(drift.jensen_shannon[0], [Some(0.0), Some(1.0)]);
        assert_eq!(drift.cosine[1], [Some(0.0), Some(1.0)]);
    }

    #[test]
    fn the_null_is_what_independent_picks_give() {
        use rand::RngExt;
        let mut random = moecast_profiles::seed::Seed(5).stream("test");
        let rows: Vec<Vec<u16>> =
            (0..16_000).map(|_| (0..20).map(|_| random.random_range(0..16)).collect()).collect();
        let drift = between_windows(&wide_trace(16, 1, &rows));
        let (found, null) =
            (drift.jensen_shannon[0][5].unwrap(), drift.null_jensen_shannon[0][5].unwrap());
        assert!((found / null - 1.0).abs() < 0.2, "{found} against {null}");
    }

    #[test]
    fn counts_drift_too_and_empty_layers_are_left_out() {
        let mut builder = TraceBuilder::new(Header::new("test", "", 2, 1, vec![0, 1]));
        builder.push_counts(&[4, 0, 0, 0]);
        builder.push_counts(&[0, 4, 3, 0]);
        let drift = between_windows(&builder.finish("test").unwrap());
        assert_eq!(drift.parts, ["1/2", "2/2"]);
        assert_eq!(drift.jensen_shannon[0][1], Some(1.0));
        assert_eq!(drift.cosine[1][1], Some(1.0));
    }
}

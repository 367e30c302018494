//! How much each expert matters, by what a recording saw.

use moecast_profiles::ids::MoeLayer;
use moecast_traces::{Events, NO_EXPERT, RoutingTrace, TokenColumns};

/// How much each expert of each layer matters; every row sums to 1, or is 0 where nothing went.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// `[M][E]` share of the layer's picks that chose the expert.
    pub share: Vec<Vec<f64>>,
    /// `[M][E]` share of the layer's gate weights that the expert was given.
    pub weight: Vec<Vec<f64>>,
    /// What a reader should know.
    pub remarks: Vec<String>,
}

impl Importance {
    /// Layers and experts.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.share.len(), self.share.first().map_or(0, Vec::len))
    }
}

/// Shares of picks and of gate weights in `trace`.
///
/// Where the recording has no gate weights the shares of picks stand for them, and a remark says
/// so.
#[must_use]
pub fn importance(trace: &RoutingTrace) -> Importance {
    let layers = trace.header().moe_layers();
    let ordinals = (0..layers).map(|layer| MoeLayer(u16::try_from(layer).expect("u16 layers")));
    #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^53")]
    let counted = |layer: MoeLayer| trace.layer_loads(layer).iter().map(|&n| n as f64).collect();
    let share: Vec<Vec<f64>> = ordinals.map(|layer| normal(counted(layer))).collect();
    let mut remarks = Vec::new();
    let weight = match trace.events() {
        Events::Tokens(columns) if columns.weights.is_some() => weights(trace, columns),
        _ => {
            remarks.push(
                "the recording has no gate weights: the shares of picks stand for them".to_owned(),
            );
            share.clone()
        }
    };
    Importance { share, weight, remarks }
}

fn weights(trace: &RoutingTrace, columns: &TokenColumns) -> Vec<Vec<f64>> {
    let header = trace.header();
    let (layers, k) = (header.moe_layers(), usize::from(header.top_k));
    let mut sums = vec![vec![0.0; usize::from(header.experts)]; layers];
    let Some(weights) = &columns.weights else { return sums };
    for (index, (&expert, weight)) in columns.experts.iter().zip(weights.iter()).enumerate() {
        let weight = f64::from(*weight);
        if expert != NO_EXPERT && weight.is_finite() && weight > 0.0 {
            sums[index / k % layers][usize::from(expert)] += weight;
        }
    }
    sums.into_iter().map(normal).collect()
}

fn normal(mut row: Vec<f64>) -> Vec<f64> {
    let sum: f64 = row.iter().sum();
    if sum > 0.0 {
        row.iter_mut().for_each(|value| *value /= sum);
    }
    row
}

#[cfg(test)]
mod tests {
    use moecast_traces::{CountColumns, Header, f16};

    use super::*;

    #[test]
    fn shares_and_weights_are_those_of_the_picks() {
        let header = Header::new("test", "", 3, 2, vec![0, 4]);
        let columns = TokenColumns {
            // Two tokens, two layers, two picks each; token 1 skips a pick of layer 1.
            experts: vec![0, 1, 2, 0, 0, 2, 2, NO_EXPERT].into(),
            weights: Some(
                [0.75, 0.25, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0].map(f16::from_f64).to_vec().into(),
            ),
            request: vec![0, 0].into(),
            position: vec![0, 1].into(),
            step: vec![0, 1].into(),
            phase: vec![0, 1].into(),
            domain: None,
        };
        let trace = RoutingTrace::new(header, Events::Tokens(columns), "f").unwrap();
        let found = importance(&trace);
        assert_eq!(found.share[0], [0.5, 0.25, 0.25]);
        assert_eq!(found.weight[0], [0.625, 0.125, 0.25]);
        assert_eq!(found.weight[1], [0.25, 0.0, 0.75]);
        assert_eq!(found.remarks, [""; 0]);
    }

    #[test]
    fn a_recording_that_only_counted_says_so() {
        let header = Header::new("test", "", 2, 1, vec![3]);
        let counts = CountColumns { counts: vec![3, 1].into() };
        let trace = RoutingTrace::new(header, Events::Counts(counts), "f").unwrap();
        let found = importance(&trace);
        assert_eq!((&found.share, &found.weight), (&vec![vec![0.75, 0.25]], &found.share));
        assert_eq!(found.remarks.len(), 1);
    }
}

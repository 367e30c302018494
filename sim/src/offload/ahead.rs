//! The routing to come, as prefetchers may be shown it: the tokens of a pass and of the one after.

use moecast_traces::RoutingTrace;

use super::engine::ordinal;
use super::picks;
use super::rule;
use crate::prefetch::{Ahead, Demand};

/// The tokens of a pass and of the one after it.
pub(super) struct Tokens<'t> {
    pub(super) trace: &'t RoutingTrace,
    pub(super) rows: &'t [usize],
    pub(super) next: &'t [usize],
    pub(super) requests: &'t [u32],
    /// Whether anybody asks what an expert weighs in its tokens: nobody where there is one version.
    pub(super) weighs: bool,
}

impl Tokens<'_> {
    pub(super) fn weighted(&self) -> bool {
        self.trace.tokens().is_some_and(|columns| columns.weights.is_some())
    }

    fn demand(&self, rows: &[usize], layer: usize, into: &mut Vec<Demand>) {
        into.clear();
        if layer >= self.trace.header().moe_layers() {
            return;
        }
        let mut chosen: Vec<(u16, f64)> = Vec::new();
        if self.weighs {
            let mut picks = Vec::new();
            picks::read(self.trace, layer, rows, &mut picks);
            for token in picks.chunk_by(|a, b| a.token == b.token) {
                chosen.extend(token.iter().map(|pick| pick.expert).zip(rule::before(token)));
            }
        } else {
            let experts = rows.iter().flat_map(|&row| self.trace.chosen(row, ordinal(layer)));
            chosen.extend(experts.map(|expert| (expert.0, 0.0)));
        }
        chosen.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for own in chosen.chunk_by(|a, b| a.0 == b.0) {
            let tokens = u32::try_from(own.len()).unwrap_or(u32::MAX);
            into.push(Demand { expert: own[0].0, tokens, before: own[0].1 });
        }
    }
}

impl Ahead for Tokens<'_> {
    fn rest_of_pass(&self, layer: usize, into: &mut Vec<Demand>) {
        self.demand(self.rows, layer, into);
    }

    fn next_pass(&self, layer: usize, into: &mut Vec<Demand>) {
        self.demand(self.next, layer, into);
    }
}

//! One forward pass of a replica: which kernels run over which tokens, layer after layer.
//!
//! Data-parallel ranks meet in every layer, so each part takes as long as on the slowest of them;
//! a rank without tokens waits. Kernels of passes that read prompts cost what their tokens add to
//! the same pass without them, so that the factors of prompts and of generation apply each to its
//! own. Deliberately absent: overlap of computation and transfers, launches of passes that are too
//! large for a captured graph.

use std::sync::Arc;

use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::model::ModelShape;
use moecast_profiles::units::Nanos;

use super::layout::Layout;
use super::moe::{ExpertMap, MoeTime};
use super::record::PassParts;
use super::recorded::{Tally, Told};
use super::service::Routing;

/// What one data-parallel rank works on in a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) batch: AttentionBatch,
    /// Requests whose next token is asked for, of those that only generate, and of the others.
    pub(crate) asked_decode: u32,
    pub(crate) asked_prefill: u32,
}

/// What a pass takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassTime {
    /// One stage of the pipeline, host time included.
    pub(crate) stage: Nanos,
    /// Rows of the busiest expert-parallel rank over the mean, mean over layers.
    pub(crate) imbalance: f64,
    /// `[R]` time that each rank of a stage computed.
    pub(crate) busy: Vec<Nanos>,
    pub(crate) parts: PassParts,
}

/// Costs passes of one replica.
pub(crate) struct PassCost {
    pub(crate) model: ModelShape,
    pub(crate) cost: Arc<dyn CostModel>,
    pub(crate) layout: Layout,
    pub(crate) map: Arc<ExpertMap>,
    pub(crate) routing: Routing,
    pub(crate) factors: Factors,
    pub(crate) graph_batch_max: u32,
    /// Draft tokens of every generating request, each through one layer and the head.
    pub(crate) draft_tokens: u32,
    /// What recorded routing is told of the next pass, and its counts.
    pub(crate) told: Told,
    pub(crate) tallies: Vec<Tally>,
}

/// Parts of a pass, nanoseconds.
#[derive(Clone, Copy, Default)]
struct Kernels {
    total: f64,
    imbalance: f64,
    experts_mean: f64,
}

impl PassCost {
    /// Whether [`Self::told`] matters.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.routing.library.is_some()
    }

    /// The time of a pass over `shares`, one a data-parallel rank, and the tokens told before;
    /// these are forgotten.
    pub(crate) fn time(&mut self, shares: &[Share]) -> PassTime {
        let prefills = shares.iter().any(|share| share.batch.prefill.tokens > 0);
        let decodes = shares.iter().any(|share| share.batch.decode.tokens > 0);
        let Factors { decode_factor, prefill_factor, host_time, .. } = self.factors;
        let recorded = self.routing.library.as_ref().map(|library| {
            let cost = self.cost.as_ref();
            library.times(&self.map, cost, &self.told, &mut self.tallies)
        });
        self.told.clear();
        let mut padded: Vec<Share> = Vec::new();
        let decode = decodes.then(|| {
            let only = shares.iter().map(|share| Share {
                batch: AttentionBatch { decode: share.batch.decode, ..AttentionBatch::default() },
                asked_prefill: 0,
                ..*share
            });
            padded.extend(only);
            if !prefills {
                self.pad(&mut padded);
            }
            self.kernels(&padded, recorded.map(|times| times[0]), false)
        });
        let (mut kernels, mut generating) = decode
            .map_or((Kernels::default(), 0.0), |decode| (decode, decode.total * decode_factor));
        let mut prefill = 0.0;
        if prefills {
            let all = self.kernels(shares, recorded.map(|times| times[1]), true);
            prefill = (all.total - kernels.total).max(0.0) * prefill_factor;
            kernels = Kernels { total: all.total.max(kernels.total), ..all };
        }
        let factored = generating + prefill;
        let scale = if kernels.total > 0.0 { factored / kernels.total } else { 1.0 };
        generating += self.drafts(shares) * decode_factor;
        let busy = self.busy(shares, &kernels, scale);
        let stages = f64::from(self.layout.pipeline);
        PassTime {
            stage: Nanos::ceil_from((generating + prefill) / stages) + host_time,
            imbalance: kernels.imbalance,
            busy,
            parts: PassParts {
                decode: Nanos::ceil_from(generating),
                prefill: Nanos::ceil_from(prefill),
                host: host_time * u64::from(self.layout.pipeline),
            },
        }
    }

    /// All ranks run the captured graph of the next size.
    fn pad(&self, shares: &mut [Share]) {
        let most = shares.iter().map(|share| share.batch.decode.tokens).max().unwrap_or(0);
        let size = captured(most);
        if size > self.graph_batch_max {
            return;
        }
        for share in shares {
            let more = size - share.batch.decode.tokens;
            let decode = &mut share.batch.decode;
            decode.requests += more / (1 + self.draft_tokens);
            decode.tokens = size;
            decode.attended += u64::from(more);
            decode.cached += u64::from(more);
        }
    }

    fn kernels(&self, shares: &[Share], recorded: Option<MoeTime>, prefill: bool) -> Kernels {
        let slowest = |time: &dyn Fn(&Share) -> Nanos| {
            shares.iter().map(|share| time(share).0).max().unwrap_or(0) as f64
        };
        let cost = Arc::clone(&self.cost);
        let own = |share: &Share| share.batch.tokens();
        let (layers, moe_layers) =
            (f64::from(self.model.hidden_layers), self.model.moe_layers.len() as f64);
        let attention = slowest(&|share| cost.attention(share.batch) + cost.all_reduce(own(share)));
        let gate = slowest(&|share| cost.gate(own(share)));
        let shared = slowest(&|share| cost.shared_experts(own(share)));
        let dense = slowest(&|share| cost.dense_layer(own(share)) + cost.all_reduce(own(share)));
        let head = slowest(&|share| cost.head(share.asked_decode + share.asked_prefill));
        // Partial sums of experts that all ranks hold tokens for; else combine brings them home.
        let reduce = if self.layout.exchanges() {
            0.0
        } else {
            slowest(&|share| cost.all_reduce(own(share)))
        };
        let moe = self.moe(shares, recorded, prefill);
        let total = attention * layers
            + (gate + shared + reduce) * moe_layers
            + moe.total()
            + dense * (layers - moe_layers)
            + head;
        let imbalance = moe.imbalance / moe_layers.max(1.0);
        Kernels { total, imbalance, experts_mean: moe.experts_mean }
    }

    /// All expert layers: as counted where they were `recorded`, else by the mean.
    fn moe(&self, shares: &[Share], recorded: Option<MoeTime>, prefill: bool) -> MoeTime {
        if let (Some(time), false) = (recorded, self.layout.exchanges()) {
            return time;
        }
        let tokens = |share: &Share| {
            if prefill { share.batch.tokens() } else { share.batch.decode.tokens }
        };
        let all: u32 = shares.iter().map(tokens).sum();
        let most = shares.iter().map(tokens).max().unwrap_or(0);
        let mean = self.routing.mean.time(all, most, prefill);
        match recorded {
            // Which ranks the tokens of an expert are on is not counted.
            Some(time) => MoeTime { dispatch: mean.dispatch, combine: mean.combine, ..time },
            None => mean,
        }
    }

    /// Drafting: each draft token goes through one layer and the head.
    fn drafts(&self, shares: &[Share]) -> f64 {
        if self.draft_tokens == 0 {
            return 0.0;
        }
        let one = |share: &Share| {
            let decode = share.batch.decode;
            let requests = decode.requests;
            if requests == 0 {
                return 0;
            }
            let attended = decode.cached;
            let decode = Attended { requests, tokens: requests, attended, cached: attended };
            let batch = AttentionBatch { decode, prefill: Attended::default() };
            let layer = self.cost.attention(batch) + self.cost.gate(requests);
            (layer + self.cost.shared_experts(requests) + self.cost.head(requests)).0
        };
        let slowest = shares.iter().map(one).max().unwrap_or(0) as f64;
        let tokens: u32 = shares.iter().map(|share| share.batch.decode.requests).sum();
        // Recordings hold no draft layers: each costs a mean layer.
        let layer = self.routing.mean.time(tokens, tokens, false).total();
        let layers = self.map.layers().max(1) as f64;
        f64::from(self.draft_tokens) * (slowest + layer / layers)
    }

    /// Time that every rank of a stage computed, by its own attention and its own experts.
    fn busy(&self, shares: &[Share], kernels: &Kernels, scale: f64) -> Vec<Nanos> {
        let layers = f64::from(self.model.hidden_layers);
        let stages = f64::from(self.layout.pipeline);
        let ranks = self.layout.ranks() as usize;
        let recorded = self.wants_tokens();
        let per_data = usize::from(self.layout.tensor);
        (0..ranks)
            .map(|rank| {
                let share = &shares[rank / per_data];
                let attention = self.cost.attention(share.batch).0 as f64 * layers;
                let experts = if recorded {
                    let rank = rank / usize::from(self.layout.expert_tensor);
                    self.tallies.iter().map(|tally| tally.busy[rank]).sum()
                } else {
                    kernels.experts_mean
                };
                Nanos::ceil_from((attention + experts) * scale / stages)
            })
            .collect()
    }
}

/// The batch of the captured graph that `batch` runs in: 1, 2, 4, eights up to 256, then
/// sixteens, as vLLM and SGLang capture them.
fn captured(batch: u32) -> u32 {
    match batch {
        0..=2 => batch,
        3..=4 => 4,
        5..=256 => batch.next_multiple_of(8),
        _ => batch.next_multiple_of(16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_at_least_as_large_as_their_batch() {
        assert_eq!([0, 1, 2, 3, 5, 256, 257].map(captured), [0, 1, 2, 4, 8, 256, 272]);
    }
}

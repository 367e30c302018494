//! A pass that repeats itself: what a full batch takes when no request comes or goes.
//!
//! Published figures of large systems are often of this kind: so many requests on every GPU, all
//! of one length.

use moecast_profiles::cost::{Attended, AttentionBatch};
use moecast_profiles::units::Nanos;

use super::pass::Share;
use super::replica::Replica;
use super::service::Service;

/// What every data-parallel rank works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// Requests that generate.
    pub requests: u32,
    /// Tokens of context of each.
    pub context: u32,
    /// Whole prompts.
    pub prompts: u32,
    /// Tokens of each.
    pub prompt_tokens: u32,
}

/// A pass of one replica, over and over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeats {
    /// From one pass to the next.
    pub time: Nanos,
    /// Tokens of prompts, and generated tokens that are accepted by expectation, of all ranks.
    pub tokens: f64,
    /// Rows of the busiest expert-parallel rank over the mean, mean over layers.
    pub imbalance: f64,
}

impl Service {
    /// A pass of a replica of pool `pool` over `work`. Experts are those of the mean batch, even
    /// where the service has recorded ones.
    ///
    /// # Panics
    /// Where there is no such pool.
    #[must_use]
    pub fn repeat(&self, pool: usize, work: &Repeated) -> Repeats {
        let of = &self.pools[pool];
        let mut replica = Replica::new(self, of, pool);
        replica.cost.routing.library = None;
        let drafts = self.speculation.draft_tokens;
        let queries = 1 + drafts;
        let (requests, context) = (u64::from(work.requests), u64::from(work.context));
        let (prompts, length) = (u64::from(work.prompts), u64::from(work.prompt_tokens));
        let share = Share {
            batch: AttentionBatch {
                decode: Attended {
                    requests: work.requests,
                    tokens: work.requests * queries,
                    attended: requests * u64::from(queries) * context,
                    cached: requests * context,
                },
                prefill: Attended {
                    requests: work.prompts,
                    tokens: work.prompts * work.prompt_tokens,
                    attended: prompts * length * (length + 1) / 2,
                    cached: prompts * length,
                },
            },
            asked_decode: work.requests * queries,
            asked_prefill: work.prompts,
        };
        let shares = vec![share; usize::from(of.layout.data)];
        let pass = replica.cost.time(&shares);
        let acceptance = self.speculation.acceptance;
        let accepted: f64 = (0..=drafts).map(|draft| acceptance.powi(draft as i32)).sum();
        let of_rank = f64::from(work.requests) * accepted + (prompts * length) as f64;
        Repeats {
            time: pass.stage,
            tokens: of_rank * f64::from(of.layout.data),
            imbalance: pass.imbalance,
        }
    }
}

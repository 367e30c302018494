//! What happened, and what is derived from it.

use moecast_profiles::units::{Nanos, SimTime};
use serde::{Deserialize, Serialize};

use super::foresight::Foreseen;

/// One forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// When it began and ended.
    pub start: SimTime,
    /// See `start`.
    pub end: SimTime,
    /// Tokens, and whether they are of a prompt.
    pub tokens: u32,
    /// See `tokens`.
    pub prefill: bool,
    /// Distinct experts that were asked for and in GPU memory, or on their way there.
    pub hits: u64,
    /// Of these, how many had not arrived yet.
    pub late: u64,
    /// Distinct experts that were asked for and elsewhere.
    pub misses: u64,
    /// Of these, how many the processor computed.
    pub on_processor: u64,
    /// Bytes that were copied to GPU memory because experts were asked for.
    pub demanded: u64,
    /// Time that GPUs waited for experts, the processor or the host.
    pub stall: Nanos,
    /// Time that the host spent on handling experts.
    pub handling: Nanos,
    /// Picks (token, layer, expert) of the recording, and how many a rule removed or replaced.
    pub picks: u64,
    /// See `picks`.
    pub changed: u64,
    /// Picks that got a lower precision.
    pub lowered: u64,
    /// Tokens with at least one pick removed, replaced or lowered.
    pub changed_tokens: u64,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// When it came.
    pub arrival: SimTime,
    /// When its prompt was done.
    pub first: SimTime,
    /// When its last token was generated.
    pub done: SimTime,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens generated after the first.
    pub generated: u32,
}

/// Everything that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// All passes, in order.
    pub passes: Vec<Pass>,
    /// All requests, in order of their end.
    pub requests: Vec<Served>,
    /// `[M]` hits and look-ups.
    pub per_layer: Vec<[u64; 2]>,
    /// Time that each GPU link, the way from storage, the processor and GPUs (mean) were busy.
    pub link_busy: Vec<Nanos>,
    /// See `link_busy`.
    pub storage_busy: Nanos,
    /// See `link_busy`.
    pub processor_busy: Nanos,
    /// See `link_busy`.
    pub gpu_busy: Nanos,
    /// Bytes over all GPU links, and from storage.
    pub link_bytes: u64,
    /// See `link_bytes`.
    pub storage_bytes: u64,
    /// Copies that were wished for; of these those that were used, and that left unused.
    pub wished: u64,
    /// See `wished`.
    pub wishes_used: u64,
    /// See `wished`.
    pub wishes_wasted: u64,
    /// What the prefetcher foresaw, by layers ahead: one layer first.
    pub foreseen: Vec<Foreseen>,
    /// Most bytes of experts in GPU memory, all GPUs together.
    pub expert_bytes_max: u64,
    /// Most tokens of context at a time.
    pub context_max: u64,
}

/// Means, rates and shares of a [`Run`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Simulated seconds.
    pub seconds: f64,
    /// Requests served.
    pub requests: usize,
    /// Seconds from arrival to the first token: mean, median, 90th percentile.
    pub ttft: [f64; 3],
    /// Seconds between further tokens of a request: mean, median, 90th percentile.
    pub tpot: [f64; 3],
    /// Generated tokens a second, from the first arrival to the last token.
    pub tokens_per_second: f64,
    /// Tokens a second while tokens were generated: what engines print.
    pub decode_tokens_per_second: f64,
    /// Prompt tokens a second while prompts were worked on.
    pub prefill_tokens_per_second: f64,
    /// Share of asked-for experts in GPU memory or on their way: all, of prompts, of decode.
    pub hit_rate: f64,
    /// See `hit_rate`.
    pub prefill_hit_rate: Option<f64>,
    /// See `hit_rate`.
    pub decode_hit_rate: Option<f64>,
    /// Share of hits that had not arrived.
    pub late: f64,
    /// Share of the time that GPU links, the processor, storage and GPUs were busy.
    pub link_utilisation: f64,
    /// See `link_utilisation`.
    pub storage_utilisation: f64,
    /// See `link_utilisation`.
    pub processor_utilisation: f64,
    /// See `link_utilisation`.
    pub gpu_utilisation: f64,
    /// Bytes over GPU links a generated token.
    pub bytes_per_token: f64,
    /// Of wished copies, the share that was used.
    pub prefetch_used: Option<f64>,
    /// Of the experts that were wished for one, two, ... layers ahead, the share that routers then
    /// chose.
    pub prefetch_precision: Vec<f64>,
    /// Of the experts that routers chose, the share that had been wished for one, two, ... layers
    /// ahead.
    pub prefetch_recall: Vec<f64>,
    /// Share of tokens whose experts or precision a rule changed.
    pub changed_tokens: f64,
    /// Share of picks that a rule removed or replaced.
    pub changed_picks: f64,
    /// Share of picks that got a lower precision.
    pub lowered_picks: f64,
    /// Most bytes of experts in GPU memory.
    pub expert_bytes_max: u64,
    /// Most tokens of context at a time.
    pub context_max: u64,
}

fn over(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Mean, median and 90th percentile.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    if values.is_empty() {
        return [0.0; 3];
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (share * (values.len() - 1) as f64).round() as usize;
        values[index]
    };
    [values.iter().sum::<f64>() / values.len() as f64, at(0.5), at(0.9)]
}

impl Summary {
    /// Share of look-ups of generated tokens that found their expert; of all look-ups where nothing
    /// was generated.
    #[must_use]
    pub fn usual_hit_rate(&self) -> f64 {
        self.decode_hit_rate.unwrap_or(self.hit_rate)
    }
}

impl Run {
    /// Right wishes over `whole`, by layers ahead.
    fn foresight(&self, whole: fn(&Foreseen) -> u64) -> Vec<f64> {
        self.foreseen.iter().map(|own| over(own.right as f64, whole(own) as f64)).collect()
    }

    /// What is derived from these facts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let seconds = |nanos: u64| nanos as f64 * 1e-9;
        let start = self.requests.iter().map(|served| served.arrival).min().unwrap_or_default();
        let end = self.passes.last().map_or(start, |pass| pass.end);
        let whole = seconds(end.0 - start.0.min(end.0));
        let sum = |pick: &dyn Fn(&Pass) -> u64, which: &dyn Fn(&Pass) -> bool| -> f64 {
            self.passes.iter().filter(|pass| which(pass)).map(pick).sum::<u64>() as f64
        };
        let all = |_: &Pass| true;
        let (prompts, decode) = (|pass: &Pass| pass.prefill, |pass: &Pass| !pass.prefill);
        let took = |pass: &Pass| pass.end.0 - pass.start.0;
        let rate = |which: &dyn Fn(&Pass) -> bool| {
            over(sum(&|pass| pass.tokens.into(), which), sum(&took, which) * 1e-9)
        };
        let hits = |which: &dyn Fn(&Pass) -> bool| {
            let asked = sum(&|pass| pass.hits + pass.misses, which);
            (asked > 0.0).then(|| sum(&|pass| pass.hits, which) / asked)
        };
        let tpot = self.requests.iter().filter(|served| served.generated > 0);
        let tpot = tpot
            .map(|served| seconds(served.done.0 - served.first.0) / f64::from(served.generated));
        let generated = sum(&|pass| pass.tokens.into(), &decode);
        let links = self.link_busy.len().max(1) as f64;
        let busy: f64 = self.link_busy.iter().map(|busy| seconds(busy.0)).sum();
        let tokens = sum(&|pass| pass.tokens.into(), &all);
        let picks = sum(&|pass| pass.picks, &all);
        let changed = |pick: &dyn Fn(&Pass) -> u64, whole: f64| over(sum(pick, &all), whole);
        Summary {
            seconds: whole,
            requests: self.requests.len(),
            ttft: spread(
                self.requests.iter().map(|own| seconds(own.first.0 - own.arrival.0)).collect(),
            ),
            tpot: spread(tpot.collect()),
            tokens_per_second: over(generated, whole),
            decode_tokens_per_second: rate(&decode),
            prefill_tokens_per_second: rate(&prompts),
            hit_rate: hits(&all).unwrap_or(0.0),
            prefill_hit_rate: hits(&prompts),
            decode_hit_rate: hits(&decode),
            late: over(sum(&|pass| pass.late, &all), sum(&|pass| pass.hits, &all)),
            link_utilisation: over(busy / links, whole),
            storage_utilisation: over(seconds(self.storage_busy.0), whole),
            processor_utilisation: over(seconds(self.processor_busy.0), whole),
            gpu_utilisation: over(seconds(self.gpu_busy.0), whole),
            bytes_per_token: over(self.link_bytes as f64, generated),
            prefetch_used: (self.wished > 0).then(|| self.wishes_used as f64 / self.wished as f64),
            prefetch_precision: self.foresight(|own| own.wished),
            prefetch_recall: self.foresight(|own| own.chosen),
            changed_tokens: changed(&|pass| pass.changed_tokens, tokens),
            changed_picks: changed(&|pass| pass.changed, picks),
            lowered_picks: changed(&|pass| pass.lowered, picks),
            expert_bytes_max: self.expert_bytes_max,
            context_max: self.context_max,
        }
    }
}

//! What people ask of a serving run.

use moecast_profiles::units::{Nanos, SimTime};
use serde::{Deserialize, Serialize};

use super::{Distribution, Recorder, seconds};
use crate::record::ratio;

/// What follows from the facts of a [`Recorder`]. Rates are of finished requests over the whole
/// run; a rate without a divisor is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingSummary {
    /// Requests finished.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
    /// Tokens of their prompts that were found in the prefix cache.
    pub cached_tokens: u64,
    /// How often one of them lost its memory and began again.
    pub preemptions: u64,
    /// Forward passes of all replicas.
    pub passes: u64,
    /// From the start of the run to its end.
    pub duration_s: f64,
    /// From arrival to the first token.
    pub ttft_ms: Distribution,
    /// Mean time between the tokens of a request; requests of one token have none.
    pub tpot_ms: Distribution,
    /// Time between two tokens, over all of them.
    pub itl_ms: Distribution,
    /// From arrival to the last token.
    pub end_to_end_ms: Distribution,
    /// From arrival to the first pass that worked on it.
    pub queue_ms: Distribution,
    /// Times above that could not be recorded as they were and count as the nearest that could.
    pub saturated_times: u64,
    /// Tokens of answers.
    pub output_tokens_per_second: f64,
    /// The same by GPU.
    pub output_tokens_per_second_per_gpu: f64,
    /// The same by node, a node in part being a node.
    pub output_tokens_per_second_per_node: f64,
    /// Tokens of prompts and answers.
    pub total_tokens_per_second: f64,
    /// The same by GPU.
    pub total_tokens_per_second_per_gpu: f64,
    /// The same by node.
    pub total_tokens_per_second_per_node: f64,
    /// Requests.
    pub requests_per_second: f64,
    /// Requests that kept the SLO.
    pub goodput_requests_per_second: f64,
    /// Share of the requests that kept it.
    pub goodput_share: f64,
    /// `[replica][rank]` share of the run in which the rank computed.
    pub rank_utilisation: Vec<Vec<f64>>,
    /// `[replica][rank]` share of the run in which the rank was in a pass and did not compute:
    /// it waited for other ranks, for messages or for the host.
    pub rank_waiting_share: Vec<Vec<f64>>,
    /// Share of the KV memory of a replica in use, mean over the time in passes.
    pub kv_use_mean: f64,
    /// The largest share of any pass.
    pub kv_use_max: f64,
    /// Requests that all replicas together work on, mean over the run.
    pub running_mean: f64,
    /// The most that one replica worked on.
    pub running_max: f64,
    /// Requests that wait for a replica that is in a pass, all replicas together, mean over the
    /// run.
    pub waiting_mean: f64,
    /// The most that waited for one replica.
    pub waiting_max: f64,
    /// Max over mean rank load, mean over passes weighted by tokens; 0 without load.
    pub imbalance_mean: f64,
    /// Energy of all GPUs.
    pub energy_j: f64,
    /// The same by token of answers; absent without tokens.
    pub energy_j_per_output_token: Option<f64>,
    /// Mean power of one GPU.
    pub power_w_per_gpu_mean: f64,
    /// What a million tokens of answers cost, in the currency of the price; absent without a
    /// price or tokens.
    pub cost_per_million_output_tokens: Option<f64>,
}

/// By replica, then rank.
fn shares(ranks: usize, times: impl Iterator<Item = Nanos>, duration_s: f64) -> Vec<Vec<f64>> {
    let shares: Vec<f64> = times.map(|time| ratio(seconds(time), duration_s)).collect();
    shares.chunks(ranks).map(<[f64]>::to_vec).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn summary(recorder: &Recorder, end: SimTime) -> ServingSummary {
    let (settings, sums, passes) = (&recorder.settings, &recorder.requests, &recorder.passes);
    let duration_s = seconds(end.since(SimTime(0)));
    let gpus = f64::from(settings.gpus);
    let nodes = f64::from(settings.gpus.div_ceil(settings.gpus_per_node));
    let rate = |count: u64| ratio(count as f64, duration_s);
    let output_rate = rate(sums.output_tokens);
    let total_rate = rate(sums.input_tokens + sums.output_tokens);
    let per_output_token =
        |total: f64| (sums.output_tokens > 0).then(|| total / sums.output_tokens as f64);
    let energy_j = energy_j(recorder, duration_s);
    let ranks = usize::from(settings.ranks_per_replica);
    let busy = &recorder.rank_busy;
    // Parts of passes round up one by one.
    let waited = recorder.rank_passes.iter().zip(busy);
    let waited = waited.map(|(passes, busy)| Nanos(passes.0.saturating_sub(busy.0)));
    let times =
        [&recorder.ttft, &recorder.tpot, &recorder.itl, &recorder.end_to_end, &recorder.queue];
    ServingSummary {
        requests: sums.requests,
        input_tokens: sums.input_tokens,
        output_tokens: sums.output_tokens,
        cached_tokens: sums.cached_tokens,
        preemptions: sums.preemptions,
        passes: passes.passes,
        duration_s,
        ttft_ms: recorder.ttft.distribution(),
        tpot_ms: recorder.tpot.distribution(),
        itl_ms: recorder.itl.distribution(),
        end_to_end_ms: recorder.end_to_end.distribution(),
        queue_ms: recorder.queue.distribution(),
        saturated_times: times.iter().map(|times| times.saturated()).sum(),
        output_tokens_per_second: output_rate,
        output_tokens_per_second_per_gpu: output_rate / gpus,
        output_tokens_per_second_per_node: output_rate / nodes,
        total_tokens_per_second: total_rate,
        total_tokens_per_second_per_gpu: total_rate / gpus,
        total_tokens_per_second_per_node: total_rate / nodes,
        requests_per_second: rate(sums.requests),
        goodput_requests_per_second: rate(sums.good),
        goodput_share: ratio(sums.good as f64, sums.requests as f64),
        rank_utilisation: shares(ranks, busy.iter().copied(), duration_s),
        rank_waiting_share: shares(ranks, waited, duration_s),
        kv_use_mean: ratio(passes.kv_share.integral, passes.time_s),
        kv_use_max: passes.kv_share.max,
        running_mean: ratio(passes.running.integral, duration_s),
        running_max: passes.running.max,
        waiting_mean: ratio(passes.waiting.integral, duration_s),
        waiting_max: passes.waiting.max,
        imbalance_mean: ratio(passes.imbalance, passes.imbalance_tokens),
        energy_j,
        energy_j_per_output_token: per_output_token(energy_j),
        power_w_per_gpu_mean: ratio(energy_j, gpus * duration_s),
        cost_per_million_output_tokens: settings
            .price_per_gpu_hour
            .and_then(|price| per_output_token(price * gpus * duration_s / 3_600.0 * 1e6)),
    }
}

/// Energy of all GPUs; those of one rank are busy together.
#[expect(clippy::cast_precision_loss, reason = "a number of ranks is small")]
fn energy_j(recorder: &Recorder, duration_s: f64) -> f64 {
    let (busy, gpus) = (&recorder.rank_busy, f64::from(recorder.settings.gpus));
    let busy_s: f64 = busy.iter().map(|busy| seconds(*busy)).sum();
    let gpus_per_rank = gpus / busy.len() as f64;
    recorder.settings.power.energy_j(gpus * duration_s, gpus_per_rank * busy_s)
}

//! Whether a service holds its limits under a load, and what gives way where it does not.

use moecast_profiles::units::{Nanos, SimTime};
use moecast_sim::serving::record::{PassRecord, Recorder, RequestRecord, ServingSummary, Slo};
use moecast_sim::serving::{self, Observer, Service};
use serde::Serialize;

/// A KV cache that is fuller than this is full: blocks are kept free for what comes next.
const KV_FULL: f64 = 0.95;
/// Reasons that a figure of the verdict shows.
pub(super) const KV_IS_FULL: &str = "the KV cache is full";
pub(super) const REQUESTS_QUEUE: &str = "requests queue";
/// Parts of the time of arrivals whose queues are told apart.
const PARTS: usize = 4;

/// Limits, and the share of the requests that must keep them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) slo: Slo,
    pub(super) goodput: f64,
}

/// What became of the requests of one load on so many replicas.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    /// Replicas of every pool.
    pub(super) replicas: Vec<u16>,
    pub(super) gpus: u32,
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) holds: bool,
    /// Share of the requests that kept all limits.
    pub(super) goodput: f64,
    /// Shares that did not keep one.
    pub(super) missed: Missed,
    pub(super) ttft_ms_p99: f64,
    pub(super) tpot_ms_p99: f64,
    pub(super) end_to_end_ms_p99: f64,
    pub(super) end_to_end_ms_mean: f64,
    /// From reaching the scheduler to the first pass.
    pub(super) wait_ms_mean: f64,
    /// Mean wait of requests of the last quarter of the time of arrivals, over the second's.
    pub(super) queue_growth_ms: f64,
    /// The same by second between them: a service that keeps up has none.
    pub(super) queue_growth_ms_per_second: f64,
    /// Largest share of the KV cache of a replica in use.
    pub(super) kv_use_max: f64,
    pub(super) preemptions: u64,
    pub(super) requests: u64,
    /// From the first arrival to the last.
    pub(super) arrivals_s: f64,
    pub(super) output_tokens_per_request: f64,
    /// What gives way first, where it does not hold.
    pub(super) breaks_first: Option<Break>,
}

/// Shares of the requests that took longer than a limit; absent where there is none.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Missed {
    pub(super) ttft: Option<f64>,
    pub(super) tpot: Option<f64>,
    pub(super) end_to_end: Option<f64>,
}

/// The limit that most requests missed, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Break {
    pub(super) limit: &'static str,
    pub(super) because: &'static str,
    /// Share of the requests that missed it.
    pub(super) missed: f64,
}

/// Whether `service` keeps `target`; stops as soon as that is certain.
pub(super) fn holds(service: &Service, target: Target) -> bool {
    let requests = service.requests();
    let allowed = allowed(requests, target.goodput);
    let mut probe = Probe { slo: target.slo, good: 0, bad: 0, requests, allowed };
    let served = serving::run(service, &mut probe, &mut |_| ());
    // Whom faults left without an answer missed every limit.
    let failed = if served.stopped_early { 0 } else { served.lost + served.unserved };
    probe.bad + failed <= allowed
}

/// Requests that may miss a limit: a goodput of 99% of 100 requests allows one.
fn allowed(requests: u64, goodput: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "requests stay far below 2^53"
    )]
    let allowed = (requests as f64 * (1.0 - goodput) + 1e-9).floor() as u64;
    allowed.min(requests)
}

/// Counts requests until it is certain how many keep the limits.
struct Probe {
    slo: Slo,
    good: u64,
    bad: u64,
    requests: u64,
    allowed: u64,
}

impl Observer for Probe {
    fn request(&mut self, record: &RequestRecord) {
        let is_good = self.slo.is_met(record);
        self.good += u64::from(is_good);
        self.bad += u64::from(!is_good);
    }

    fn pass(&mut self, _: &PassRecord<'_>) {}

    fn token_gaps(&mut self, _: Nanos, _: u32) {}

    fn enough(&self) -> bool {
        self.bad > self.allowed || self.good + self.allowed >= self.requests
    }
}

/// Everything that is asked of a service under its load.
pub(super) struct Question<'a> {
    pub(super) service: &'a Service,
    pub(super) replicas: &'a [u16],
    pub(super) rate: f64,
    /// From the first arrival to the last.
    pub(super) arrivals: Nanos,
    pub(super) target: Target,
}

/// Serves all requests and looks at every one.
pub(super) fn judge(question: &Question<'_>, recorder: Recorder) -> Verdict {
    let Question { service, target, .. } = question;
    let mut watch = Watch {
        recorder,
        slo: target.slo,
        missed: [0; 3],
        queues: [(0.0, 0); PARTS],
        arrivals: question.arrivals,
    };
    let served = serving::run(service, &mut watch, &mut |_| ());
    let summary = watch.recorder.summary(served.end);
    verdict(question, &watch, &summary, served.lost + served.unserved)
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a run are exact as floats")]
fn verdict(
    question: &Question<'_>,
    watch: &Watch,
    summary: &ServingSummary,
    failed: u64,
) -> Verdict {
    let slo = question.target.slo;
    let all = summary.requests.max(1) as f64;
    let share = |limit: Option<Nanos>, count: u64| limit.map(|_| count as f64 / all);
    let missed = Missed {
        ttft: share(slo.ttft, watch.missed[0]),
        tpot: share(slo.tpot, watch.missed[1]),
        end_to_end: share(slo.end_to_end, watch.missed[2]),
    };
    let mean = |part: usize| match watch.queues[part] {
        (_, 0) => 0.0,
        (sum, count) => sum / count as f64,
    };
    let growth = mean(PARTS - 1) - mean(1);
    let waited: f64 = watch.queues.iter().map(|(sum, _)| sum).sum();
    let replicas: u32 = question.replicas.iter().copied().map(u32::from).sum();
    let is_idle = summary.running_mean < f64::from(replicas.max(1));
    let wait = Wait { mean_ms: waited / all, is_idle };
    let arrivals_s = question.arrivals.0 as f64 / 1e9;
    // Whom faults left without an answer missed every limit.
    let good = (summary.goodput_share * all).round() as u64;
    let sent = summary.requests + failed;
    let holds = sent - good <= allowed(sent, question.target.goodput);
    let goodput = match failed {
        0 => summary.goodput_share,
        _ => good as f64 / sent as f64,
    };
    Verdict {
        replicas: question.replicas.to_vec(),
        gpus: question.service.gpus(),
        rate: question.rate,
        holds,
        goodput,
        missed,
        ttft_ms_p99: summary.ttft_ms.p99,
        tpot_ms_p99: summary.tpot_ms.p99,
        end_to_end_ms_p99: summary.end_to_end_ms.p99,
        end_to_end_ms_mean: summary.end_to_end_ms.mean,
        wait_ms_mean: wait.mean_ms,
        queue_growth_ms: growth,
        queue_growth_ms_per_second: if arrivals_s > 0.0 { growth / arrivals_s * 2.0 } else { 0.0 },
        kv_use_max: summary.kv_use_max,
        preemptions: summary.preemptions,
        requests: summary.requests,
        arrivals_s,
        output_tokens_per_request: summary.output_tokens as f64 / all,
        breaks_first: if holds { None } else { breaks(missed, summary, wait) },
    }
}

/// How long requests waited, and whether a replica worked on less than one at a time.
#[derive(Clone, Copy)]
struct Wait {
    mean_ms: f64,
    is_idle: bool,
}

/// The limit that most requests missed, and the likeliest reason.
fn breaks(missed: Missed, summary: &ServingSummary, wait: Wait) -> Option<Break> {
    let limits = [
        ("TTFT", missed.ttft, summary.ttft_ms.mean),
        ("TPOT", missed.tpot, summary.tpot_ms.mean),
        ("end to end", missed.end_to_end, summary.end_to_end_ms.mean),
    ];
    let missed = limits.into_iter().filter_map(|(limit, share, mean)| Some((limit, share?, mean)));
    // Of equals the first.
    let (limit, missed, mean) = missed.rev().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let is_full = summary.preemptions > 0
        || (summary.kv_use_max > KV_FULL && summary.waiting_mean > summary.running_mean * 0.01);
    let waits = limit != "TPOT" && wait.mean_ms > mean / 2.0;
    let because = match (limit, is_full, waits) {
        (_, true, _) => KV_IS_FULL,
        (_, _, true) => REQUESTS_QUEUE,
        _ if wait.is_idle && missed > 0.5 => "an idle replica is too slow",
        ("TTFT", ..) => "prompts take too long",
        _ => "passes take too long",
    };
    Some(Break { limit, because, missed })
}

/// A recorder that also counts what missed which limit, and waits over time.
struct Watch {
    recorder: Recorder,
    slo: Slo,
    missed: [u64; 3],
    /// Sum of milliseconds and number, by the part of the time of arrivals.
    queues: [(f64, u64); PARTS],
    arrivals: Nanos,
}

impl Observer for Watch {
    fn request(&mut self, record: &RequestRecord) {
        self.recorder.request(record);
        let alone = [
            Slo { ttft: self.slo.ttft, ..Slo::default() },
            Slo { tpot: self.slo.tpot, ..Slo::default() },
            Slo { end_to_end: self.slo.end_to_end, ..Slo::default() },
        ];
        for (count, slo) in self.missed.iter_mut().zip(alone) {
            *count += u64::from(!slo.is_met(record));
        }
        let (at, all) = (record.arrival.since(SimTime(0)).0, self.arrivals.0.max(1));
        let part = usize::try_from(u128::from(at) * PARTS as u128 / u128::from(all));
        let part = part.unwrap_or(PARTS).min(PARTS - 1);
        self.queues[part].0 += record.started.since(record.reached).as_micros() / 1e3;
        self.queues[part].1 += 1;
    }

    fn pass(&mut self, pass: &PassRecord<'_>) {
        self.recorder.pass(pass);
    }

    fn token_gaps(&mut self, gap: Nanos, count: u32) {
        self.recorder.token_gaps(gap, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_may_miss() {
        assert_eq!(allowed(100, 0.99), 1);
        assert_eq!(allowed(99, 0.99), 0);
        assert_eq!(allowed(1000, 0.9), 100);
        assert_eq!([allowed(7, 1.0), allowed(7, 0.0)], [0, 7]);
    }

    #[test]
    fn the_limit_that_most_missed_breaks_first() {
        let missed = |ttft, tpot| Missed { ttft: Some(ttft), tpot: Some(tpot), end_to_end: None };
        let mut summary = ServingSummary::default();
        summary.ttft_ms.mean = 100.0;
        let mut wait = Wait { mean_ms: 90.0, is_idle: false };
        let limit = |missed, summary: &ServingSummary, wait| {
            let found = breaks(missed, summary, wait).unwrap();
            (found.limit, found.because)
        };
        assert_eq!(limit(missed(0.5, 0.2), &summary, wait), ("TTFT", "requests queue"));
        assert_eq!(limit(missed(0.5, 0.5), &summary, wait), ("TTFT", "requests queue"));
        assert_eq!(limit(missed(0.1, 0.2), &summary, wait), ("TPOT", "passes take too long"));
        wait.mean_ms = 1.0;
        assert_eq!(limit(missed(0.5, 0.2), &summary, wait), ("TTFT", "prompts take too long"));
        wait.is_idle = true;
        let idle = ("TTFT", "an idle replica is too slow");
        assert_eq!(limit(missed(1.0, 0.2), &summary, wait), idle);
        assert_eq!(limit(missed(0.5, 0.2), &summary, wait), ("TTFT", "prompts take too long"));
        summary.preemptions = 1;
        assert_eq!(limit(missed(0.1, 0.2), &summary, wait), ("TPOT", "the KV cache is full"));
    }
}

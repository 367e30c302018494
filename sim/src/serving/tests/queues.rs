//! Degenerate services are the queues of the textbooks: one request at a time, Poisson arrivals,
//! prompts whose time is proportional to their length, answers of one token.

use moecast_traces::requests::generators::{self, Length, Lengths};
use rand::RngExt;

use super::*;
use crate::serving::power::PowerModel;
use crate::serving::record::{Recorder, RecorderSettings, ServingSummary, Slo};

/// Tokens of a prompt, mean; 1 us each.
const TOKENS: u32 = 10_000;
const SERVICE_S: f64 = 0.01;
const REQUESTS: u32 = 60_000;

/// Arrivals of the repository's own generator at `utilisation`.
fn arrivals(utilisation: f64, seed: u64) -> RequestTrace {
    let rate = utilisation / SERVICE_S;
    let settings = settings(&[("rate", rate), ("requests", f64::from(REQUESTS))]);
    let (input, output) = (Length::Fixed { tokens: TOKENS }, Length::Fixed { tokens: 1 });
    let lengths = Lengths::Drawn { input, output };
    match generators::generate("poisson", &settings, lengths, Seed(seed)).unwrap() {
        Load::Open(trace) => trace,
        Load::Closed(_) => unreachable!("Poisson arrivals wait for nobody"),
    }
}

/// The same arrivals with lengths that are exponential but for rounding.
fn exponential(trace: &RequestTrace, seed: u64) -> RequestTrace {
    let mut bits = Seed(seed).stream("tests/exponential");
    let requests: Vec<(u64, u32, u32)> = trace
        .iter()
        .map(|one| {
            let drawn = -f64::from(TOKENS) * (1.0 - bits.random::<f64>()).ln();
            (one.arrival.0, drawn.round().max(1.0) as u32, 1)
        })
        .collect();
    super::trace(requests.into_iter().map(|one| (one, &[][..])))
}

fn served(trace: RequestTrace) -> ServingSummary {
    let mut case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 1, 1)]);
    case.clock = Clock { pass: 0, prompt: 1_000, answer: 0 };
    case.limits.sequences_max = Some(1);
    case.limits.step_tokens_max = Some(u32::MAX);
    case.limits.kv_tokens = Some(1 << 30);
    case.load = Load::Open(trace);
    let mut recorder = Recorder::new(RecorderSettings {
        gpus: 1,
        gpus_per_node: 1,
        replicas: 1,
        ranks_per_replica: 1,
        slo: Slo::default(),
        power: PowerModel::of(&device()),
        price_per_gpu_hour: None,
        timeline_points_max: 0,
    })
    .unwrap();
    let served = run(&case.service(), &mut recorder, &mut |_| ());
    recorder.summary(served.end)
}

/// The waiting time that theory knows lies within the interval that the run states, and the
/// interval is narrow enough to mean something.
fn agrees(summary: &ServingSummary, utilisation: f64, waiting_ms: f64) {
    let (found, half) = (summary.queue_ms.mean, summary.queue_ms.mean_ci95.unwrap());
    assert!(half < 0.12 * waiting_ms, "{found} +/- {half} ms for {waiting_ms}");
    assert!((found - waiting_ms).abs() <= half, "{found} +/- {half} ms for {waiting_ms}");
    // One server is busy for the share of the time that theory says.
    let busy = summary.rank_utilisation[0][0];
    assert!((busy - utilisation).abs() < 0.02, "busy for {busy} of the time, of {utilisation}");
    // Little: as many in the system as arrive in the time that each is there.
    let there = summary.requests_per_second * summary.end_to_end_ms.mean / 1e3;
    let expected = utilisation * (1.0 + waiting_ms / (SERVICE_S * 1e3));
    assert!((there - expected).abs() < 0.12 * expected, "{there} in the system, of {expected}");
}

/// M/D/1: a request waits for half of rho / (1 - rho) services (Pollaczek and Khinchine).
#[test]
fn constant_services_wait_as_in_m_d_1() {
    for utilisation in [0.5, 0.8] {
        let expected = SERVICE_S * 1e3 * utilisation / (1.0 - utilisation) / 2.0;
        agrees(&served(arrivals(utilisation, 11)), utilisation, expected);
    }
}

/// M/M/1: a request waits for rho / (1 - rho) services.
#[test]
fn exponential_services_wait_as_in_m_m_1() {
    for utilisation in [0.5, 0.8] {
        let expected = SERVICE_S * 1e3 * utilisation / (1.0 - utilisation);
        let trace = exponential(&arrivals(utilisation, 12), 12);
        agrees(&served(trace), utilisation, expected);
    }
}

use moecast_profiles::units::Watts;
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn settings() -> RecorderSettings {
    RecorderSettings {
        gpus: 4,
        gpus_per_node: 2,
        replicas: 2,
        ranks_per_replica: 2,
        slo: Slo { ttft: Some(Nanos(150 * MS)), tpot: Some(Nanos(10 * MS)), end_to_end: None },
        power: PowerModel { idle: Watts(100), max: Watts(600) },
        price_per_gpu_hour: Some(3.6),
        timeline_points_max: 4,
    }
}

fn request(id: u64, times_ms: [u64; 4], output_tokens: u32) -> RequestRecord {
    let [arrival, started, first_token, finished] = times_ms.map(|ms| SimTime(ms * MS));
    RequestRecord {
        id,
        replica: 0,
        arrival,
        reached: arrival,
        started,
        first_token,
        finished,
        input_tokens: 100,
        output_tokens,
        cached_tokens: 10,
        preemptions: 1,
        retries: 0,
    }
}

fn pass(replica: u16, start_s: u64, busy: &[Nanos; 2]) -> PassRecord<'_> {
    PassRecord {
        replica,
        start: SimTime(start_s * SECOND),
        time: Nanos(SECOND),
        prefill_tokens: 30,
        decode_tokens: 10,
        running: 10,
        waiting: 4,
        kv_blocks_used: 50,
        kv_blocks: 100,
        imbalance: 1.5,
        rank_busy: busy,
        parts: PassParts::default(),
    }
}

fn near(found: f64, exact: f64) {
    assert!((found - exact).abs() <= 1e-3 * exact.abs(), "{found} for {exact}");
}

#[test]
fn two_requests_are_solved_by_hand() {
    let mut recorder = Recorder::new(settings()).unwrap();
    // Queues 20 ms, first token after 100 ms, 20 tokens more in 180 ms: 9 ms each. Good.
    recorder.request(&request(0, [1_000, 1_020, 1_100, 1_280], 21));
    // First token after 200 ms: too late. One token has no time between tokens.
    recorder.request(&request(1, [2_000, 2_000, 2_200, 2_200], 1));
    recorder.token_gaps(Nanos(9 * MS), 20);
    let found = recorder.summary(SimTime(10 * SECOND));
    assert_eq!((found.requests, found.input_tokens, found.output_tokens), (2, 200, 22));
    assert_eq!((found.cached_tokens, found.preemptions, found.duration_s), (20, 2, 10.0));
    assert_eq!((found.ttft_ms.mean, found.ttft_ms.max), (150.0, 200.0));
    near(found.ttft_ms.p50, 100.0);
    assert_eq!((found.tpot_ms.count, found.tpot_ms.mean), (1, 9.0));
    assert_eq!((found.itl_ms.count, found.itl_ms.max), (20, 9.0));
    assert_eq!((found.end_to_end_ms.mean, found.queue_ms.mean), (240.0, 10.0));
    assert_eq!((found.goodput_share, found.goodput_requests_per_second), (0.5, 0.1));
    near(found.output_tokens_per_second, 2.2);
    near(found.output_tokens_per_second_per_gpu, 0.55);
    near(found.total_tokens_per_second_per_node, 11.1);
    near(found.requests_per_second, 0.2);
    // 4 GPUs for 10 s at 3.6 an hour are 0.04; 22 tokens.
    near(found.cost_per_million_output_tokens.unwrap(), 0.04 / 22.0 * 1e6);
    // Idle throughout.
    near(found.energy_j, 4_000.0);
    near(found.energy_j_per_output_token.unwrap(), 4_000.0 / 22.0);
    near(found.power_w_per_gpu_mean, 100.0);
}

#[test]
fn two_passes_are_solved_by_hand() {
    let mut recorder = Recorder::new(settings()).unwrap();
    recorder.pass(&pass(0, 0, &[Nanos(SECOND), Nanos(SECOND / 2)]));
    let empty = PassRecord {
        running: 0,
        kv_blocks_used: 0,
        imbalance: 0.0,
        ..pass(1, 1, &[Nanos(0), Nanos(2 * SECOND)])
    };
    recorder.pass(&empty);
    let found = recorder.summary(SimTime(4 * SECOND));
    // A rank that is busy for longer than its pass is busy throughout.
    assert_eq!(found.rank_utilisation, [[0.25, 0.125], [0.0, 0.25]]);
    assert_eq!(found.rank_waiting_share, [[0.0, 0.125], [0.25, 0.0]]);
    assert_eq!((found.passes, found.kv_use_mean, found.kv_use_max), (2, 0.25, 0.5));
    assert_eq!((found.running_mean, found.running_max), (2.5, 10.0));
    assert_eq!((found.waiting_mean, found.waiting_max), (2.0, 4.0));
    assert_eq!(found.imbalance_mean, 1.5);
    // 16 GPU seconds at 100 W, and 2.5 s of them 0.7 of 500 W more.
    near(found.energy_j, 1_600.0 + 875.0);
    assert_eq!(
        (found.energy_j_per_output_token, found.cost_per_million_output_tokens),
        (None, None)
    );
}

#[test]
fn nothing_is_all_zero_and_no_time_divides_nothing() {
    let recorder = Recorder::new(RecorderSettings { replicas: 1, ..settings() }).unwrap();
    let found = recorder.summary(SimTime(0));
    let zeros = vec![vec![0.0; 2]];
    let expected = ServingSummary {
        rank_utilisation: zeros.clone(),
        rank_waiting_share: zeros,
        ..ServingSummary::default()
    };
    assert_eq!(found, expected);
    assert!(!serde_json::to_string(&found).unwrap().contains("NaN"));
    assert!(recorder.timeline().is_empty());
}

#[test]
fn an_slo_asks_only_for_what_it_states() {
    let record = request(0, [0, 0, 200, 1_200], 11);
    let limit = |ms: u64| Some(Nanos(ms * MS));
    assert!(Slo::default().is_met(&record));
    assert!(Slo { ttft: limit(200), tpot: limit(100), end_to_end: limit(1_200) }.is_met(&record));
    assert!(!Slo { ttft: limit(199), ..Slo::default() }.is_met(&record));
    assert!(!Slo { tpot: limit(99), ..Slo::default() }.is_met(&record));
    assert!(!Slo { end_to_end: limit(1_199), ..Slo::default() }.is_met(&record));
}

#[test]
fn wrong_settings_are_answered_in_one_line() {
    let answer = |settings| Recorder::new(settings).unwrap_err().to_string();
    let found = answer(RecorderSettings { gpus: 0, ..settings() });
    assert_eq!(found, "scenario: gpus: 0; expected at least 1");
    let found = answer(RecorderSettings { price_per_gpu_hour: Some(f64::NAN), ..settings() });
    assert_eq!(found, "scenario: price_per_gpu_hour: NaN; expected a price, 0 or more");
}

#[test]
#[should_panic(expected = "time ran back")]
fn a_first_token_before_its_request_is_a_broken_invariant() {
    Recorder::new(settings()).unwrap().request(&request(0, [2, 2, 1, 3], 1));
}

#[test]
fn a_full_timeline_joins_neighbours() {
    let mut recorder = Recorder::new(settings()).unwrap();
    for start in 0..6 {
        let running = u32::try_from(start).unwrap();
        recorder.pass(&PassRecord { running, ..pass(0, start, &[Nanos(SECOND); 2]) });
    }
    // Four passes fill it; the fifth makes two pairs of them and begins a third with the sixth.
    let points = recorder.timeline();
    let found: Vec<(f64, f64)> = points.iter().map(|point| (point.time_s, point.running)).collect();
    assert_eq!(found, [(0.0, 0.5), (2.0, 2.5), (4.0, 4.5)]);
    for point in points {
        assert_eq!((point.waiting, point.kv_share, point.imbalance), (4.0, 0.5, 1.5));
        assert_eq!(point.tokens_per_second, 40.0);
    }
}

proptest! {
    #[test]
    fn a_summary_reads_back_what_it_wrote(
        times in proptest::collection::vec(
            (0_u64..1_000, 0_u64..1_000, 0_u64..1_000, 1_u32..99), 0..99
        )
    ) {
        let mut recorder = Recorder::new(settings()).unwrap();
        for (id, (wait, prefill, decode, tokens)) in (0..).zip(times) {
            let ends = [id, id + wait, id + wait + prefill, id + wait + prefill + decode];
            recorder.request(&request(id, ends, tokens));
        }
        let written = recorder.summary(SimTime(5 * SECOND));
        let text = serde_json::to_string(&written).unwrap();
        prop_assert_eq!(serde_json::from_str::<ServingSummary>(&text).unwrap(), written);
        let unknown = text.replacen("requests", "requests_total", 1);
        let refused = serde_json::from_str::<ServingSummary>(&unknown).is_err();
        prop_assert!(refused, "read {}", unknown);
    }

    /// However many points there may be, they are never more, and tokens are conserved.
    #[test]
    fn a_timeline_keeps_its_bound_and_its_tokens(points_max in 1_usize..9, passes in 0_u64..99) {
        let mut recorder =
            Recorder::new(RecorderSettings { timeline_points_max: points_max, ..settings() })
                .unwrap();
        for start in 0..passes {
            recorder.pass(&pass(1, start, &[Nanos(0); 2]));
        }
        let points = recorder.timeline();
        prop_assert!(points.len() <= points_max, "{} points", points.len());
        prop_assert!(passes == 0 || 2 * points.len() >= points_max.min(passes as usize));
        let starts = points.iter().skip(1).map(|next| next.time_s).chain([passes as f64]);
        let tokens: f64 = points
            .iter()
            .zip(starts)
            .map(|(point, until)| point.tokens_per_second * (until - point.time_s))
            .sum();
        prop_assert!((tokens - 40.0 * passes as f64).abs() < 1e-6, "{tokens}");
    }
}

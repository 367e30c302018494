use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::engine;

fn run(isl: u32, concurrency: u32) -> MeasuredRun {
    let text = format!(
        "model,gpu,tp,ep,isl,osl,concurrency,backend,version,ttft_ms,tpot_ms\n\
         toy,h200-sxm,8,1,{isl},1024,{concurrency},vllm,0.18.0,1,1\n"
    );
    read_runs(text.as_bytes(), "toy").unwrap().remove(0)
}

fn millis(time: Nanos) -> f64 {
    time.0 as f64 / 1e6
}

/// A deployment that can be solved by hand: decoding takes kernels and the host's time, with
/// prompts of others in between; the first token takes the offset and a prompt, with some queueing.
#[expect(clippy::unnecessary_wraps, reason = "what a predictor is")]
fn toy(run: &MeasuredRun, factors: &Factors) -> Option<Predicted> {
    let (isl, clients) = (f64::from(run.isl), f64::from(run.concurrency));
    let decode = 6.0 + 0.12 * clients + 2e-5 * isl * clients;
    let prompt = 0.02 * isl * factors.prefill_factor;
    let share = clients * prompt / f64::from(run.osl);
    let host = millis(factors.host_time);
    Some(Predicted {
        tpot_ms: decode * factors.decode_factor + host + share,
        ttft_ms: millis(factors.ttft_offset) + host + prompt * (1.0 + 0.05 * clients),
    })
}

fn defaults(_: &MeasuredRun) -> Factors {
    Factors {
        decode_factor: 1.0,
        prefill_factor: 1.0,
        host_time: Nanos(720_000),
        ttft_offset: Nanos(26_000_000),
    }
}

fn truth(decode_factor: f64, prefill_factor: f64, host_ms: f64, offset_ms: f64) -> Factors {
    let nanos = |millis: f64| Nanos::ceil_from(millis * 1e6);
    let (host_time, ttft_offset) = (nanos(host_ms), nanos(offset_ms));
    Factors { decode_factor, prefill_factor, host_time, ttft_offset }
}

/// Runs of a deployment whose factors are `truth`.
fn measured(truth: &Factors, settings: &[(u32, u32)]) -> Vec<MeasuredRun> {
    let one = |&(isl, concurrency): &(u32, u32)| {
        let mut run = run(isl, concurrency);
        let predicted = toy(&run, truth).unwrap();
        (run.ttft_ms, run.tpot_ms) = (predicted.ttft_ms, predicted.tpot_ms);
        run.id = format!("{isl}x{concurrency}");
        run
    };
    settings.iter().map(one).collect()
}

const FIVE: [(u32, u32); 5] = [(1024, 4), (1024, 16), (1024, 64), (8192, 4), (8192, 16)];

fn tuned(runs: &[MeasuredRun]) -> Tuned {
    tune(runs, &toy, &defaults, Options::default())
}

fn factors(runs: &[MeasuredRun]) -> Factors {
    tuned(runs).calibration.records()[0].factors
}

#[test]
fn no_runs_give_no_record() {
    assert_eq!(tuned(&[]), Tuned::default());
}

#[test]
fn known_factors_are_found_again_from_five_runs() {
    let cases = [
        truth(0.85, 1.0, 0.5, 60.0),
        truth(1.06, 1.8, 1.3, 12.0),
        truth(0.9, 1.2, 4.1, 67.0),
        truth(1.0, 1.0, 0.72, 26.0),
        truth(0.8, 0.7, 6.2, 150.0),
    ];
    for truth in cases {
        let found = factors(&measured(&truth, &FIVE));
        for (found, expected) in found.numbers().iter().zip(truth.numbers()) {
            let (found_ms, expected_ms) = (found / 1e6, expected / 1e6);
            let share = found / expected - 1.0;
            assert!(share.abs() < 0.03, "{truth:?}: {found} ({found_ms}) {expected_ms}");
        }
    }
}

#[test]
fn one_run_stays_near_the_defaults_and_five_do_not() {
    let truth = truth(0.8, 1.8, 4.1, 67.0);
    let runs = measured(&truth, &FIVE);
    let (one, five) = (factors(&runs[..1]), factors(&runs));
    assert!((one.decode_factor - 1.0).abs() < 0.07, "{one:?}");
    assert!((one.prefill_factor - 1.0).abs() < 0.2, "{one:?}");
    assert!((five.decode_factor - 0.8).abs() < 0.03, "{five:?}");
    assert!((five.prefill_factor - 1.8).abs() < 0.06, "{five:?}");
}

/// Where every run says the same, more runs pull further from the defaults, never back.
#[test]
fn shrinkage_falls_with_the_number_of_points() {
    let same = |run: &MeasuredRun, factors: &Factors| {
        let mut like = run.clone();
        (like.isl, like.concurrency) = (1024, 16);
        toy(&like, factors)
    };
    let truth = truth(0.8, 1.5, 2.0, 60.0);
    let mut before = 0.0;
    for count in 1..=12 {
        let settings: Vec<(u32, u32)> = (1..=count).map(|clients| (512, clients)).collect();
        let mut runs = measured(&truth, &settings);
        let said = same(&runs[0], &truth).unwrap();
        for run in &mut runs {
            (run.ttft_ms, run.tpot_ms) = (said.ttft_ms, said.tpot_ms);
        }
        let found = tune(&runs, &same, &defaults, Options::default());
        let factors = found.calibration.records()[0].factors;
        let answer = same(&runs[0], &factors).unwrap();
        let asked = same(&runs[0], &defaults(&runs[0])).unwrap();
        let way = (answer.tpot_ms - asked.tpot_ms) / (said.tpot_ms - asked.tpot_ms);
        assert!(way >= before - 1e-3 && way <= 1.001, "{count} runs: {way} after {before}");
        before = way;
    }
    assert!(before > 0.97, "{before}");
}

#[test]
fn repeats_of_a_setting_are_one_point() {
    let runs = measured(&truth(0.85, 1.3, 1.0, 40.0), &FIVE[..2]);
    let repeated: Vec<MeasuredRun> = runs.iter().flat_map(|run| vec![run.clone(); 7]).collect();
    let (once, often) = (tuned(&runs), tuned(&repeated));
    assert_eq!(often.calibration.records()[0].points, 2);
    assert_eq!(often.groups[0].runs, 14);
    let pairs = once.calibration.records()[0].factors.numbers();
    for (once, often) in pairs.iter().zip(often.calibration.records()[0].factors.numbers()) {
        assert!((once / often - 1.0).abs() < 1e-6, "{once} {often}");
    }
}

#[test]
fn a_wild_run_does_not_bend_the_record() {
    let truth = truth(0.9, 1.2, 1.0, 40.0);
    let settings: Vec<(u32, u32)> = [1024, 2048, 8192]
        .iter()
        .flat_map(|isl| [4, 16, 64].map(|clients| (*isl, clients)))
        .collect();
    let mut runs = measured(&truth, &settings);
    // As if speculative decoding had been on.
    runs[4].tpot_ms /= 1.6;
    let found = factors(&runs);
    assert!((found.decode_factor / 0.9 - 1.0).abs() < 0.03, "{found:?}");
    assert!((found.prefill_factor / 1.2 - 1.0).abs() < 0.03, "{found:?}");
}

#[test]
fn what_cannot_be_predicted_is_left_out_and_said() {
    let mut runs = measured(&truth(0.9, 1.0, 1.0, 30.0), &FIVE);
    runs[0].ttft_ms = f64::NAN;
    let picky = |run: &MeasuredRun, factors: &Factors| {
        (run.concurrency != 64).then(|| toy(run, factors)).flatten()
    };
    let found = tune(&runs, &picky, &defaults, Options::default());
    assert_eq!(found.calibration.records()[0].points, 3);
    let left_out: Vec<&str> = found.left_out.iter().map(|run| run.id.as_str()).collect();
    assert_eq!(left_out, ["1024x4", "1024x64"]);
    assert!(found.left_out[1].reason.starts_with("no prediction"));
    let none = tune(&runs, &|_, _| None, &defaults, Options::default());
    assert!(none.calibration.records().is_empty());
    assert_eq!(none.left_out.len(), 5);
}

#[test]
fn a_deployment_is_its_engine_version_kernels_gpu_and_model() {
    let mut runs = measured(&truth(0.9, 1.0, 1.0, 30.0), &FIVE);
    runs[0].version = "0.16.0".to_owned();
    runs[1].model = "other".to_owned();
    runs[2].gpu = "h100-sxm".to_owned();
    runs[3].kernel_source = "mine".to_owned();
    let found = tuned(&runs);
    assert_eq!(found.calibration.records().len(), 5);
    let keys: Vec<&Key> = found.groups.iter().map(|group| &group.key).collect();
    let records: Vec<&Key> = found.calibration.records().iter().map(|record| &record.key).collect();
    assert_eq!(keys, records);
    assert!(keys.is_sorted());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn laws_of_tuning(
        decode in 0.6_f64..1.5,
        prefill in 0.5_f64..2.5,
        host in 0.1_f64..8.0,
        offset in 2.0_f64..300.0,
        noise in prop::collection::vec(-0.2_f64..0.2, 16),
        count in 1_usize..8,
        turn in 0_usize..8,
    ) {
        let settings = [
            (1024, 4), (8192, 32), (1024, 64), (4096, 8), (1024, 16), (8192, 4), (2048, 128),
        ];
        let mut runs = measured(&truth(decode, prefill, host, offset), &settings[..count]);
        for (run, noise) in runs.iter_mut().zip(noise.chunks(2)) {
            run.ttft_ms *= noise[0].exp();
            run.tpot_ms *= (noise[1] / 4.0).exp();
        }
        let asked = AtomicU64::new(0);
        let counted = |run: &MeasuredRun, factors: &Factors| {
            asked.fetch_add(1, Ordering::Relaxed);
            toy(run, factors)
        };
        let found = tune(&runs, &counted, &defaults, Options { parallel: false });
        let group = &found.groups[0];
        // The record is not worse than the defaults, and cheap.
        prop_assert!(group.loss_after <= group.loss_before);
        prop_assert_eq!(group.predictions, asked.into_inner());
        prop_assert!(group.predictions < 25 * count as u64);
        // Neither the order of runs nor the number of threads changes anything.
        runs.rotate_left(turn % count);
        prop_assert_eq!(&tuned(&runs), &found);
        // What is written is read.
        let text = found.calibration.write();
        prop_assert_eq!(Calibration::read(&text, "x").unwrap(), found.calibration);
    }

    /// Any truth within reach is predicted again within a few percent, noise aside.
    #[test]
    fn five_runs_reproduce_their_times(
        decode in 0.7_f64..1.3,
        prefill in 0.7_f64..2.0,
        host in 0.3_f64..6.0,
        offset in 8.0_f64..120.0,
    ) {
        let found = tuned(&measured(&truth(decode, prefill, host, offset), &FIVE));
        let after = found.groups[0].after;
        prop_assert!(after.tpot < 0.01 && after.ttft < 0.02, "{:?}", found);
    }
}

fn record(version: &str, gpu: &str, model: &str, decode_factor: f64, points: u32) -> Record {
    let key = Key {
        engine: "vllm".to_owned(),
        version: version.to_owned(),
        kernel_source: "tables".to_owned(),
        gpu: gpu.to_owned(),
        model: model.to_owned(),
    };
    Record {
        key,
        factors: Factors { decode_factor, ..truth(1.0, 1.0, 1.0, 30.0) },
        points,
        runs: Vec::new(),
    }
}

#[test]
fn the_nearest_records_answer_and_say_so() {
    let engine = engine::find("vllm").unwrap();
    let records = vec![
        record("0.16.0", "h200-sxm", "a", 0.8, 9),
        record("0.18.0", "h200-sxm", "a", 0.9, 5),
        record("0.18.0", "h200-sxm", "b", 1.2, 3),
    ];
    let all = Calibration::new(records).unwrap();
    let ask = |version, gpu, model| all.lookup(&record(version, gpu, model, 1.0, 1).key, &engine);

    let found = ask("0.18.0", "h200-sxm", "a");
    assert_eq!((found.level, found.points, found.factors.decode_factor), (Level::Exact, 5, 0.9));
    let found = ask("0.17.0", "h200-sxm", "a");
    assert_eq!((found.level, found.records, found.points), (Level::Deployment, 2, 14));
    let expected = (0.8_f64.ln() * 9.0 / 14.0 + 0.9_f64.ln() * 5.0 / 14.0).exp();
    assert!((found.factors.decode_factor - expected).abs() < 1e-12);
    let found = ask("0.18.0", "h200-sxm", "c");
    assert_eq!((found.level, found.records, found.points), (Level::EngineAndGpu, 3, 17));
    // Models a and b and the default of 1, each once.
    let thirds = ((expected.ln() + 1.2_f64.ln()) / 3.0).exp();
    assert!((found.factors.decode_factor - thirds).abs() < 1e-12);
    assert_eq!(
        found.to_string(),
        "17 measured points of other models under this engine on this GPU"
    );
    // Defaults are those of the version that was asked for.
    let found = ask("0.16.0", "b200", "a");
    assert_eq!((found.level, found.points), (Level::Defaults, 0));
    assert_eq!(found.factors.host_time, Nanos(4_100_000));
    assert_eq!(Calibration::default().lookup(&Key::default(), &engine).level, Level::Defaults);
}

#[test]
fn newer_records_win() {
    let old = Calibration::new(vec![
        record("1", "h200-sxm", "a", 0.8, 9),
        record("1", "h200-sxm", "b", 0.7, 9),
    ]);
    let new = Calibration::new(vec![record("1", "h200-sxm", "a", 0.9, 5)]).unwrap();
    let merged = old.unwrap().merged(&new);
    let factors: Vec<f64> =
        merged.records().iter().map(|record| record.factors.decode_factor).collect();
    assert_eq!(factors, [0.9, 0.7]);
}

#[test]
fn wrong_files_are_answered_in_a_line() {
    let good = Calibration::new(vec![record("1", "h200-sxm", "a", 0.9, 5)]).unwrap().write();
    let refused = |text: &str, part: &str| {
        let error = Calibration::read(text, "mine.json").unwrap_err().to_string();
        assert!(error.starts_with("mine.json: ") && error.contains(part), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    refused("", "EOF");
    refused("{}", "missing field `moecast_calibration`");
    refused(&good.replace("calibration\": 1", "calibration\": 2"), "version 2");
    refused(&good.replace("points", "point"), "unknown field `point`");
    refused(&good.replace(": 5", ": 0"), "record of vllm 1 tables h200-sxm a: no points");
    refused(&good.replace("0.9", "-0.9"), "a decode factor of -0.9");
    refused(&good.replace("1 ms", "1"), "it has no unit");
    let (_, list) = good.split_once('[').unwrap();
    let (one, _) = list.rsplit_once(']').unwrap();
    let twice = format!("{{\"moecast_calibration\": 1, \"records\": [{one}, {one}]}}");
    refused(&twice, "two records; expected one record a key");
    for end in 0..good.len() - 1 {
        assert!(Calibration::read(&good[..end], "x").is_err() || good[end..].trim().is_empty());
    }
}

//! Laws of every generator, and of each arrival process.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;
use crate::requests::{RequestStats, RequestTrace, stats};

const FIXED: Lengths<'_> =
    Lengths::Drawn { input: Length::Fixed { tokens: 100 }, output: Length::Fixed { tokens: 10 } };

fn try_make(
    name: &str,
    settings: &[(&str, f64)],
    lengths: Lengths<'_>,
    seed: u64,
) -> std::result::Result<Load, String> {
    let values = settings.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    generate(name, &values, lengths, Seed(seed)).map_err(|error| error.to_string())
}

fn open(name: &str, settings: &[(&str, f64)], lengths: Lengths<'_>, seed: u64) -> RequestTrace {
    match try_make(name, settings, lengths, seed).unwrap() {
        Load::Open(trace) => trace,
        Load::Closed(_) => panic!("{name} is closed"),
    }
}

/// Every setting that has no default, for `requests` requests.
fn plain(entry: &Entry, requests: u32) -> Vec<(&'static str, f64)> {
    let value = |setting: &Setting| match setting.name {
        "requests" => f64::from(requests),
        "rate" => 4.0,
        "clients" => 3.0,
        "burstiness" => 2.0,
        other => panic!("no example of `{other}`: add one"),
    };
    let needed = entry.settings.iter().filter(|setting| setting.default.is_none());
    needed.map(|setting| (setting.name, value(setting))).collect()
}

fn measure(name: &str, settings: &[(&str, f64)]) -> RequestStats {
    let trace = open(name, settings, FIXED, 1);
    assert!(trace.arrivals().is_sorted());
    stats(&trace)
}

/// The bytes that somebody could compare: every field of the load.
fn bytes(load: &Load) -> String {
    format!("{load:?}")
}

#[test]
fn entries_are_alphabetical_and_described() {
    assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
    for entry in ALL {
        assert!(!entry.about.is_empty() && !entry.about.contains('\n'), "{}", entry.name);
        for setting in entry.settings {
            assert!(!setting.about.is_empty(), "{} {}", entry.name, setting.name);
            assert!(setting.default.is_none_or(|value| setting.is_valid(value)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The same seed gives the same bytes, another seed others; arrivals are sorted from 0; the
    /// asked-for number comes.
    #[test]
    fn every_generator_is_a_function_of_its_seed(seed: u64, requests in 2_u32..60) {
        let drawn = Length::Uniform { nominal: 1000, low: 0.8, high: 1.0 };
        let lengths = Lengths::Drawn { input: drawn, output: drawn };
        for entry in ALL {
            let settings = plain(entry, requests);
            let load = try_make(entry.name, &settings, lengths, seed).unwrap();
            let again = try_make(entry.name, &settings, lengths, seed).unwrap();
            prop_assert_eq!(bytes(&load), bytes(&again));
            let other = try_make(entry.name, &settings, lengths, seed ^ 1).unwrap();
            prop_assert_ne!(bytes(&load), bytes(&other));
            match load {
                Load::Open(trace) => {
                    prop_assert_eq!(trace.count(), requests as usize);
                    prop_assert_eq!(trace.arrivals()[0].0, 0);
                    prop_assert!(trace.arrivals().is_sorted());
                    prop_assert!(trace.header().synthetic);
                }
                Load::Closed(plan) => {
                    prop_assert_eq!((plan.clients(), plan.requests_per_client()), (3, 10));
                    prop_assert_eq!(plan.requests().len(), 30);
                    prop_assert_eq!(plan.request(2, 9), plan.requests()[29]);
                }
            }
        }
    }

    /// More requests leave the earlier ones as they were.
    #[test]
    fn longer_loads_begin_alike(seed: u64, few in 1_u32..20, more in 20_u32..40) {
        for entry in ALL.iter().filter(|entry| entry.name != "closed-loop") {
            let [short, long] =
                [few, more].map(|count| open(entry.name, &plain(entry, count), FIXED, seed));
            prop_assert!(short.iter().eq(long.iter().take(few as usize)), "{}", entry.name);
        }
    }
}

/// A change of lengths shifts no arrival and a change of arrivals no length.
#[test]
fn arrivals_and_lengths_do_not_shift_each_other() {
    let wide = Length::LogNormal { mean: 500.0, cv: 1.5 };
    let lengths = |output| Lengths::Drawn { input: wide, output };
    let settings = [("rate", 4.0), ("requests", 50.0)];
    let plain = open("poisson", &settings, lengths(wide), 7);
    let fixed = open("poisson", &settings, lengths(Length::Fixed { tokens: 1 }), 7);
    assert_eq!(plain.arrivals(), fixed.arrivals());
    assert_eq!(plain.input_tokens(), fixed.input_tokens());
    assert_ne!(plain.input_tokens(), plain.output_tokens());
    let day = open("diurnal", &settings, lengths(wide), 7);
    assert_ne!(plain.arrivals(), day.arrivals());
    assert_eq!(plain.input_tokens(), day.input_tokens());
}

/// 40 000 gaps: the standard error of mean and CV is 0.5% to 1%; the bounds are about four.
#[test]
fn poisson_has_its_rate_and_a_cv_of_one() {
    let stats = measure("poisson", &[("rate", 20.0), ("requests", 40_001.0)]);
    assert!((stats.rate.unwrap() / 20.0 - 1.0).abs() < 0.02, "{stats:?}");
    assert!((stats.burstiness.unwrap() - 1.0).abs() < 0.03, "{stats:?}");
}

/// The standard error of the CV grows with the kurtosis of the gaps: 5% at a CV of 3.
#[test]
fn gamma_has_its_rate_and_burstiness() {
    for (burstiness, tolerance) in [(0.05, 0.02), (0.5, 0.02), (1.0, 0.03), (3.0, 0.1)] {
        let settings = [("rate", 20.0), ("requests", 40_001.0), ("burstiness", burstiness)];
        let stats = measure("gamma", &settings);
        let error = 4.0 * burstiness / 40_000_f64.sqrt();
        assert!((stats.rate.unwrap() / 20.0 - 1.0).abs() < error, "{burstiness}: {stats:?}");
        let found = stats.burstiness.unwrap() / burstiness;
        assert!((found - 1.0).abs() < tolerance, "{burstiness}: {stats:?}");
    }
}

/// Twice the rate halves every arrival; the last nanosecond is rounding.
#[test]
fn scaling_the_rate_scales_time() {
    for name in ["gamma", "poisson"] {
        let entry = find("request generator", ALL, name).unwrap();
        let mut settings = plain(entry, 1000);
        let slow = open(name, &settings, FIXED, 3);
        settings[0] = ("rate", 3.0 * settings[0].1);
        let fast = open(name, &settings, FIXED, 3);
        for (slow, fast) in slow.arrivals().iter().zip(fast.arrivals()) {
            assert!(slow.0.abs_diff(3 * fast.0) <= 2, "{name}: {slow:?} {fast:?}");
        }
    }
    let day = |rate: f64| {
        let settings = [("rate", rate), ("requests", 1000.0), ("period", 100.0 / rate)];
        open("diurnal", &settings, FIXED, 3)
    };
    for (slow, fast) in day(1.0).arrivals().iter().zip(day(4.0).arrivals()) {
        assert!(slow.0.abs_diff(4 * fast.0) <= 4, "{slow:?} {fast:?}");
    }
}

/// The rate over its mean, integrated over a day, is one; its extremes have the asked-for ratio.
#[test]
fn the_day_integrates_to_its_mean() {
    let swing = 0.5;
    let steps = 1000;
    let sum: f64 =
        (0..steps).map(|step| diurnal::share(f64::from(step) / f64::from(steps), swing)).sum();
    assert!((sum / f64::from(steps) - 1.0).abs() < 1e-12);
    let (trough, peak) = (diurnal::share(3.0, swing), diurnal::share(7.5, swing));
    assert!((peak / trough - 3.0).abs() < 1e-12);
}

/// Ten whole days: the mean rate is the asked-for one, and each eighth of the day has its share
/// of the sinusoid. 5000 requests an eighth: standard error 1.4%, bound about four.
#[test]
fn diurnal_requests_follow_the_day() {
    let settings = [("rate", 10.0), ("requests", 42_000.0), ("period", 400.0)];
    let trace = open("diurnal", &settings, FIXED, 1);
    let days = 10.0;
    #[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds")]
    let days_of = |nanos: u64| nanos as f64 / 400e9;
    let within = trace.arrivals().iter().filter(|at| days_of(at.0) < days);
    let mut eighths = [0.0; 8];
    for at in within {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 8")]
        let eighth = (days_of(at.0).fract() * 8.0) as usize;
        eighths[eighth] += 1.0 / 5000.0;
    }
    let total: f64 = eighths.iter().sum::<f64>() / 8.0;
    assert!((total - 1.0).abs() < 0.02, "{total}");
    // The mean of 1 - cos(x)/2 over an eighth of a turn.
    let mean = |from: f64| {
        let (start, end) = (TAU * from / 8.0, TAU * (from + 1.0) / 8.0);
        1.0 - 0.5 * (end.sin() - start.sin()) / (end - start)
    };
    for (from, found) in [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0].into_iter().zip(eighths) {
        assert!((found / mean(from) - 1.0).abs() < 0.07, "{from}: {found} {}", mean(from));
    }
}

/// A day without swing is Poisson.
#[test]
fn a_flat_day_is_poisson() {
    let settings = [("rate", 20.0), ("requests", 40_001.0), ("peak-to-trough", 1.0)];
    let flat = measure("diurnal", &settings);
    assert!((flat.rate.unwrap() / 20.0 - 1.0).abs() < 0.02, "{flat:?}");
    assert!((flat.burstiness.unwrap() - 1.0).abs() < 0.03, "{flat:?}");
}

#[test]
fn lengths_have_their_distribution() {
    let settings = [("rate", 4.0), ("requests", 40_000.0)];
    let input = Length::Uniform { nominal: 1024, low: 0.8, high: 1.0 };
    let output = Length::LogNormal { mean: 400.0, cv: 0.8 };
    let trace = open("poisson", &settings, Lengths::Drawn { input, output }, 5);
    let (low, high) = (trace.input_tokens().iter().min(), trace.input_tokens().iter().max());
    assert_eq!((low, high), (Some(&819), Some(&1024)));
    let stats = stats(&trace);
    assert!((stats.input_tokens.mean - 921.5).abs() < 1.2, "{stats:?}");
    assert!((stats.output_tokens.mean / 400.0 - 1.0).abs() < 0.016, "{stats:?}");
    // The median of a log-normal is its mean over the root of 1 + CV^2: 312.3.
    assert!(stats.output_tokens.p50.abs_diff(312) <= 6, "{stats:?}");
}

/// Pairs of prompt and answer come from the recording, together.
#[test]
fn recorded_lengths_stay_in_pairs() {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("test", false));
    for tokens in [3, 5, 7] {
        let hashes = [u64::from(tokens)];
        let arrival = Arrival {
            stamp: 0,
            input_tokens: tokens,
            output_tokens: 10 * tokens,
            prefix_hashes: &hashes,
        };
        builder.push(arrival).unwrap();
    }
    let recorded = builder.finish().unwrap();
    let settings = [("rate", 4.0), ("requests", 60.0)];
    let trace = open("poisson", &settings, Lengths::Recorded(&recorded), 5);
    assert!(trace.iter().all(|request| request.output_tokens == 10 * request.input_tokens));
    for tokens in [3, 5, 7] {
        assert!(trace.input_tokens().contains(&tokens));
    }
    assert_eq!(
        trace.header().remarks,
        [
            "generated with rate 4, requests 60; lengths drawn from 3 requests of test; seed 5",
            "the prefixes of the recorded requests are lost",
        ]
    );
}

/// Lengths beyond the limits are moved to them, and that is said.
#[test]
fn extreme_lengths_are_clamped_and_counted() {
    let wild = Length::LogNormal { mean: 1.0, cv: 10.0 };
    let lengths = Lengths::Drawn { input: wild, output: Length::Fixed { tokens: 1 } };
    let trace = open("poisson", &[("rate", 4.0), ("requests", 100.0)], lengths, 0);
    assert!(trace.input_tokens().iter().all(|&tokens| tokens >= 1));
    let remark = &trace.header().remarks[1];
    assert!(remark.starts_with("lengths moved between 1 and 16777216 tokens: "), "{remark}");
}

#[test]
fn wrong_settings_say_what_would_be_right() {
    let refused =
        |name: &str, settings: &[(&str, f64)]| try_make(name, settings, FIXED, 0).unwrap_err();
    assert_eq!(
        refused("poison", &[]),
        "find request generator `poison`: did you mean `poisson`? \
         valid names are closed-loop, diurnal, gamma, poisson"
    );
    assert_eq!(
        refused("poisson", &[("rat", 1.0)]),
        "poisson: setting `rat`: unknown; expected `rate`: one of rate, requests"
    );
    assert_eq!(
        refused("poisson", &[("rate", 1.0)]),
        "poisson: setting `requests`: missing; \
         expected a whole number from 1 to 67108864: number of requests"
    );
    assert_eq!(
        refused("gamma", &[("rate", 1.0), ("requests", 1.0), ("burstiness", 0.0)]),
        "gamma: setting `burstiness`: 0; expected a number from 0.01 to 20: \
         coefficient of variation of the gaps, 1 for Poisson"
    );
    for count in [0.0, 1.5, -1.0, 1e12, f64::NAN, f64::INFINITY] {
        let error = refused("poisson", &[("rate", 1.0), ("requests", count)]);
        assert!(error.contains("setting `requests`"), "{error}");
    }
    assert_eq!(
        refused("closed-loop", &[("clients", 60_000_000.0), ("requests-per-client", 2.0)]),
        "closed-loop: all settings: 60000000 clients with 2 requests each; \
         expected at most 67108864 requests"
    );
    let error = refused("poisson", &[("rate", 1e-6), ("requests", 10_000.0)]);
    assert!(error.contains("expected at most 292 years"), "{error}");
}

#[test]
fn wrong_lengths_say_what_would_be_right() {
    let good = Length::Fixed { tokens: 1 };
    let wrong = [
        Length::Fixed { tokens: 0 },
        Length::LogNormal { mean: f64::NAN, cv: 1.0 },
        Length::LogNormal { mean: 10.0, cv: -1.0 },
        Length::Uniform { nominal: 0, low: 0.5, high: 1.0 },
        Length::Uniform { nominal: 10, low: 1.0, high: 0.8 },
    ];
    for length in wrong {
        let lengths = Lengths::Drawn { input: good, output: length };
        let settings = [("rate", 1.0), ("requests", 1.0)];
        let error = try_make("poisson", &settings, lengths, 0).unwrap_err();
        assert!(error.starts_with("output length: "), "{error}");
    }
    let text = "{\"kind\":\"uniform\",\"nominal\":8,\"low\":0.5,\"high\":1.0}";
    let length: Length = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&length).unwrap(), text);
    assert!(serde_json::from_str::<Length>(&text.replace("low", "lowest")).is_err());
}

/// Golden: nanoseconds of the first arrivals of every open generator, on every platform.
#[test]
fn arrivals_are_the_same_everywhere() {
    let found: Vec<Vec<u64>> = ["diurnal", "gamma", "poisson"]
        .iter()
        .map(|name| {
            let entry = find("request generator", ALL, name).unwrap();
            let trace = open(name, &plain(entry, 4), FIXED, 0);
            trace.arrivals().iter().map(|at| at.0).collect()
        })
        .collect();
    let expected = [
        [0, 304_878_270, 542_190_046, 674_383_123],
        [0, 471_032_500, 865_566_586, 886_983_341],
        [0, 111_836_350, 163_860_251, 374_662_952],
    ];
    assert_eq!(found, expected);
}

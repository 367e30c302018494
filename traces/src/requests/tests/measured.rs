//! Figures of traces that can be worked out by hand.

use moecast_profiles::units::Nanos;

use super::*;

fn trace(seconds: &[u64]) -> RequestTrace {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("test", true));
    for (&at, tokens) in seconds.iter().zip(1..) {
        let stamp = i128::from(at) * 1_000_000_000;
        let arrival =
            Arrival { stamp, input_tokens: tokens, output_tokens: 2 * tokens, prefix_hashes: &[] };
        builder.push(arrival).unwrap();
    }
    builder.finish().unwrap()
}

fn close(found: Option<f64>, expected: f64) {
    assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?} is not {expected}");
}

/// Gaps 1, 3, 1, 3: mean 2, deviation 1. Lengths 1 to 5: mean 3.
#[test]
fn gaps_and_lengths() {
    let stats = stats(&trace(&[0, 1, 4, 5, 8]));
    assert_eq!((stats.count, stats.duration), (5, Nanos(8_000_000_000)));
    close(stats.rate, 0.5);
    close(stats.burstiness, 0.5);
    close(stats.input_tokens_per_second, 1.5);
    close(stats.output_tokens_per_second, 3.0);
    let lengths = stats.output_tokens;
    close(Some(lengths.mean), 6.0);
    assert_eq!([lengths.p50, lengths.p90, lengths.p99, lengths.max], [6, 10, 10, 10]);
    assert_eq!(stats.peak_rate_over_minute, None);
    assert_eq!(stats.prefix_reuse_share, None);
}

/// Of 0, 59, 60, 61, 119, 120 seconds, 60 to 119 and 59 to 61 hold three, 61 to 120 too;
/// 59, 60, 61 and nothing more within a minute: 119 is 60 seconds after 59.
#[test]
fn the_busiest_minute() {
    close(stats(&trace(&[0, 59, 60, 61, 119, 120])).peak_rate_over_minute, 3.0 / 60.0);
    close(stats(&trace(&[0, 60])).peak_rate_over_minute, 1.0 / 60.0);
    close(stats(&trace(&[0, 1, 2, 3, 90])).peak_rate_over_minute, 4.0 / 60.0);
}

#[test]
fn without_time_there_are_no_rates() {
    for seconds in [&[3][..], &[3, 3, 3]] {
        let stats = stats(&trace(seconds));
        let absent = [
            stats.rate,
            stats.burstiness,
            stats.input_tokens_per_second,
            stats.output_tokens_per_second,
            stats.peak_rate_over_minute,
        ];
        assert_eq!(absent, [None; 5]);
    }
}

/// The fixture holds 10 blocks, 7 of them different.
#[test]
fn shared_prefixes() {
    let (format, name, bytes) = FIXTURES[6];
    let stats = stats(&read_files(format, &[(name, bytes)]).unwrap());
    close(stats.prefix_reuse_share, 0.3);
    let text = serde_json::to_string(&stats).unwrap();
    assert!(text.starts_with("{\"count\":5,\"duration\":\"6 s\","), "{text}");
}

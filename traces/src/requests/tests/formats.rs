//! What each format says, against fixtures that can be read by hand.

use super::*;

fn fixture(index: usize) -> RequestTrace {
    let (format, name, bytes) = FIXTURES[index];
    read_files(format, &[(name, bytes)]).unwrap()
}

#[test]
fn azure_times_are_exact_across_days_and_zones() {
    let trace = fixture(0);
    let expected: [(u64, u32, u32, &[u32]); 3] = [
        (0, 300, 40, &[]),
        (499_999_900, 1200, 7, &[]),
        // From 23:59:59.0000001 to 00:01:01.25 of the next month.
        (62_249_999_900, 513, 100, &[]),
    ];
    assert_eq!(rows(&trace), expected);
    assert_eq!(trace.header().remarks, ["requests without output tokens, left out: 1"]);
    let trace = fixture(1);
    let half_a_day = 12 * 3_600_000_000_000 + 500_000_000;
    let arrivals: Vec<u64> = trace.arrivals().iter().map(|arrival| arrival.0).collect();
    assert_eq!(arrivals, [0, 125_000, half_a_day]);
    assert!(trace.header().remarks.is_empty());
}

#[test]
fn burstgpt_counts_failures_and_odd_totals() {
    let trace = fixture(2);
    let expected: [(u64, u32, u32, &[u32]); 3] =
        [(0, 100, 20, &[]), (2_500_000_000, 700, 30, &[]), (60_000_000_000, 40, 9, &[])];
    assert_eq!(rows(&trace), expected);
    assert_eq!(
        trace.header().remarks,
        [
            "rows whose total is not the sum of request and response tokens: 1",
            "failed requests (no response tokens), left out: 2",
        ]
    );
}

#[test]
fn burstgpt_of_release_2_has_two_more_columns() {
    let trace = fixture(3);
    let expected: [(u64, u32, u32, &[u32]); 2] = [(0, 11, 12, &[]), (750_000_000, 13, 14, &[])];
    assert_eq!(rows(&trace), expected);
}

#[test]
fn mooncake_prefixes_are_interned_and_checked() {
    let trace = fixture(6);
    let expected: [(u64, u32, u32, &[u32]); 5] = [
        (0, 1100, 50, &[0, 1, 2]),
        (0, 1300, 1, &[0, 1, 3]),
        (1_500_000_000, 512, 20, &[0]),
        (1_501_000_000, 600, 30, &[4, 5]),
        (6_000_000_000, 600, 30, &[6]),
    ];
    assert_eq!(rows(&trace), expected);
    assert_eq!(
        trace.header().remarks,
        [
            "prompts with more hash_ids than blocks of 512 tokens, cut: 1",
            "prompts with fewer hash_ids than blocks of 512 tokens: 1",
        ]
    );
    let twice =
        "{\"timestamp\": 0.5, \"input_length\": 513, \"output_length\": 1, \"hash_ids\": [7, 7]}";
    let trace = read_text("auto", twice).unwrap();
    assert_eq!(trace.header().remarks, ["prompts that hold one of their hash_ids twice: 1"]);
}

#[test]
fn lengths_may_have_arrivals() {
    let trace = fixture(4);
    let expected: [(u64, u32, u32, &[u32]); 2] = [(0, 128, 20, &[]), (0, 64, 300, &[])];
    assert_eq!(rows(&trace), expected);
    assert_eq!(trace.header().remarks, ["no arrivals are recorded: all requests arrive at once"]);
    let trace = fixture(5);
    let expected: [(u64, u32, u32, &[u32]); 3] =
        [(0, 128, 20, &[]), (1, 64, 300, &[]), (2_100_000_000, 32, 1, &[])];
    assert_eq!(rows(&trace), expected);
    assert_eq!(trace.header().remarks, ["requests without input tokens, left out: 1"]);
}

/// Files of one recording share clock and hashes, and carry on from one another.
#[test]
fn several_files_are_one_recording() {
    let line = |ms: u32, id: u32| {
        format!("{{\"timestamp\":{ms},\"input_length\":9,\"output_length\":1,\"hash_ids\":[{id}]}}")
    };
    let (early, late) = (line(5, 8), line(7, 8));
    let both = [("a", early.as_bytes()), ("b", late.as_bytes())];
    let trace = read_files("auto", &both).unwrap();
    let expected: [(u64, u32, u32, &[u32]); 2] = [(0, 9, 1, &[0]), (2_000_000, 9, 1, &[0])];
    assert_eq!(rows(&trace), expected);
    assert_eq!(trace.header().inputs.len(), 2);
    let swapped = [("b", late.as_bytes()), ("a", early.as_bytes())];
    assert_eq!(
        read_files("auto", &swapped).unwrap_err(),
        "a: line 1: an arrival 2000000 ns before the previous one; \
         expected requests sorted by arrival"
    );
}

#[test]
fn columns_may_stand_in_any_order_and_lines_end_as_they_like() {
    let text = "\u{feff}GeneratedTokens, ContextTokens,TIMESTAMP\r\n\r\n\
                3,4,2023-11-16 18:15:46\r\n 5 , 6 ,2023-11-16 18:15:47 \r\n";
    let trace = read_text("auto", text).unwrap();
    let expected: [(u64, u32, u32, &[u32]); 2] = [(0, 4, 3, &[]), (1_000_000_000, 6, 5, &[])];
    assert_eq!(rows(&trace), expected);
}

/// Time in whole milliseconds since 1970 needs more digits than a float of nanoseconds has.
#[test]
fn whole_timestamps_are_exact_however_large() {
    let line = |ms: u64| {
        format!("{{\"timestamp\":{ms},\"input_length\":9,\"output_length\":1,\"hash_ids\":[1]}}\n")
    };
    let text = line(1_700_000_000_001) + &line(1_700_000_000_002);
    assert_eq!(rows(&read_text("auto", &text).unwrap())[1].0, 1_000_000);
}

use proptest::prelude::*;

use super::*;

/// A series of one GEMM: times at m = 1, 2, 4 ...
fn rows(times: &[f64]) -> Vec<Row> {
    let sample = |power: usize, time| timed(Family::Gemm, "a/b", &[8, 8], &[1 << power], time);
    times.iter().enumerate().map(|(i, time)| Row { row: i + 1, sample: sample(i, *time) }).collect()
}

fn times(checked: &Checked) -> Vec<f64> {
    checked.samples.iter().map(|sample| sample.time_us).collect()
}

#[test]
fn repeats_become_their_median_and_are_counted() {
    let mut all = rows(&[1.0, 2.0, 4.0]);
    for time in [2.5, 9.0] {
        all.push(Row { row: 9, sample: timed(Family::Gemm, "a/b", &[8, 8], &[2], time) });
    }
    let checked = check("x", all).unwrap();
    assert_eq!(times(&checked), [1.0, 2.5, 4.0]);
    let flag = "x: 2 rows repeat a key, medians are kept; 1 of the keys spread by more than 10%";
    assert_eq!(checked.flags, [flag]);
    // Quartiles of 2, 2.5 and 9 are 2.25 and 5.75.
    assert_eq!(checked.samples[1].spread, Some(1.75 / 2.5));
}

#[test]
fn a_spike_is_left_out_and_a_fall_is_not() {
    let checked = check("x", rows(&[10.0, 20.0, 10.0, 5.0, 4.0])).unwrap();
    assert_eq!(times(&checked), [10.0, 10.0, 5.0, 4.0]);
    assert_eq!(checked.flags.len(), 1);
    assert!(checked.flags[0].starts_with("x: 1 of 5 rows stand out"), "{:?}", checked.flags);
    let falling = [40.0, 20.0, 10.0, 5.0];
    assert_eq!(times(&check("x", rows(&falling)).unwrap()), falling);
}

#[test]
fn milliseconds_among_microseconds_are_an_error() {
    for times in [[10.0, 11.0, 0.012, 13.0], [10.0, 11.0, 12.0, 13_000.0]] {
        let error = check("x", rows(&times)).unwrap_err().to_string();
        assert!(error.starts_with("x: row "), "{error}");
        assert!(error.contains("times in one unit"), "{error}");
    }
}

#[test]
fn a_stalled_run_is_a_spike() {
    let checked = check("x", rows(&[10.0, 11.0, 2_000.0, 13.0])).unwrap();
    assert_eq!(times(&checked), [10.0, 11.0, 13.0]);
}

#[test]
fn what_is_no_time_is_an_error() {
    for time in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = check("x", rows(&[1.0, time])).unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("above 0"), "{error}");
    }
}

#[test]
fn a_point_that_only_one_series_lacks_is_a_hole() {
    let mut all = Vec::new();
    for n in 1..=20_u32 {
        for m in [1, 2, 4, 8_u64] {
            if (n, m) != (5, 4) {
                let sample = timed(Family::Gemm, "a/b", &[n, 8], &[m], 1.0);
                all.push(Row { row: all.len() + 1, sample });
            }
        }
    }
    let checked = check("x", all).unwrap();
    assert_eq!(checked.samples.len(), 79);
    assert!(checked.flags[0].starts_with("x: 1 points"), "{:?}", checked.flags);
}

/// The sum of the numbers that flags say are missing from the samples.
fn left_out(flags: &[String]) -> usize {
    let gone = flags.iter().filter(|flag| flag.contains("repeat") || flag.contains("left out"));
    gone.map(|flag| {
        let mut words = flag.split(' ');
        words.nth(1).unwrap().parse::<usize>().unwrap()
    })
    .sum()
}

proptest! {
    #[test]
    fn rows_are_samples_or_counted(
        points in prop::collection::vec((0_u32..3, 0_u64..9, 1.0..9.0), 0..60),
    ) {
        let rows: Vec<Row> = points.iter().enumerate().map(|(i, (n, m, time))| Row {
            row: i + 1,
            sample: timed(Family::Gemm, "a", &[*n, 1], &[*m], *time),
        }).collect();
        let count = rows.len();
        let checked = check("x", rows).unwrap();
        prop_assert_eq!(checked.samples.len() + left_out(&checked.flags), count);
        prop_assert!(checked.samples.is_sorted_by(|a, b| compare(a, b) == Ordering::Less));
    }
}

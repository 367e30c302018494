use moecast_profiles::seed::Seed;
use proptest::prelude::*;
use rand::RngExt;

use super::*;

fn of(values: &[f64]) -> Statistic {
    let mut statistic = Statistic::new();
    values.iter().for_each(|value| statistic.add(*value));
    statistic
}

#[test]
fn four_times_are_solved_by_hand() {
    let found = of(&[4.0, 1.0, 3.0, 2.0]).distribution();
    assert_eq!((found.count, found.mean, found.mean_ci95, found.max), (4, 2.5, None, 4.0));
    // The values at rank 2 of 4, and 4 of 4 twice.
    for (found, exact) in [(found.p50, 2.0), (found.p90, 4.0), (found.p99, 4.0)] {
        assert!((found - exact).abs() <= 1e-3 * exact, "{found} for {exact}");
    }
}

#[test]
fn nothing_is_all_zero() {
    assert_eq!(Statistic::new().distribution(), Distribution::default());
    assert_eq!(Statistic::new().relative_half_width(), None);
}

#[test]
fn the_interval_is_students() {
    // 64 values become 32 batches of two, alternately 1 and 3: the standard error of the mean is
    // sqrt(32/31/32) = 0.179605, and t(0.975, 31) = 2.03951.
    let values: Vec<f64> =
        (0..32).flat_map(|batch| [1.0 + 2.0 * f64::from(batch % 2); 2]).collect();
    let statistic = of(&values);
    let half = statistic.distribution().mean_ci95.unwrap();
    assert!((half - 2.039_51 * 0.179_605).abs() < 1e-4, "{half}");
    assert!((statistic.relative_half_width().unwrap() - half / 2.0).abs() < 1e-12);
    assert_eq!(of(&values[..63]).distribution().mean_ci95, None);
    assert_eq!(of(&[7.0; 64]).distribution().mean_ci95, Some(0.0));
}

#[test]
fn what_is_no_time_is_the_nearest_one_and_counted() {
    let statistic = of(&[f64::NAN, -1.0, f64::INFINITY, 1e300, 5.0]);
    let found = statistic.distribution();
    assert_eq!((statistic.saturated(), found.count, found.max), (4, 5, MS_MAX));
    assert!(found.p50 > 4.99 && found.p50 < 5.01 && found.p99 <= MS_MAX, "{found:?}");
}

#[test]
fn memory_stays_what_it_is() {
    let mut statistic = Statistic::new();
    statistic.add(MS_MAX);
    let buckets = statistic.nanos.distinct_values();
    for value in 0..100_000 {
        statistic.add(f64::from(value));
    }
    assert_eq!(statistic.nanos.distinct_values(), buckets);
    assert!(statistic.batches.sums.len() < BATCHES_MAX && buckets < 60_000, "{buckets}");
}

/// Exponential times of mean 1 in 1,000 streams: about 95% of the intervals hold the mean.
#[test]
fn the_interval_covers_the_mean_of_independent_times() {
    let mut generator = Seed(7).stream("statistic");
    let covered = (0..1_000)
        .filter(|_| {
            let mut statistic = Statistic::new();
            for _ in 0..1_000 {
                statistic.add(-(1.0 - generator.random::<f64>()).ln());
            }
            (statistic.mean() - 1.0).abs() <= statistic.distribution().mean_ci95.unwrap()
        })
        .count();
    assert!((925..=970).contains(&covered), "{covered} of 1000");
}

/// Times from nanoseconds to hours, milliseconds.
fn times() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec((-5.0_f64..7.0).prop_map(|digits| 10_f64.powf(digits)), 1..2_000)
}

proptest! {
    #[test]
    fn percentiles_are_near_and_mean_and_maximum_exact(values in times()) {
        let found = of(&values).distribution();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for (share, found) in [(50, found.p50), (90, found.p90), (99, found.p99)] {
            let exact = sorted[(sorted.len() * share).div_ceil(100) - 1];
            // Half a nanosecond goes to rounding.
            prop_assert!((found - exact).abs() <= 1e-3 * exact + 5e-7, "{found} for {exact}");
        }
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        prop_assert!((found.mean - mean).abs() <= 1e-9 * mean, "{} for {mean}", found.mean);
        prop_assert_eq!(found.max, *sorted.last().unwrap());
        prop_assert_eq!(found.count, sorted.len() as u64);
    }

    /// Batches hold every value once, whatever was merged, and equal values may come together.
    #[test]
    fn merging_batches_keeps_the_mean(
        values in times(), counts in proptest::collection::vec(1_u64..300, 1..20)
    ) {
        let (mut together, mut alone) = (Statistic::new(), Statistic::new());
        for (value, count) in values.iter().zip(counts.into_iter().cycle()) {
            together.add_many(*value, count);
            (0..count).for_each(|_| alone.add(*value));
        }
        for statistic in [&together, &alone] {
            let batches = &statistic.batches;
            let sum = batches.sums.iter().sum::<f64>() + batches.open_sum;
            let count = batches.sums.len() as u64 * batches.size + batches.open_count;
            prop_assert_eq!(count, statistic.count());
            let mean = sum / count as f64;
            prop_assert!((mean - statistic.mean()).abs() <= 1e-9 * mean, "{mean}");
        }
        let (together, alone) = (together.distribution(), alone.distribution());
        prop_assert_eq!(together.p99, alone.p99);
        prop_assert!((together.mean - alone.mean).abs() <= 1e-9 * alone.mean);
        let widths = (together.mean_ci95.unwrap_or(0.0), alone.mean_ci95.unwrap_or(0.0));
        prop_assert!((widths.0 - widths.1).abs() <= 1e-6 * alone.mean, "{widths:?}");
    }
}

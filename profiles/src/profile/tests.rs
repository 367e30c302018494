use proptest::prelude::*;

use super::*;
use crate::sample::routing;
use crate::table::Source;

fn sample(family: Family, shape: &[u32], at: &[u64], time_us: f64) -> Sample {
    let (shape, at) = (shape.to_vec(), at.to_vec());
    Sample { family, variant: "kernel/bfloat16".to_owned(), shape, at, time_us, spread: None }
}

/// A product's time that no closed form has: a smooth bump on bytes and operations.
fn gemm_us(n: u32, k: u32, m: u64) -> f64 {
    let (n, k, m) = (f64::from(n), f64::from(k), m as f64);
    let memory = 2.0 * (n * k + m * k + m * n) / 4e6;
    let compute = 2.0 * m * n * k / 7e8;
    let bump = 1.0 + 0.2 * (m.ln() + 0.5 * n.ln()).sin();
    (4.0 + memory.max(compute)) * bump
}

fn gemms() -> Samples {
    let mut samples = Samples::default();
    samples.provenance.system = "h200-sxm".to_owned();
    for n in [512, 1024, 2048, 4096, 8192] {
        for k in [512, 1024, 2048, 4096, 8192] {
            for octave in 0..13 {
                for m in [1_u64 << octave, 3_u64 << octave] {
                    let one = sample(Family::Gemm, &[n, k], &[m], gemm_us(n, k, m));
                    samples.samples.push(one);
                }
            }
        }
    }
    samples
}

fn fitted(samples: &Samples) -> Profile {
    Profile::from_samples(samples, &|_, _| {}).unwrap()
}

const VARIANT: &str = "kernel/bfloat16";

#[test]
fn measured_points_are_stored_and_others_lie_between() {
    let profile = fitted(&gemms());
    let ask = |n, k, m| profile.ask(Family::Gemm, VARIANT, &[n, k], &[m]).unwrap();
    let known = ask(2048, 4096, 96);
    assert_eq!(known.source, Source::Measured);
    assert!((known.time_us / gemm_us(2048, 4096, 96) - 1.0).abs() < 0.003);
    let between = ask(3000, 3000, 1200);
    assert_eq!(between.source, Source::Interpolated);
    assert!((between.time_us / gemm_us(3000, 3000, 1200) - 1.0).abs() < 0.08);
    let beyond = ask(2048, 4096, 100_000);
    assert_eq!(beyond.source, Source::Extrapolated);
    assert!(beyond.time_us > ask(2048, 4096, 12_288).time_us * 4.0, "the form carries growth");
    assert!(profile.ask(Family::Gemm, "other/bfloat16", &[1, 1], &[1]).is_none());
    let errors = profile.tables()[0].errors;
    assert!(errors.grid.points > 100 && errors.grid.median < 0.03, "{errors:?}");
    assert!(errors.grid.median < errors.form.median, "the table adds to the form: {errors:?}");
}

#[test]
fn bound_answers_are_the_slow_ones() {
    let profile = fitted(&gemms());
    let curve = profile.curve(Family::Gemm, VARIANT, &[2048, 4096]).unwrap();
    for m in [1, 7, 64, 1000, 1024, 1500, 4096, 9999] {
        let slow = profile.ask(Family::Gemm, VARIANT, &[2048, 4096], &[m]).unwrap().time_us;
        let fast = curve.time(m).0 as f64 * 1e-3;
        // Between two of the 16 points an octave the curve rounds off the steps of whole waves.
        let most = if m % 64 == 0 || m <= 1024 { 0.004 } else { 0.03 };
        assert!((fast / slow - 1.0).abs() < most, "m {m}: {fast} for {slow}");
    }
    assert_eq!(curve.time(0).0, 0);
}

#[test]
fn bound_answers_leave_out_the_launches_of_tables_measured_without_a_graph() {
    let mut samples = gemms();
    samples.samples.iter_mut().for_each(|sample| sample.time_us += 80.0);
    let profile = fitted(&samples);
    let slow = profile.ask(Family::Gemm, VARIANT, &[2048, 4096], &[64]).unwrap().time_us;
    let curve = profile.curve(Family::Gemm, VARIANT, &[2048, 4096]).unwrap();
    let fast = curve.time(64).0 as f64 * 1e-3;
    assert!(slow > 80.0 && fast < 30.0, "{fast} for {slow}");
}

#[test]
fn the_order_of_samples_and_the_number_of_threads_change_nothing() {
    let samples = gemms();
    let mut reversed = samples.clone();
    reversed.samples.reverse();
    let whole = fitted(&samples);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert!(one.install(|| fitted(&samples)) == whole);
    assert_eq!(Profile::read(&whole.write(), "again").unwrap(), whole);
    // Sums run in another order: the same to rounding.
    let again = fitted(&reversed);
    for m in [1, 96, 4096] {
        let ask = |profile: &Profile| {
            profile.ask(Family::Gemm, VARIANT, &[2048, 4096], &[m]).unwrap().time_us
        };
        assert!((ask(&again) / ask(&whole) - 1.0).abs() < 0.005);
    }
}

#[test]
fn an_expert_timer_answers_like_the_table_it_is_bound_to() {
    let mut samples = Samples::default();
    samples.provenance.system = "h200-sxm".to_owned();
    let mut cache = loads::Cache::default();
    let shape = [2048, 768, 8, 128, 1, 1, 3, routing::PLAIN];
    for skew in [0_u64, 101, 120] {
        for octave in 0..15 {
            let tokens = 1_u64 << octave;
            let load = cache.statistics(&shape, &[skew, tokens]);
            let time = 20.0 + load.active * 2.0 + load.rows * 0.02 + load.hottest * 0.01;
            samples.samples.push(sample(Family::ExpertGemm, &shape, &[skew, tokens], time));
        }
    }
    let profile = fitted(&samples);
    let timer = profile.experts(VARIANT, &shape).unwrap();
    assert_eq!(timer.time(64, &[0; 128]).0, 0);
    for tokens in [64_u64, 1024, 16_384] {
        // Balanced: every expert gets an equal share, as the benchmark deals them.
        let rows = vec![u32::try_from(tokens * 8 / 128).unwrap(); 128];
        let asked = profile.ask(Family::ExpertGemm, VARIANT, &shape, &[0, tokens]).unwrap();
        let bound = timer.time(tokens, &rows).0 as f64 * 1e-3;
        assert!((bound / asked.time_us - 1.0).abs() < 0.01, "{tokens}: {bound} {asked:?}");
    }
}

#[test]
fn a_damaged_file_is_an_error_or_a_profile() {
    let mut few = gemms();
    few.samples.truncate(60);
    let bytes = fitted(&few).write();
    for length in (0..bytes.len()).step_by(7) {
        assert!(Profile::read(&bytes[..length], "cut").is_err(), "{length}");
    }
    for position in 0..bytes.len() {
        for bit in [1_u8, 16, 128] {
            let mut flipped = bytes.clone();
            flipped[position] ^= bit;
            if let Err(error) = Profile::read(&flipped, "flipped") {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a machine may have answered, a fit is finite and a file holds it.
    #[test]
    fn any_positive_times_give_a_profile(
        times in proptest::collection::vec(1e-3_f64..1e7, 1..60),
    ) {
        let mut samples = Samples::default();
        for (index, time) in times.iter().enumerate() {
            let at = 1_u64 << (index % 20);
            let gpus = 2 << (index / 20);
            samples.samples.push(sample(Family::AllReduce, &[gpus], &[at], *time));
        }
        let profile = fitted(&samples);
        prop_assert_eq!(Profile::read(&profile.write(), "again").unwrap(), profile.clone());
        for one in &samples.samples {
            let answer = profile.ask(one.family, &one.variant, &one.shape, &one.at).unwrap();
            prop_assert!(answer.time_us.is_finite() && answer.time_us > 0.0);
        }
    }
}

//! The driver's laws, on a device that makes its times up.

use super::*;
use crate::measure::plan_for;

/// Answers every launch point with the same times, over and over, and counts the calls.
struct Fake {
    times: Vec<f64>,
    calls: Vec<(Point, u32)>,
    refuses: Option<fn(&Point) -> Option<TimingError>>,
}

impl Fake {
    fn new(times: &[f64]) -> Self {
        Self { times: times.to_vec(), calls: Vec::new(), refuses: None }
    }
}

impl Bench for Fake {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn kind(&self) -> Kind {
        Kind::Cuda
    }

    fn time(&mut self, point: &Point, repeats: u32) -> Result<Vec<f64>, TimingError> {
        if let Some(error) = self.refuses.and_then(|refuse| refuse(point)) {
            return Err(error);
        }
        self.calls.push((point.clone(), repeats));
        Ok(self.times.iter().copied().cycle().take(repeats as usize).collect())
    }
}

fn on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn plan() -> Plan {
    let mut plan = plan_for(&Kind::Cuda);
    plan.points.truncate(12);
    plan
}

#[test]
fn the_sample_is_the_median_and_its_spread() {
    // 40 repeats of 1, 2, 3, 4 microseconds: median 2.5, quartiles 1.75 and 3.25.
    let mut bench = Fake::new(&[1.0, 2.0, 3.0, 4.0]);
    let outcome = run(&mut bench, &plan(), &[], &mut on);
    assert_eq!(outcome.samples.len(), 12);
    for sample in &outcome.samples {
        assert!((sample.time_us - 2.5).abs() < 1e-12);
        assert!((sample.spread.unwrap() - 0.3).abs() < 1e-12, "{:?}", sample.spread);
    }
    assert!(bench.calls.chunks(2).all(|pair| {
        pair[0].0 == pair[1].0 && pair[0].1 == plan::WARM_UP && pair[1].1 == plan::REPEATS_MAX
    }));
}

#[test]
fn slow_points_are_repeated_less() {
    let mut bench = Fake::new(&[1e6]);
    let outcome = run(&mut bench, &plan(), &[], &mut on);
    assert!(bench.calls.iter().skip(1).step_by(2).all(|call| call.1 == plan::REPEATS_MIN));
    assert_eq!(outcome.noise, Noise { worst: outcome.noise.worst.clone(), samples: 12, noisy: 0 });
}

#[test]
fn interrupted_and_resumed_is_as_never_interrupted() {
    let whole = run(&mut Fake::new(&[1.0, 2.0]), &plan(), &[], &mut on);
    for stop_after in 0..12 {
        let mut bench = Fake::new(&[1.0, 2.0]);
        let mut stop = |progress: Progress<'_>| {
            let stops = progress.index >= stop_after && !matches!(progress.stage, Stage::Starts);
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let first = run(&mut bench, &plan(), &[], &mut stop);
        assert!(matches!(first.stop, StopReason::Interrupted));
        assert_eq!(first.samples.len(), stop_after + 1);
        let second = run(&mut bench, &plan(), &first.samples, &mut on);
        assert!(matches!(second.stop, StopReason::Finished));
        assert_eq!(second.samples, whole.samples);
        assert_eq!((second.reused, bench.calls.len()), (stop_after + 1, 24));
    }
}

#[test]
fn a_stop_before_a_point_leaves_it_alone() {
    let mut bench = Fake::new(&[1.0]);
    let outcome = run(&mut bench, &plan(), &[], &mut |_| ControlFlow::Break(()));
    assert!(outcome.samples.is_empty() && bench.calls.is_empty());
}

#[test]
fn what_the_device_cannot_do_is_counted_with_the_reason() {
    let mut bench = Fake::new(&[1.0]);
    bench.refuses = Some(|point| {
        (point.at == plan().points[3].at).then(|| TimingError::Unsupported("no room".to_owned()))
    });
    let outcome = run(&mut bench, &plan(), &[], &mut on);
    assert!(!outcome.skipped.is_empty());
    assert_eq!(outcome.samples.len() + outcome.skipped.len(), 12);
    assert!(outcome.skipped.iter().all(|(_, why)| why == "no room"));
}

#[test]
fn a_point_without_its_fields_reaches_no_device() {
    let mut plan = plan();
    plan.points[2].at.clear();
    let mut bench = Fake::new(&[1.0]);
    let outcome = run(&mut bench, &plan, &[], &mut on);
    assert_eq!((outcome.samples.len(), outcome.skipped.len()), (11, 1));
    assert!(plan.seconds_of(&plan.points[2]) > 0.0);
}

#[test]
fn a_broken_device_ends_the_run_and_keeps_what_was_measured() {
    let mut bench = Fake::new(&[1.0]);
    bench.refuses = Some(|point| {
        let broken = Error::Measure { what: "x".to_owned(), found: "it burns".to_owned() };
        (*point == plan().points[5]).then(|| broken.into())
    });
    let outcome = run(&mut bench, &plan(), &[], &mut on);
    assert_eq!(outcome.samples.len(), 5);
    assert!(
        matches!(outcome.stop, StopReason::Failed(error) if error.to_string().contains("burns"))
    );
    let nothing = run(&mut Fake::new(&[0.0]), &plan(), &[], &mut on);
    assert!(matches!(nothing.stop, StopReason::Failed(_)));
}

#[test]
fn a_samples_file_tells_what_went_wrong() {
    let mut bench = Fake::new(&[1.0, 2.0]);
    bench.refuses = Some(|point| {
        let points = plan().points;
        let small = points[..3].contains(point);
        small.then(|| TimingError::Unsupported("no room".to_owned()))
    });
    let mut stop = |progress: Progress<'_>| match progress.index {
        11 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let outcome = run(&mut bench, &plan(), &[], &mut stop);
    let samples = outcome.to_samples(&bench);
    assert_eq!(samples.provenance.system, "fake");
    assert_eq!(samples.samples, outcome.samples);
    assert_eq!(samples.flags.len(), 3, "{:?}", samples.flags);
    assert!(samples.flags[0].starts_with("8 of 8 points spread"));
    assert_eq!(samples.flags[1..], ["3 points skipped: no room", "the run was interrupted"]);

    let mut bytes = Vec::new();
    crate::sample::write_samples(&samples, &mut bytes).unwrap();
    let read = crate::sample::read_samples(&mut bytes.as_slice(), "x").unwrap();
    let resumed = run(&mut Fake::new(&[1.0, 2.0]), &plan(), &read.samples, &mut on);
    assert_eq!((resumed.samples.len(), resumed.reused), (12, 8));
}

#[test]
fn noise_is_summed_up() {
    let points = plan().points;
    let samples: Vec<Sample> = [Some(0.05), None, Some(0.25), Some(0.1)]
        .into_iter()
        .zip(&points)
        .map(|(spread, point)| point.sample(1.0, spread))
        .collect();
    let noise = Noise::of(&samples);
    assert_eq!((noise.samples, noise.noisy), (3, 1));
    assert_eq!(noise.worst, Some((points[2].clone(), 0.25)));
    assert!((noise.share() - 1.0 / 3.0).abs() < 1e-12);
    let text = noise.to_string();
    assert!(text.starts_with("1 of 3 points spread by more than 10 %; the widest by 25.0 %"));
}

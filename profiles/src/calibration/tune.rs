//! Records from a user's own benchmark runs; five are enough.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::descent::{Residuals, Scaled, descend};
use super::{Calibration, Factors, Key, MeasuredRun, Record};

/// What a model of the deployment says about a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Mean time to the first token, milliseconds.
    pub ttft_ms: f64,
    /// Mean time between tokens, milliseconds.
    pub tpot_ms: f64,
}

/// Predicts a run under some factors; `None` where it cannot. It is asked at most 24 times a run.
pub type Predict<'a> = dyn Fn(&MeasuredRun, &Factors) -> Option<Predicted> + Sync + 'a;

/// How to tune. The result does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether runs are predicted on all threads at once.
    pub parallel: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: true }
    }
}

/// A run that no record rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The run.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Median absolute errors, as shares of what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Of the time to the first token.
    pub ttft: f64,
    /// Of the time between tokens.
    pub tpot: f64,
}

/// How the fit of one record went.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The record's key.
    pub key: Key,
    /// Runs that it rests on, repeats included.
    pub runs: usize,
    /// Different settings among them.
    pub points: u32,
    /// Predictions that the fit asked for.
    pub predictions: u64,
    /// Penalised loss of the defaults.
    pub loss_before: f64,
    /// Penalised loss of the record: not above that of the defaults.
    pub loss_after: f64,
    /// Errors of the defaults.
    pub before: Errors,
    /// Errors of the record, on the runs that it was fitted to.
    pub after: Errors,
}

/// What tuning found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuned {
    /// A record for each group of runs.
    pub calibration: Calibration,
    /// How each was fitted, in the same order.
    pub groups: Vec<Group>,
    /// Runs that could not be used.
    pub left_out: Vec<LeftOut>,
}

/// Fits a record to each group of `runs` that share engine, version, kernel source, GPU and model.
///
/// The factors minimise a robust loss of the logarithms of both times plus a penalty for leaving
/// `defaults`: with one run they stay near these, from five on the data decide. Runs of the same
/// setting are repeats: they count as one point with the geometric mean of their times, because
/// what a record must outweigh is the error of the model, which repeats share. The order of `runs`
/// changes nothing. Defaults must be the same for all runs of a group; those of one are asked.
#[must_use]
pub fn tune(
    runs: &[MeasuredRun],
    predict: &Predict<'_>,
    defaults: &(dyn Fn(&MeasuredRun) -> Factors + Sync),
    options: Options,
) -> Tuned {
    let mut left_out = Vec::new();
    let mut groups: BTreeMap<Key, BTreeMap<Setting, Vec<&MeasuredRun>>> = BTreeMap::new();
    for run in runs {
        if [run.ttft_ms, run.tpot_ms].iter().all(|time| *time > 0.0 && time.is_finite()) {
            groups.entry(Key::of(run)).or_default().entry(setting(run)).or_default().push(run);
        } else {
            let reason = "a measured time that is no number above 0".to_owned();
            left_out.push(LeftOut { id: run.id.clone(), reason });
        }
    }
    let groups: Vec<(Key, Vec<Point<'_>>)> = groups
        .into_iter()
        .map(|(key, settings)| (key, settings.into_values().map(Point::new).collect()))
        .collect();
    let fit = |(key, points): (Key, Vec<Point<'_>>)| fit(key, points, predict, defaults, options);
    let fitted: Vec<Fitted> = if options.parallel {
        groups.into_par_iter().map(fit).collect()
    } else {
        groups.into_iter().map(fit).collect()
    };
    let mut tuned = Tuned::default();
    for (found, missed) in fitted {
        left_out.extend(missed);
        if let Some((record, group)) = found {
            tuned.calibration.records.push(record);
            tuned.groups.push(group);
        }
    }
    left_out.sort();
    tuned.left_out = left_out;
    tuned
}

/// What tells the runs of a group apart besides their outcome.
type Setting = ([u32; 8], String, String, String, u64);

fn setting(run: &MeasuredRun) -> Setting {
    let MeasuredRun { n_gpus, tp, ep, moe_tp, dp, isl, osl, concurrency, .. } = *run;
    (
        [n_gpus, tp, ep, moe_tp, dp, isl, osl, concurrency],
        run.arch.clone(),
        run.precision.clone(),
        run.moe_weight_dtype.clone(),
        run.length_range.to_bits(),
    )
}

/// One setting: the run that stands for it, and the logarithms of its times.
struct Point<'a> {
    run: &'a MeasuredRun,
    all: Vec<&'a MeasuredRun>,
    tpot: f64,
    ttft: f64,
}

impl<'a> Point<'a> {
    /// Sums run in an order that is not the file's.
    fn new(mut all: Vec<&'a MeasuredRun>) -> Self {
        all.sort_by(|first, second| {
            let times = first.ttft_ms.total_cmp(&second.ttft_ms);
            times.then(first.tpot_ms.total_cmp(&second.tpot_ms)).then(first.id.cmp(&second.id))
        });
        let mean = |time: fn(&MeasuredRun) -> f64| {
            all.iter().map(|run| time(run).ln()).sum::<f64>() / all.len() as f64
        };
        let (tpot, ttft) = (mean(|run| run.tpot_ms), mean(|run| run.ttft_ms));
        Self { run: all[0], tpot, ttft, all }
    }

    /// Logarithms of predicted over measured times; NaN where there is no prediction.
    fn residuals(&self, predict: &Predict<'_>, factors: &Factors) -> [f64; 2] {
        let positive = |time: f64| if time > 0.0 && time.is_finite() { time } else { f64::NAN };
        predict(self.run, factors).map_or([f64::NAN; 2], |found| {
            let (tpot, ttft) = (positive(found.tpot_ms), positive(found.ttft_ms));
            [tpot.ln() - self.tpot, ttft.ln() - self.ttft]
        })
    }
}

/// A record with how it was fitted, where any run could be predicted; and those that could not.
type Fitted = (Option<(Record, Group)>, Vec<LeftOut>);

fn fit(
    key: Key,
    mut points: Vec<Point<'_>>,
    predict: &Predict<'_>,
    defaults: &(dyn Fn(&MeasuredRun) -> Factors + Sync),
    options: Options,
) -> Fitted {
    let Some(first) = points.first() else { return (None, Vec::new()) };
    let base = defaults(first.run);
    let predict_all = |points: &[Point<'_>], factors: &Factors| -> Residuals {
        let one = |point: &Point<'_>| point.residuals(predict, factors);
        if options.parallel {
            points.par_iter().with_max_len(1).map(one).collect()
        } else {
            points.iter().map(one).collect()
        }
    };
    let mut start = predict_all(&points, &base);
    let asked = points.len() as u64;
    let known: Vec<bool> = start.iter().map(|pair| pair.iter().all(|one| !one.is_nan())).collect();
    let mut left_out = Vec::new();
    for (point, _) in points.iter().zip(&known).filter(|(_, known)| !**known) {
        left_out.extend(point.all.iter().map(|run| LeftOut {
            id: run.id.clone(),
            reason: "no prediction for its model, machine or lengths".to_owned(),
        }));
    }
    let mut keep = known.iter();
    points.retain(|_| keep.next() == Some(&true));
    start.retain(|pair| pair.iter().all(|one| !one.is_nan()));
    if points.is_empty() {
        return (None, left_out);
    }
    let evaluate = |at: &Scaled| predict_all(&points, &scaled(&base, at));
    let found = descend(&start, &evaluate);
    let count = u32::try_from(points.len()).unwrap_or(u32::MAX);
    let group = Group {
        key: key.clone(),
        runs: points.iter().map(|point| point.all.len()).sum(),
        points: count,
        predictions: asked + u64::from(found.evaluations - 1) * points.len() as u64,
        loss_before: found.loss_before,
        loss_after: found.loss,
        before: errors(&start),
        after: errors(&found.residuals),
    };
    let mut runs: Vec<String> =
        points.iter().flat_map(|point| &point.all).map(|run| run.id.clone()).collect();
    runs.sort();
    let record = Record { key, factors: scaled(&base, &found.at), points: count, runs };
    (Some((record, group)), left_out)
}

/// `base` times `at`; a time of zero is scaled as a microsecond, or it could never be left.
fn scaled(base: &Factors, at: &Scaled) -> Factors {
    if *at == [1.0; 4] {
        return *base;
    }
    let mut numbers = base.numbers();
    for (which, (number, scale)) in numbers.iter_mut().zip(at).enumerate() {
        let floor = if which < 2 { 0.0 } else { 1e3 };
        *number = number.max(floor) * scale;
    }
    Factors::from_numbers(numbers)
}

fn errors(residuals: &Residuals) -> Errors {
    let median = |figure: usize| {
        let mut all: Vec<f64> =
            residuals.iter().map(|pair| (pair[figure].exp() - 1.0).abs()).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        if all.len() % 2 == 1 { all[middle] } else { f64::midpoint(all[middle - 1], all[middle]) }
    };
    Errors { ttft: median(1), tpot: median(0) }
}

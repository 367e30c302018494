//! What every importer asks of foreign timings before they become samples.
//!
//! Repeated keys become one sample (the median), a time that stands out against both of its
//! neighbours is left out, and a jump that only a mistaken unit explains is an error. What was
//! left out is counted in flags: rows in = samples out + rows that flags count. Times that fall
//! as work grows are real (another kernel is picked) and stay.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::sample::{Family, Sample};
use crate::{Error, Result};

/// A natural logarithm: further from both neighbours than this is a spike.
const SPIKE: f64 = 0.5;

/// A factor: more than this between neighbours is a mistaken unit, which is a factor of 1000.
/// Runs that stalled are real: up to 191 times their neighbours in TensorRT-LLM's H200 tables.
const UNIT: f64 = 300.0;

/// Repeats further apart than this, over their median, are worth a flag.
const REPEAT_SPREAD: f64 = 0.1;

/// Points that this share of series have are holes in the others, in tenths.
const COMMON_TENTHS: usize = 9;

/// A foreign timing and where it stands in its file, counted from 1.
pub(super) struct Row {
    pub(super) row: usize,
    pub(super) sample: Sample,
}

/// Samples that passed, and what is to be known about them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Checked {
    pub(super) samples: Vec<Sample>,
    pub(super) flags: Vec<String>,
}

/// Checks the `rows` of one file, which errors and flags call `path`.
///
/// # Errors
/// [`Error::Invalid`] with the row: a time that is none, or that was written in another unit.
pub(super) fn check(path: &str, mut rows: Vec<Row>) -> Result<Checked> {
    for Row { row, sample } in &rows {
        if !(sample.time_us.is_finite() && sample.time_us > 0.0) {
            let found = format!("a time of {} us", sample.time_us);
            return Err(invalid(path, format!("row {row}"), found, "a time above 0"));
        }
    }
    rows.sort_by(|a, b| compare(&a.sample, &b.sample).then(a.row.cmp(&b.row)));
    let before = rows.len();
    let mut flags = Vec::new();
    let (rows, spread) = merge(rows);
    if rows.len() < before {
        let repeats = before - rows.len();
        let far = match spread {
            0 => String::new(),
            _ => format!("; {spread} of the keys spread by more than 10%"),
        };
        flags.push(format!("{path}: {repeats} rows repeat a key, medians are kept{far}"));
    }
    let holes = holes(&rows);
    if holes > 0 {
        let name = "points that nine of ten series have are missing inside others";
        flags.push(format!("{path}: {holes} {name}"));
    }
    let spikes = spikes(path, &rows)?;
    let left_out = spikes.iter().filter(|spike| **spike).count();
    if left_out > 0 {
        let what = "rows stand out against both neighbours and are left out";
        flags.push(format!("{path}: {left_out} of {} {what}", rows.len()));
    }
    let kept = rows.into_iter().zip(spikes).filter(|(_, spike)| !spike);
    Ok(Checked { samples: kept.map(|(row, _)| row.sample).collect(), flags })
}

/// The error that `path` says `found` at `key`, where `expected` would be right.
pub(super) fn invalid(
    path: &str,
    key: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        key: key.into(),
        found: found.into(),
        expected: expected.into(),
    }
}

fn compare(a: &Sample, b: &Sample) -> Ordering {
    let key = |sample: &Sample| sample.family;
    key(a)
        .cmp(&key(b))
        .then_with(|| a.variant.cmp(&b.variant))
        .then_with(|| a.shape.cmp(&b.shape))
        .then_with(|| a.at.cmp(&b.at))
}

/// One row a key, and how many keys had repeats far apart.
fn merge(rows: Vec<Row>) -> (Vec<Row>, usize) {
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    let mut times: Vec<f64> = Vec::new();
    let mut far = 0;
    for row in rows {
        match merged.last_mut() {
            Some(last) if compare(&last.sample, &row.sample) == Ordering::Equal => {
                times.push(row.sample.time_us);
            }
            _ => {
                far += usize::from(settle(merged.last_mut(), &mut times));
                times.push(row.sample.time_us);
                merged.push(row);
            }
        }
    }
    far += usize::from(settle(merged.last_mut(), &mut times));
    (merged, far)
}

/// Gives `row` the median of `times`, empties them and says whether they were far apart.
fn settle(row: Option<&mut Row>, times: &mut Vec<f64>) -> bool {
    let mut far = false;
    if let (Some(row), true) = (row, times.len() > 1) {
        times.sort_by(f64::total_cmp);
        let median = quantile(times, 0.5);
        row.sample.time_us = median;
        row.sample.spread = Some((quantile(times, 0.75) - quantile(times, 0.25)) / 2.0 / median);
        far = (times[times.len() - 1] - times[0]) / median > REPEAT_SPREAD;
    }
    times.clear();
    far
}

/// The `share` quantile of sorted `times`, interpolated.
fn quantile(times: &[f64], share: f64) -> f64 {
    let at = share * (times.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = times[(low + 1).min(times.len() - 1)];
    times[low] + part * (high - times[low])
}

/// Whether two rows differ only in the innermost measure of work.
fn same_series(a: &Sample, b: &Sample) -> bool {
    let outer = |sample: &Sample| sample.at.len().saturating_sub(1);
    a.family == b.family
        && a.variant == b.variant
        && a.shape == b.shape
        && a.at[..outer(a)] == b.at[..outer(b)]
}

fn series(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    rows.chunk_by(|a, b| same_series(&a.sample, &b.sample))
}

fn innermost(sample: &Sample) -> u64 {
    sample.at.last().copied().unwrap_or(0)
}

/// Which rows stand out against both neighbours.
///
/// # Errors
/// [`Error::Invalid`] where a step says that the unit changed.
fn spikes(path: &str, rows: &[Row]) -> Result<Vec<bool>> {
    let mut spikes = Vec::with_capacity(rows.len());
    for series in series(rows) {
        for pair in series.windows(2) {
            let work =
                innermost(&pair[1].sample) as f64 / (innermost(&pair[0].sample) as f64).max(1.0);
            let step = pair[1].sample.time_us / pair[0].sample.time_us;
            if step > UNIT * work.max(1.0) || step < 1.0 / UNIT {
                return Err(unit_mistake(path, &pair[0], &pair[1]));
            }
        }
        for (index, row) in series.iter().enumerate() {
            let log = |other: &Row| (row.sample.time_us / other.sample.time_us).ln();
            spikes.push(match (index.checked_sub(1), series.get(index + 1)) {
                (Some(before), Some(after)) => {
                    let (before, after) = (log(&series[before]), log(after));
                    before.abs().min(after.abs()) > SPIKE && before.signum() == after.signum()
                }
                _ => false,
            });
        }
    }
    Ok(spikes)
}

fn unit_mistake(path: &str, before: &Row, after: &Row) -> Error {
    let fields = after.sample.family.fields();
    let axis = fields.at.last().copied().unwrap_or("work");
    let found = format!(
        "{} us at {axis} {} beside {} us at {axis} {} (row {})",
        after.sample.time_us,
        innermost(&after.sample),
        before.sample.time_us,
        innermost(&before.sample),
        before.row
    );
    let expected = "times in one unit, at most 300 times apart between neighbours";
    invalid(path, format!("row {}", after.row), found, expected)
}

/// How many points are missing inside series where nearly all series of their kind have them.
fn holes(rows: &[Row]) -> usize {
    /// How many series begin, end and have a point there.
    #[derive(Default)]
    struct Point {
        begin: usize,
        end: usize,
        present: usize,
    }
    let mut points: BTreeMap<(Family, &str), BTreeMap<u64, Point>> = BTreeMap::new();
    for series in series(rows) {
        let (first, last) = (&series[0].sample, &series[series.len() - 1].sample);
        let kind = points.entry((first.family, first.variant.as_str())).or_default();
        kind.entry(innermost(first)).or_default().begin += 1;
        kind.entry(innermost(last)).or_default().end += 1;
        for row in series {
            kind.entry(innermost(&row.sample)).or_default().present += 1;
        }
    }
    let mut holes = 0;
    for kind in points.values() {
        let mut covering = 0;
        for point in kind.values() {
            covering += point.begin;
            if point.present * 10 >= covering * COMMON_TENTHS {
                holes += covering - point.present;
            }
            covering -= point.end;
        }
    }
    holes
}

/// Half the distance between the quartiles is unknown where a source gives none.
pub(super) fn timed(
    family: Family,
    variant: &str,
    shape: &[u32],
    at: &[u64],
    time_us: f64,
) -> Sample {
    Sample {
        family,
        variant: variant.to_owned(),
        shape: shape.to_vec(),
        at: at.to_vec(),
        time_us,
        spread: None,
    }
}

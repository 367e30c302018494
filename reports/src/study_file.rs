//! `study.json`: what `moecast study` leaves and its figure and page are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::versioned::parse;

/// Version of `study.json` that this build reads and writes.
pub const VERSION: u32 = 1;

/// Key of the time that a figure of a study has along its axis.
pub(crate) const TIME: &str = "tpot_ms_p50";
/// Key of the rate that it has upwards.
pub(crate) const RATE: &str = "output_tokens_per_second_per_gpu";

/// Share of the requests that a point must serve within their limits to be called good.
pub(crate) const KEPT_SHARE: f64 = 0.99;

/// Points of a study: services that differ in some keys, and what was found of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// [`VERSION`].
    pub version: u32,
    /// Version of moecast, the number alone.
    pub tool: String,
    /// Name of the study.
    pub study: String,
    /// What all points have in common, for people: model, engine and so on.
    pub common: Vec<(String, String)>,
    /// Keys that differ, in the order of the columns.
    pub keys: Vec<String>,
    /// Names of what was found, in the order of the columns.
    pub figures: Vec<String>,
    /// The points.
    pub points: Vec<StudyPoint>,
    /// What a reader must know to judge the figures.
    pub remarks: Vec<String>,
}

/// One service of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyPoint {
    /// Its number, from 0.
    pub point: u32,
    /// Digest of everything that it was simulated from; absent for what cannot exist.
    pub digest: Option<String>,
    /// Its value of every key that differs; null where its file does not have the key.
    pub values: BTreeMap<String, Value>,
    /// Values of the keys that are not of the load, in short.
    pub series: String,
    /// Values of the keys of the load, in short.
    pub load: String,
    /// How a replica of every pool is divided, and how many replicas there are.
    pub layout: Vec<String>,
    /// GPUs; absent for what cannot exist.
    pub gpus: Option<u32>,
    /// Whether no other point is both faster for a request and faster for a GPU.
    pub frontier: bool,
    /// Why it cannot exist.
    pub skipped: Option<String>,
    /// What was found; empty for what cannot exist.
    pub figures: BTreeMap<String, Option<f64>>,
}

impl StudyFile {
    /// Reads `study.json`. `path` is named in errors.
    ///
    /// # Errors
    /// When the text holds no points, or those of another version.
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        parse(text, path, VERSION, "points written by `moecast study --out`")
    }

    /// Marks the points that no other beats in both: time between tokens and tokens by GPU. Of
    /// equal points the first one is marked. Cost: as sorting.
    pub fn mark_frontier(&mut self) {
        let mut order: Vec<(usize, f64, f64)> = Vec::new();
        for (index, point) in self.points.iter_mut().enumerate() {
            point.frontier = false;
            order.extend(point.place().map(|(time, rate)| (index, time, rate)));
        }
        order.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
        let mut best = f64::NEG_INFINITY;
        for (index, _, rate) in order {
            if rate > best {
                best = rate;
                self.points[index].frontier = true;
            }
        }
    }
}

impl StudyFile {
    /// The point with most tokens by GPU of those that serve 99% of the requests within their
    /// limits, where limits were asked for; the first of equals.
    #[must_use]
    pub fn best_within_limits(&self) -> Option<&StudyPoint> {
        let keeps = |point: &&StudyPoint| {
            point.figure("goodput_share").is_some_and(|share| share >= KEPT_SHARE)
        };
        let rate = |point: &StudyPoint| point.figure(RATE).unwrap_or(0.0);
        self.points.iter().rev().filter(keeps).max_by(|a, b| rate(a).total_cmp(&rate(b)))
    }

    /// Whether limits were asked for.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.points.iter().any(|point| point.figure("goodput_share").is_some())
    }
}

impl StudyPoint {
    /// What tells it from the others, in short.
    #[must_use]
    pub fn name(&self) -> String {
        let parts = [&self.series, &self.load].map(String::as_str);
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { format!("point {}", self.point) } else { parts.join(", ") }
    }

    /// Time between tokens, ms, and tokens of answers per second and GPU, where it has both.
    pub(crate) fn place(&self) -> Option<(f64, f64)> {
        let time = self.figure(TIME).filter(|&time| time > 0.0)?;
        Some((time, self.figure(RATE)?))
    }

    /// What was found under `name`, if it is a number.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied().flatten().filter(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::study;

    #[test]
    fn what_was_written_is_read_again() {
        let text = serde_json::to_vec(&study(3, 4)).unwrap();
        assert_eq!(StudyFile::read(&text, "study.json").unwrap(), study(3, 4));
        let newer = StudyFile { version: 2, ..study(1, 1) };
        let text = serde_json::to_vec(&newer).unwrap();
        let error = StudyFile::read(&text, "study.json").unwrap_err().to_string();
        assert_eq!(error, "study.json: key `version`: 2; expected 1");
    }

    /// Point 1 makes more for a GPU than point 0 and point 2 more than both, but too slowly.
    #[test]
    fn the_best_within_limits_is_not_the_best_of_all() {
        let mut file = study(1, 4);
        assert!(!file.has_limits() && file.best_within_limits().is_none());
        for (point, share) in file.points.iter_mut().zip([1.0, 0.99, 0.98]) {
            point.figures.insert("goodput_share".to_owned(), Some(share));
        }
        assert_eq!(file.best_within_limits().map(|point| point.point), Some(1));
        assert!(file.has_limits());
    }

    /// A point on the frontier is beaten by none, and every other one by one that is on it.
    #[test]
    fn the_frontier_beats_the_rest_and_nothing_beats_it() {
        let mut file = study(3, 5);
        let twin = file.points[4].clone();
        file.points.push(twin);
        file.mark_frontier();
        let places: Vec<_> = file.points.iter().map(|it| (it.place(), it.frontier)).collect();
        let beats =
            |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 >= b.1 && (a.0 < b.0 || a.1 > b.1);
        for (index, (place, frontier)) in places.iter().enumerate() {
            let Some(place) = *place else {
                assert!(!frontier);
                continue;
            };
            let others = places.iter().filter_map(|(other, on)| on.then_some((*other)?));
            let beaten = others.clone().any(|other| beats(other, place));
            let twin = others.filter(|other| *other == place).count() == 1;
            assert_eq!(*frontier, !beaten && twin && index != 15, "point {index}");
        }
    }
}

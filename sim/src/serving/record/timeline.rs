//! How a run went over time, in a bounded number of points: when they are full, neighbours become
//! one, and each point from then on stands for twice as many passes.

use moecast_profiles::units::SimTime;
use serde::{Deserialize, Serialize};

use super::{PassRecord, seconds};
use crate::record::ratio;

/// A stretch of a run. Levels are of one replica: means over the passes of all, weighted by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelinePoint {
    /// Start of its first pass, seconds since the start of the run.
    pub time_s: f64,
    /// Requests that a replica is working on.
    pub running: f64,
    /// Requests that wait for a replica.
    pub waiting: f64,
    /// Share of its KV memory in use.
    pub kv_share: f64,
    /// Max over mean rank load, weighted by tokens; 0 without load.
    pub imbalance: f64,
    /// Prompt and answer tokens of all replicas per second, until the next point starts.
    pub tokens_per_second: f64,
}

/// Sums over the passes of one point.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: SimTime,
    end: SimTime,
    time_s: f64,
    running: f64,
    waiting: f64,
    kv_share: f64,
    imbalance: f64,
    imbalance_tokens: f64,
    tokens: f64,
}

impl Stretch {
    fn of(pass: &PassRecord<'_>) -> Self {
        let time_s = seconds(pass.time);
        let loaded = if pass.imbalance > 0.0 { pass.tokens() } else { 0.0 };
        Self {
            start: pass.start,
            end: pass.start + pass.time,
            time_s,
            running: f64::from(pass.running) * time_s,
            waiting: f64::from(pass.waiting) * time_s,
            kv_share: pass.kv_share() * time_s,
            imbalance: pass.imbalance * loaded,
            imbalance_tokens: loaded,
            tokens: pass.tokens(),
        }
    }

    fn with(self, next: Self) -> Self {
        Self {
            start: self.start.min(next.start),
            end: self.end.max(next.end),
            time_s: self.time_s + next.time_s,
            running: self.running + next.running,
            waiting: self.waiting + next.waiting,
            kv_share: self.kv_share + next.kv_share,
            imbalance: self.imbalance + next.imbalance,
            imbalance_tokens: self.imbalance_tokens + next.imbalance_tokens,
            tokens: self.tokens + next.tokens,
        }
    }

    fn point(&self, until: SimTime) -> TimelinePoint {
        // Passes of replicas overlap, so the next stretch may start before this one.
        let until = until.max(self.start);
        TimelinePoint {
            time_s: seconds(self.start.since(SimTime(0))),
            running: ratio(self.running, self.time_s),
            waiting: ratio(self.waiting, self.time_s),
            kv_share: ratio(self.kv_share, self.time_s),
            imbalance: ratio(self.imbalance, self.imbalance_tokens),
            tokens_per_second: ratio(self.tokens, seconds(until.since(self.start))),
        }
    }
}

/// At most so many stretches of equally many passes; the last may still lack some.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    stretches: Vec<Stretch>,
    passes_per_stretch: u64,
    passes_of_last: u64,
    points_max: usize,
}

impl Timeline {
    pub(super) fn new(points_max: usize) -> Self {
        Self { stretches: Vec::new(), passes_per_stretch: 1, passes_of_last: 1, points_max }
    }

    pub(super) fn add(&mut self, pass: &PassRecord<'_>) {
        if self.points_max == 0 {
            return;
        }
        if self.stretches.len() == self.points_max && self.passes_of_last == self.passes_per_stretch
        {
            self.halve();
        }
        let own = Stretch::of(pass);
        match self.stretches.last_mut() {
            Some(last) if self.passes_of_last < self.passes_per_stretch => {
                *last = last.with(own);
                self.passes_of_last += 1;
            }
            _ => {
                self.stretches.push(own);
                self.passes_of_last = 1;
            }
        }
    }

    /// Joins neighbours; an odd one out is half full.
    fn halve(&mut self) {
        let odd = self.stretches.len() % 2 == 1;
        let join = |pair: &[Stretch]| pair.iter().copied().reduce(Stretch::with);
        self.stretches = self.stretches.chunks(2).filter_map(join).collect();
        self.passes_per_stretch *= 2;
        self.passes_of_last = if odd { self.passes_of_last } else { self.passes_per_stretch };
    }

    /// One point per stretch.
    pub(super) fn points(&self) -> Vec<TimelinePoint> {
        let starts = self.stretches.iter().skip(1).map(|next| next.start);
        let end = self.stretches.last().map(|last| last.end);
        self.stretches
            .iter()
            .zip(starts.chain(end))
            .map(|(stretch, until)| stretch.point(until))
            .collect()
    }
}

//! Requests that are served: each borrows the routing of one recorded request.

use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Nanos, SimTime};
use moecast_traces::{Phase, RoutingTrace};
use rand::RngExt as _;

/// Rows of the recording that one request borrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the request in the recording.
    pub request: u32,
    /// Rows of its prompt, by position.
    pub prompt: Vec<usize>,
    /// Rows of its answer, by position.
    pub answer: Vec<usize>,
}

/// The requests of a recording, in order of first appearance; empty where it only counted. At
/// most so many tokens of every prompt and answer are kept.
#[must_use]
pub fn recorded(trace: &RoutingTrace, prompt_max: usize, answer_max: usize) -> Vec<Recorded> {
    let Some(columns) = trace.tokens() else { return Vec::new() };
    let mut order: Vec<usize> = (0..columns.step.len()).collect();
    order.sort_by_key(|&row| (columns.request[row], columns.position[row]));
    let mut first_row: Vec<(usize, Recorded)> = Vec::new();
    for row in order {
        let request = columns.request[row];
        if first_row.last().is_none_or(|(_, last)| last.request != request) {
            first_row.push((row, Recorded { request, ..Recorded::default() }));
        }
        let (first, own) = first_row.last_mut().expect("pushed");
        *first = (*first).min(row);
        match Phase::from_code(columns.phase[row]) {
            Some(Phase::Prefill) if own.prompt.len() < prompt_max => own.prompt.push(row),
            Some(Phase::Decode) if own.answer.len() < answer_max => own.answer.push(row),
            _ => {}
        }
    }
    first_row.sort_by_key(|(first, _)| *first);
    first_row.into_iter().map(|(_, own)| own).collect()
}

/// When `count` requests come that know nothing of each other, `rate` a second (Poisson).
#[must_use]
pub fn arrivals(count: usize, rate: f64, seed: Seed) -> Vec<SimTime> {
    let mut generator = seed.stream("offload/arrivals");
    let mut at = 0.0_f64;
    (0..count)
        .map(|_| {
            let draw: f64 = generator.random();
            at -= (1.0 - draw).ln() / rate;
            SimTime(Nanos::ceil_from(at * 1e9).0)
        })
        .collect()
}

/// One request under way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) recorded: usize,
    pub(super) arrival: SimTime,
    /// Prompt tokens that are done, and tokens that have been generated after the first.
    pub(super) prompt: usize,
    pub(super) answer: usize,
    pub(super) first: Option<SimTime>,
    /// Pass in which it was last worked on.
    pub(super) served: u64,
}

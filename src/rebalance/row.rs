//! One policy's answer, as printed and as written.

use std::fmt::Write;

use moecast_profiles::units::{Bytes, Nanos};
use moecast_sim::Run;
use moecast_sim::rebalance::{Moved, Rebalanced};
use serde::Serialize;

/// What one policy does to the whole recording.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// `never`, `blocking`, `layer-by-layer`, `every-step` or `clairvoyant`.
    pub(super) policy: String,
    pub(super) algorithm: Option<String>,
    /// Steps between two looks at the loads.
    pub(super) interval: Option<usize>,
    /// Mean over steps, without what they wait.
    pub(super) step_time_us: f64,
    /// Waiting for algorithm and weights, all steps together.
    pub(super) stall_ms: f64,
    /// All steps with what they wait.
    pub(super) time_ms: f64,
    /// Share of the time without rebalancing that is saved; below 0 it is lost.
    pub(super) gain: f64,
    /// Max over mean rank load, mean over layers and steps.
    pub(super) imbalance: f64,
    /// How often loads were looked at, and the algorithm asked.
    pub(super) considered: u64,
    pub(super) calls: u64,
    pub(super) slots_moved: u64,
    pub(super) bytes_moved: BytesMoved,
    pub(super) rebalancings: Vec<Event>,
}

/// Bytes of weights by class of link.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct BytesMoved {
    pub(super) local: u64,
    pub(super) domain: u64,
    pub(super) network: u64,
}

impl From<&Moved> for BytesMoved {
    fn from(moved: &Moved) -> Self {
        let [local, domain, network] = moved.bytes.map(|bytes| bytes.0);
        Self { local, domain, network }
    }
}

/// One placement that was proposed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// Steps served before it.
    pub(super) step: usize,
    /// Max over mean rank load of the window, as served and as proposed.
    pub(super) imbalance_before: f64,
    pub(super) imbalance_proposed: f64,
    pub(super) slots_moved: u64,
    pub(super) bytes_moved: BytesMoved,
    pub(super) stall_ms: f64,
}

/// A row, and the steps that it is made from.
pub(super) struct Made {
    pub(super) row: Row,
    run: Run,
    stalls: Vec<Nanos>,
}

fn ms(time: Nanos) -> f64 {
    time.as_micros() / 1e3
}

impl Made {
    /// The placement that never changes.
    pub(super) fn never(run: Run) -> Self {
        let summary = run.summary();
        let time: Nanos = run.steps.iter().map(|step| step.parts.total()).sum();
        let row = Row {
            policy: "never".to_owned(),
            algorithm: None,
            interval: None,
            step_time_us: summary.step_time_us.mean,
            stall_ms: 0.0,
            time_ms: ms(time),
            gain: 0.0,
            imbalance: summary.imbalance,
            considered: 0,
            calls: 0,
            slots_moved: 0,
            bytes_moved: BytesMoved::from(&Moved::default()),
            rebalancings: Vec::new(),
        };
        let stalls = vec![Nanos(0); run.steps.len()];
        Self { row, run, stalls }
    }

    /// What a policy served, against `never`.
    pub(super) fn new(
        policy: &str,
        algorithm: Option<&String>,
        interval: Option<usize>,
        served: Rebalanced,
        never: &Row,
    ) -> Self {
        let summary = served.run.summary();
        let time_ms = ms(served.time());
        let event = |one: &moecast_sim::rebalance::Rebalancing| Event {
            step: one.step,
            imbalance_before: one.before,
            imbalance_proposed: one.proposed,
            slots_moved: one.moved.slots,
            bytes_moved: BytesMoved::from(&one.moved),
            stall_ms: ms(one.stall),
        };
        let row = Row {
            policy: policy.to_owned(),
            algorithm: algorithm.cloned(),
            interval,
            step_time_us: summary.step_time_us.mean,
            stall_ms: ms(served.stall()),
            time_ms,
            gain: if never.time_ms > 0.0 { 1.0 - time_ms / never.time_ms } else { 0.0 },
            imbalance: summary.imbalance,
            considered: served.considered,
            calls: served.calls,
            slots_moved: served.moved.slots,
            bytes_moved: BytesMoved::from(&served.moved),
            rebalancings: served.rebalancings.iter().map(event).collect(),
        };
        Self { row, run: served.run, stalls: served.stalls }
    }
}

impl Row {
    /// The policy with its algorithm.
    pub(super) fn name(&self) -> String {
        match &self.algorithm {
            Some(algorithm) => format!("{} {algorithm}", self.policy),
            None => self.policy.clone(),
        }
    }

    /// Bytes of weights that crossed a link.
    pub(super) fn over_links(&self) -> Bytes {
        Bytes(self.bytes_moved.domain + self.bytes_moved.network)
    }
}

/// A line for every step of every policy.
pub(super) fn csv(made: &[Made]) -> Vec<u8> {
    let mut text = "policy,algorithm,interval,step,time_ns,stall_ns,imbalance\n".to_owned();
    for Made { row, run, stalls } in made {
        let algorithm = row.algorithm.as_deref().unwrap_or_default();
        let interval = row.interval.map_or_else(String::new, |interval| interval.to_string());
        for (step, stall) in run.steps.iter().zip(stalls) {
            let time = step.parts.total();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{},{algorithm},{interval},{},{},{},{}",
                row.policy, step.step, time.0, stall.0, step.imbalance
            );
        }
    }
    text.into_bytes()
}

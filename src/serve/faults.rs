//! What every fault of a service did, as printed and as written.

use std::fmt::Write;

use moecast_sim::serving::faults::{FaultFile, FaultKind, FaultRecord, Missing};
use serde::{Deserialize, Serialize};

/// A fault and its consequences.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    pub(crate) fault: FaultFile,
    /// Whether anybody was served, or to be served, when it began.
    pub(crate) mattered: bool,
    pub(crate) requests_retried: u64,
    pub(crate) requests_lost: u64,
    /// Tokens whose cache was lost.
    pub(crate) tokens_lost: u64,
    /// Passes that came to nothing.
    pub(crate) passes_lost: u64,
    /// Whether the replica served nobody from then on.
    pub(crate) replica_stopped: bool,
    /// Experts that no rank held any more, by ordinal of the MoE layer.
    pub(crate) experts_missing: Vec<Missing>,
}

/// One outcome for every fault of the file.
pub(super) fn outcomes(faults: &[FaultFile], records: &[FaultRecord]) -> Vec<Outcome> {
    let outcome = |(number, fault): (usize, &FaultFile)| {
        let record = records.iter().find(|record| record.fault == number);
        let count = |of: fn(&FaultRecord) -> u64| record.map_or(0, of);
        Outcome {
            fault: fault.clone(),
            mattered: record.is_some(),
            requests_retried: count(|record| record.retried),
            requests_lost: count(|record| record.lost),
            tokens_lost: count(|record| record.lost_tokens),
            passes_lost: count(|record| record.passes),
            replica_stopped: record.is_some_and(|record| record.stops),
            experts_missing: record.map_or(Vec::new(), |record| record.missing.clone()),
        }
    };
    faults.iter().enumerate().map(outcome).collect()
}

impl Outcome {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let fault = &self.fault;
        let mut text =
            format!("fault at {}: {}, replica {}", fault.at, fault.what.name(), fault.replica);
        // Writing to a string cannot fail.
        let _ = match (fault.rank, fault.node, fault.factor) {
            (Some(rank), _, Some(factor)) => write!(text, ", rank {rank} {factor} times as slow"),
            (Some(rank), ..) => write!(text, ", rank {rank}"),
            (_, Some(node), _) => write!(text, ", node {node}"),
            (.., Some(factor)) => write!(text, ", {factor} times as slow"),
            _ => Ok(()),
        };
        if let Some(until) = fault.until {
            let _ = write!(text, ", until {until}");
        }
        text.push_str(": ");
        if !self.mattered {
            text.push_str("nobody was left to be served");
            return text;
        }
        let lost = matches!(fault.what, FaultKind::RankLost | FaultKind::NodeLost);
        if !lost {
            text.push_str("later passes take longer");
            return text;
        }
        let _ = write!(
            text,
            "{} requests sent back, {} lost, {} tokens to be read again, {} passes for nothing; ",
            self.requests_retried, self.requests_lost, self.tokens_lost, self.passes_lost
        );
        let _ = match (self.replica_stopped, self.experts_missing.first()) {
            (true, Some(first)) => write!(
                text,
                "the replica stops: {} experts without a slot in {} MoE layers (layer {}: {})",
                self.experts_missing.iter().map(|layer| u32::from(layer.count)).sum::<u32>(),
                self.experts_missing.len(),
                first.layer,
                named(first)
            ),
            (true, None) => write!(text, "the replica stops"),
            (false, Some(_)) => write!(text, "the replica had stopped before"),
            (false, None) => write!(text, "its other ranks go on"),
        };
        text
    }
}

/// The first few experts of a layer, and how many more.
fn named(missing: &Missing) -> String {
    let first: Vec<String> = missing.first.iter().map(ToString::to_string).collect();
    match usize::from(missing.count) - missing.first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

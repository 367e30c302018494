//! `run.json`: what `moecast simulate` leaves and a report is made from.

use moecast_profiles::cost::Known;
use moecast_sim::Summary;
use moecast_traces::InputDigest;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::versioned::parse;

/// Version of `run.json` that this build reads and writes.
pub const VERSION: u32 = 2;

/// What the recording was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceFacts {
    /// Importer or generator.
    pub source: String,
    /// True when it was generated; shown wherever the trace is shown.
    pub synthetic: bool,
    /// Tokens in the simulated part.
    pub tokens: u64,
    /// Requests in the simulated part, where known.
    pub requests: Option<usize>,
    /// Experts that one token chose per layer, at most.
    pub top_k: u16,
    /// Which part was simulated: "heldout", "train" or "all".
    pub part: String,
    /// The files it was made from.
    pub inputs: Vec<InputDigest>,
    /// Remarks of the importer.
    pub remarks: Vec<String>,
}

/// One simulated placement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// "linear", "eplb", "plan".
    pub name: String,
    /// Physical slots per layer.
    pub slots: u16,
    /// Slots that hold a second copy of an expert on the same rank.
    pub wasted_slots: usize,
    /// What the simulation says.
    pub summary: Summary,
}

/// A finished comparison of placements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// [`VERSION`].
    pub version: u32,
    /// The program and its version: `moecast 0.1.0`.
    pub tool: String,
    /// Model.
    pub model: String,
    /// Cluster, `PRESET:NODESxGPUS`.
    pub cluster: String,
    /// Ranks.
    pub ranks: u16,
    /// Engine whose replica rule was used.
    pub engine: String,
    /// Kernel cost model.
    pub cost: String,
    /// How the times of every kernel are known; empty for cost models without measurements.
    pub kernels: Vec<Known>,
    /// What is suspicious about their measurements.
    pub kernel_flags: Vec<String>,
    /// The recording.
    pub trace: TraceFacts,
    /// Absolute layer number of every MoE layer.
    pub layers: Vec<u16>,
    /// `[M][E]` tokens per expert in the simulated part.
    pub popularity: Vec<Vec<u64>>,
    /// Lower bound of the imbalance over all placements with as many slots as the plan.
    pub imbalance_bound: f64,
    /// The placements, the baseline first and the plan last.
    pub candidates: Vec<Candidate>,
    /// What a reader must know to judge the figures.
    pub remarks: Vec<String>,
}

impl RunFile {
    /// Reads `run.json`. `path` is named in errors.
    ///
    /// # Errors
    /// When the text is no run, of another version, or its shapes disagree.
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        let run: Self = parse(text, path, VERSION, "a run written by `moecast simulate`")?;
        let invalid = |place: String, found, expected| Error::invalid(path, place, found, expected);
        if run.popularity.len() != run.layers.len() {
            let found = format!("{} layers", run.popularity.len());
            return Err(invalid("key `popularity`".to_owned(), found, "one row per layer"));
        }
        for candidate in &run.candidates {
            let summary = &candidate.summary;
            let shape = summary.rank_load.len() == run.layers.len()
                && summary.imbalance_per_layer.len() == run.layers.len()
                && summary.rank_utilisation.len() == usize::from(run.ranks)
                && summary.rank_load.iter().all(|row| row.len() == usize::from(run.ranks));
            if !shape {
                let place = format!("candidate `{}`", candidate.name);
                return Err(invalid(place, "arrays of another shape".to_owned(), "[M] and [M][R]"));
            }
        }
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::small;

    fn message(run: &RunFile) -> String {
        let text = serde_json::to_vec(run).unwrap();
        RunFile::read(&text, "run.json").unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = serde_json::to_vec_pretty(&small()).unwrap();
        assert_eq!(RunFile::read(&text, "run.json").unwrap(), small());
    }

    #[test]
    fn another_version_is_refused() {
        let run = RunFile { version: 3, ..small() };
        assert_eq!(message(&run), "run.json: key `version`: 3; expected 2");
    }

    #[test]
    fn shapes_must_agree() {
        let mut run = small();
        run.popularity.pop();
        assert!(message(&run).contains("key `popularity`: 1 layers"), "{}", message(&run));
        let mut run = small();
        run.candidates[1].summary.rank_load[0].push(1);
        assert!(message(&run).contains("candidate `plan`"), "{}", message(&run));
    }

    #[test]
    fn every_cut_of_a_file_is_refused_with_a_place() {
        let text = serde_json::to_vec(&small()).unwrap();
        for length in (0..text.len()).step_by(97) {
            let error = RunFile::read(&text[..length], "run.json").unwrap_err().to_string();
            assert!(error.starts_with("run.json: line 1, column"), "{error}");
        }
    }
}

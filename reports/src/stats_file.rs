//! `stats.json`: what `moecast trace stats --out` leaves and the figures of a recording are made
//! from.

use moecast_traces::stats::TraceStats;
use moecast_traces::stats::drift::Drift;
use moecast_traces::synth::check::Check;
use moecast_traces::{Header, InputDigest};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::versioned::parse;

/// Version of `stats.json` that this build reads and writes.
pub const VERSION: u32 = 1;

/// Why figures of tokens are missing where there are none.
pub(crate) const COUNTED: &str =
    "the recording only counted, so it does not say which token chose which expert";

/// The statistics of a recording, and what it is a recording of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsFile {
    /// [`VERSION`].
    pub version: u32,
    /// Version of moecast, the number alone.
    pub tool: String,
    /// Model, as the recorder called it; empty when it did not.
    pub model: String,
    /// Importer or generator.
    pub source: String,
    /// True when it was generated; shown wherever the recording is shown.
    pub synthetic: bool,
    /// Remarks of the importer.
    pub remarks: Vec<String>,
    /// Absolute layer number of every MoE layer.
    pub layers: Vec<u16>,
    /// Names of the request groups.
    pub domains: Vec<String>,
    /// The files it was made from.
    pub inputs: Vec<InputDigest>,
    /// What the recording should have and has; empty where nothing is promised.
    pub checks: Vec<Check>,
    /// What was measured.
    pub stats: TraceStats,
}

impl StatsFile {
    /// What was measured of the recording that `header` describes, as `tool` wrote it.
    #[must_use]
    pub fn new(tool: &str, header: &Header, stats: TraceStats, checks: Vec<Check>) -> Self {
        Self {
            version: VERSION,
            tool: tool.to_owned(),
            model: header.model.clone(),
            source: header.source.clone(),
            synthetic: header.synthetic,
            remarks: header.remarks.clone(),
            layers: header.layers.clone(),
            domains: header.domains.clone(),
            inputs: header.inputs.clone(),
            checks,
            stats,
        }
    }

    /// Reads `stats.json`. `path` is named in errors.
    ///
    /// # Errors
    /// When the text holds no statistics, those of another version, or its shapes disagree.
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        let what = "statistics written by `moecast trace stats --out`";
        let file: Self = parse(text, path, VERSION, what)?;
        let invalid = |place: String, found, expected| Error::invalid(path, place, found, expected);
        let measured = file.stats.per_layer.iter().map(|layer| layer.layer);
        if !measured.eq(file.layers.iter().copied()) {
            let found = format!("{} layers", file.stats.per_layer.len());
            return Err(invalid("key `per_layer`".to_owned(), found, "one entry per layer"));
        }
        let drifts = [("drift", Some(&file.stats.drift)), ("domains", file.stats.domains.as_ref())];
        for (key, drift) in drifts {
            if !drift.is_none_or(square) {
                let found = "arrays of another shape".to_owned();
                return Err(invalid(format!("key `{key}`"), found, "[parts, parts]"));
            }
        }
        Ok(file)
    }
}

fn square(drift: &Drift) -> bool {
    let parts = drift.parts.len();
    [&drift.cosine, &drift.jensen_shannon, &drift.null_jensen_shannon]
        .into_iter()
        .all(|matrix| matrix.len() == parts && matrix.iter().all(|row| row.len() == parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::recording;

    fn message(file: &StatsFile) -> String {
        let text = serde_json::to_vec(file).unwrap();
        StatsFile::read(&text, "stats.json").unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = serde_json::to_vec_pretty(&recording()).unwrap();
        assert_eq!(StatsFile::read(&text, "stats.json").unwrap(), recording());
    }

    #[test]
    fn another_version_and_other_shapes_are_refused() {
        let file = StatsFile { version: 2, ..recording() };
        assert_eq!(message(&file), "stats.json: key `version`: 2; expected 1");
        let mut file = recording();
        file.stats.per_layer.pop();
        assert!(message(&file).contains("key `per_layer`: 1 layers"), "{}", message(&file));
        let mut file = recording();
        file.stats.domains.as_mut().unwrap().cosine.pop();
        assert!(message(&file).contains("key `domains`"), "{}", message(&file));
    }

    #[test]
    fn every_cut_of_a_file_is_refused_with_a_place() {
        let text = serde_json::to_vec(&recording()).unwrap();
        for length in (0..text.len()).step_by(97) {
            let error = StatsFile::read(&text[..length], "stats.json").unwrap_err().to_string();
            assert!(error.starts_with("stats.json: line 1, column"), "{error}");
        }
    }
}

//! Calibrations in files: JSON that people read, with its version.

use serde::{Deserialize, Serialize};

use super::{Calibration, Factors, Key, Record};
use crate::units::Nanos;
use crate::{Error, Result};

/// The version of calibrations that this moecast writes, and the newest it reads.
pub const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    moecast_calibration: u64,
    records: Vec<RecordFile>,
}

/// The version alone: read first, so that a newer file is called newer and not wrong.
#[derive(Deserialize)]
struct VersionOnly {
    moecast_calibration: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    engine: String,
    version: String,
    kernel_source: String,
    gpu: String,
    model: String,
    decode_factor: f64,
    prefill_factor: f64,
    host_time: Nanos,
    ttft_offset: Nanos,
    points: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<String>,
}

impl Calibration {
    /// Reads a calibration from the `text` of a file that errors call `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong; a file of a newer version is named as one.
    pub fn read(text: &str, path: &str) -> Result<Self> {
        let refuse = |found: String, expected: &str| Error::Invalid {
            path: path.to_owned(),
            key: "file".to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let wrong = |error: serde_json::Error| refuse(error.to_string(), "a calibration");
        let version: VersionOnly = serde_json::from_str(text).map_err(wrong)?;
        if version.moecast_calibration != VERSION {
            let found = format!("version {}", version.moecast_calibration);
            return Err(refuse(found, "version 1, all that this moecast reads"));
        }
        let file: File = serde_json::from_str(text).map_err(wrong)?;
        Self::checked(file.records.into_iter().map(from_file).collect(), path)
    }

    /// The calibration as the text of a file; the same records give the same text.
    ///
    /// # Panics
    /// Never: records are plain data.
    #[must_use]
    pub fn write(&self) -> String {
        let records = self.records.iter().map(to_file).collect();
        let file = File { moecast_calibration: VERSION, records };
        let mut text = serde_json::to_string_pretty(&file).expect("records are plain data");
        text.push('\n');
        text
    }
}

fn from_file(record: RecordFile) -> Record {
    let RecordFile { engine, version, kernel_source, gpu, model, points, .. } = record;
    let runs = record.runs;
    let factors = Factors {
        decode_factor: record.decode_factor,
        prefill_factor: record.prefill_factor,
        host_time: record.host_time,
        ttft_offset: record.ttft_offset,
    };
    Record { key: Key { engine, version, kernel_source, gpu, model }, factors, points, runs }
}

fn to_file(record: &Record) -> RecordFile {
    let Record { key, factors, points, runs } = record.clone();
    let Key { engine, version, kernel_source, gpu, model } = key;
    let Factors { decode_factor, prefill_factor, host_time, ttft_offset } = factors;
    RecordFile {
        engine,
        version,
        kernel_source,
        gpu,
        model,
        decode_factor,
        prefill_factor,
        host_time,
        ttft_offset,
        points,
        runs,
    }
}

//! What measured runs of a deployment say about the times that profiles of kernels cannot know.
//!
//! A [`Record`] holds four factors for one engine, version, source of kernel times, GPU and model:
//! kernel time of decoding, kernel time of prompts, host time of a step, and the offset of the
//! first token. [`tune()`] fits them to a user's own runs; a [`Calibration`] is a file of records
//! and answers from the nearest one, saying how near it is and from how many points.

mod csv;
mod descent;
mod file;
mod runs;
#[cfg(test)]
mod tests;
mod tune;

pub use file::VERSION;
pub use runs::{COLUMNS, Column, MeasuredRun, read_runs};
pub use tune::{Errors, Group, LeftOut, Options, Predict, Predicted, Tuned, tune};

use crate::engine::Engine;
use crate::units::Nanos;
use crate::{Error, Result};

/// The four factors of a deployment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Kernel time of decoding over what profiles of kernels say.
    pub decode_factor: f64,
    /// Kernel time of prompts over what profiles of kernels say.
    pub prefill_factor: f64,
    /// Time of each step that no kernel accounts for.
    pub host_time: Nanos,
    /// Time of each request before its prompt and after its first token.
    pub ttft_offset: Nanos,
}

impl Factors {
    /// The defaults of `engine`, which is of one version ([`Engine::at`]) or of any.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        Self {
            decode_factor: engine.decode_factor.value,
            prefill_factor: engine.prefill_factor.value,
            host_time: engine.host_time.value,
            ttft_offset: engine.ttft_offset.value,
        }
    }

    /// The factors as numbers above 0: times in nanoseconds, at least one.
    #[expect(clippy::cast_precision_loss, reason = "durations far below 2^53 ns")]
    fn numbers(&self) -> [f64; 4] {
        let [host, offset] = [self.host_time, self.ttft_offset].map(|time| time.0.max(1) as f64);
        [self.decode_factor, self.prefill_factor, host, offset]
    }

    fn from_numbers([decode_factor, prefill_factor, host, offset]: [f64; 4]) -> Self {
        let [host_time, ttft_offset] = [host, offset].map(|time| Nanos::ceil_from(time.round()));
        Self { decode_factor, prefill_factor, host_time, ttft_offset }
    }
}

/// What a record is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Whose kernel tables the factors were fitted with.
    pub kernel_source: String,
    /// Kind of GPU, by its hardware preset.
    pub gpu: String,
    /// Model, as its maker calls it.
    pub model: String,
}

impl Key {
    /// The record that `run` belongs to.
    #[must_use]
    pub fn of(run: &MeasuredRun) -> Self {
        Self {
            engine: run.engine.clone(),
            version: run.version.clone(),
            kernel_source: run.kernel_source.clone(),
            gpu: run.gpu.clone(),
            model: run.model.clone(),
        }
    }
}

/// The factors of one deployment and what they rest on.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// The factors.
    pub factors: Factors,
    /// Different settings that were measured; at least 1.
    pub points: u32,
    /// Names of the runs that it was fitted to, where they are known: predictions of these are no
    /// evidence.
    pub runs: Vec<String>,
}

/// A file of records, one a key, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    records: Vec<Record>,
}

/// How near the answering records are to what was asked, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The very key.
    Exact,
    /// Other versions or kernel sources of the engine, with that model on that GPU.
    Deployment,
    /// Other models under that engine on that GPU, half-way trusted: see [`Calibration::lookup`].
    EngineAndGpu,
    /// The engine's own defaults: nothing measured that is near.
    Defaults,
}

/// What a calibration answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The factors.
    pub factors: Factors,
    /// How near they are.
    pub level: Level,
    /// From how many records.
    pub records: usize,
    /// From how many points.
    pub points: u32,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.level {
            Level::Exact => "of this engine, version, kernel source, GPU and model",
            Level::Deployment => "of this engine, GPU and model, other versions or kernel sources",
            Level::EngineAndGpu => "of other models under this engine on this GPU",
            Level::Defaults => {
                return f.write_str("the engine's defaults: no measured run is near");
            }
        };
        write!(f, "{} measured points {what}", self.points)
    }
}

impl Calibration {
    /// Puts `records` in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a factor or a count cannot be right, or a key is there twice.
    pub fn new(records: Vec<Record>) -> Result<Self> {
        Self::checked(records, "calibration")
    }

    fn checked(mut records: Vec<Record>, path: &str) -> Result<Self> {
        records.sort_by(|first, second| first.key.cmp(&second.key));
        let refuse = |record: &Record, found: &str, expected: &str| {
            let Key { engine, version, kernel_source, gpu, model } = &record.key;
            Err(Error::Invalid {
                path: path.to_owned(),
                key: format!("record of {engine} {version} {kernel_source} {gpu} {model}"),
                found: found.to_owned(),
                expected: expected.to_owned(),
            })
        };
        for record in &records {
            let Factors { decode_factor, prefill_factor, .. } = record.factors;
            for (name, factor) in [("decode", decode_factor), ("prefill", prefill_factor)] {
                if !(factor > 0.0 && factor.is_finite()) {
                    let found = format!("a {name} factor of {factor}");
                    return refuse(record, &found, "a number above 0");
                }
            }
            if record.points == 0 {
                return refuse(record, "no points", "at least 1");
            }
        }
        if let Some(pair) = records.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return refuse(&pair[0], "two records", "one record a key");
        }
        Ok(Self { records })
    }

    /// The records, in the order of their keys.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// These records and those of `newer`, which win where both have one.
    #[must_use]
    pub fn merged(&self, newer: &Self) -> Self {
        let has = |key: &Key| newer.records.iter().any(|record| record.key == *key);
        let old = self.records.iter().filter(|record| !has(&record.key));
        let mut records: Vec<Record> = old.chain(&newer.records).cloned().collect();
        records.sort_by(|first, second| first.key.cmp(&second.key));
        Self { records }
    }

    /// The factors for `key` from the nearest records; `engine` answers where none is near.
    ///
    /// Several records of one level answer with their geometric mean, weighted by points. Factors
    /// of other models are worse than none where they are taken as they are (they belong to the
    /// kernels that a model runs), so there each model counts once and the defaults count as one
    /// more: one other model moves them half-way, three move them three quarters.
    #[must_use]
    pub fn lookup(&self, key: &Key, engine: &Engine) -> Found {
        let defaults = Factors::of(engine.at(&key.version));
        let here = |record: &&Record| record.key.engine == key.engine && record.key.gpu == key.gpu;
        let near: Vec<&Record> = self.records.iter().filter(here).collect();
        let found = |level, records: &[&Record], factors| Found {
            factors,
            level,
            records: records.len(),
            points: records.iter().map(|record| record.points).fold(0, u32::saturating_add),
        };
        if let Some(record) = near.iter().find(|record| record.key == *key) {
            return found(Level::Exact, &[record], record.factors);
        }
        let of_model = |model: &str| -> Vec<&Record> {
            near.iter().filter(|record| record.key.model == model).copied().collect()
        };
        let same = of_model(&key.model);
        if !same.is_empty() {
            return found(Level::Deployment, &same, mean(&weighted(&same)));
        }
        if near.is_empty() {
            return found(Level::Defaults, &[], defaults);
        }
        let mut models: Vec<&str> = near.iter().map(|record| record.key.model.as_str()).collect();
        models.sort_unstable();
        models.dedup();
        let each = models.iter().map(|model| (mean(&weighted(&of_model(model))), 1.0));
        let all: Vec<(Factors, f64)> = each.chain([(defaults, 1.0)]).collect();
        found(Level::EngineAndGpu, &near, mean(&all))
    }
}

fn weighted(records: &[&Record]) -> Vec<(Factors, f64)> {
    records.iter().map(|record| (record.factors, f64::from(record.points))).collect()
}

/// The weighted geometric mean.
fn mean(all: &[(Factors, f64)]) -> Factors {
    if let [(only, _)] = all {
        return *only;
    }
    let total: f64 = all.iter().map(|(_, weight)| weight).sum();
    let mut logs = [0.0; 4];
    for (factors, weight) in all {
        for (log, number) in logs.iter_mut().zip(factors.numbers()) {
            *log += weight / total * number.ln();
        }
    }
    Factors::from_numbers(logs.map(f64::exp))
}

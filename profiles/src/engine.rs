//! What an inference engine does with a model: which replica serves a token, how requests share
//! steps, what carries bytes between ranks, and the time that no kernel accounts for.
//!
//! An engine is a file (`builtin/engines/NAME.toml`). Figures that changed between versions stand
//! under `[[versions]]`; [`Engine::at`] gives the engine of one version.

mod file;
mod kinds;
#[cfg(test)]
mod tests;
mod version;

use serde::Deserialize;

pub use kinds::{
    Backend, CommunicationRule, KernelPreference, KvMemory, MemoryBase, Operation, Phase,
    ReplicaRule, Scheduler,
};
pub use version::{Version, VersionRange};

use crate::builtin::{ENGINES, Preset};
use crate::hardware::Sourced;
use crate::model::DataType;
use crate::registry::find as find_entry;
use crate::sample::Family;
use crate::units::{Bytes, Nanos};
use crate::{Error, Result};

/// One engine, of any version or of one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Name as typed.
    pub name: String,
    /// One line.
    pub about: String,
    /// Which replica serves a token by default.
    pub replica_rule: Sourced<ReplicaRule>,
    /// How activations travel to the experts.
    pub dispatch_type: Sourced<DataType>,
    /// How results travel back.
    pub combine_type: Sourced<DataType>,
    /// How requests share steps.
    pub scheduler: Sourced<Scheduler>,
    /// Tokens of one forward pass at most; longer prompts are read in chunks.
    pub step_tokens_max: Sourced<u32>,
    /// Requests that run at once at most.
    pub sequences_max: Sourced<u32>,
    /// Memory that the KV cache may take.
    pub kv_memory: Sourced<KvMemory>,
    /// Tokens of one block of the KV cache.
    pub kv_block_tokens: Sourced<u32>,
    /// Largest decoding batch that runs as a captured graph; 0 is none.
    pub graph_batch_max: Sourced<u32>,
    /// Whether the host prepares a step while the device computes the one before.
    pub host_overlap: Sourced<bool>,
    /// Time of each step that no kernel accounts for: what the device waits for its host.
    pub host_time: Sourced<Nanos>,
    /// Time of each request before its prompt and after its first token: tokenising, queues
    /// between processes, sending.
    pub ttft_offset: Sourced<Nanos>,
    /// Kernel time of decoding steps over what profiles of kernels say.
    pub decode_factor: Sourced<f64>,
    /// Kernel time of prompts over what profiles of kernels say.
    pub prefill_factor: Sourced<f64>,
    /// What carries bytes between ranks.
    pub communication: Vec<CommunicationRule>,
    /// Which kernels run where there is a choice.
    #[serde(default)]
    pub kernels: Vec<KernelPreference>,
    /// Versions that differ from what is above.
    #[serde(skip)]
    versions: Vec<(VersionRange, Self)>,
}

/// Every shipped engine, alphabetical.
pub const ALL: &[Preset] = ENGINES;

/// The shipped engine called `name`.
///
/// # Errors
/// When there is none; the error lists the valid names.
pub fn find(name: &str) -> Result<Engine> {
    let preset = find_entry("engine", ALL, name)?;
    Engine::read(preset.text(), &format!("engine {name}"))
}

impl Engine {
    /// The engine as of `version`; as it is where no version says otherwise, or `version` is not
    /// the number of one.
    #[must_use]
    pub fn at(&self, version: &str) -> &Self {
        let Some(version) = Version::parse(version) else { return self };
        let found = self.versions.iter().find(|(range, _)| range.holds(&version));
        found.map_or(self, |(_, engine)| engine)
    }

    /// Ranges of versions that differ.
    pub fn versions(&self) -> impl Iterator<Item = &VersionRange> {
        self.versions.iter().map(|(range, _)| range)
    }

    /// What carries `bytes` of `operation` in `phase`.
    ///
    /// # Panics
    /// Never for an engine that was read: its rules are checked to speak of every case.
    #[must_use]
    pub fn backend(&self, operation: Operation, phase: Phase, bytes: Bytes) -> Backend {
        let rule = self.communication.iter().find(|rule| rule.fits(operation, phase, bytes));
        rule.expect("rules were checked to speak of every case").backend
    }

    /// Parts of the names of the variants of `family` that run on `gpu` (a hardware preset), best
    /// first; empty where nothing is known.
    #[must_use]
    pub fn kernels(&self, family: Family, gpu: &str) -> &[String] {
        let found = self.kernels.iter().find(|known| known.fits(family.name(), gpu));
        found.map_or(&[], |known| &known.variants)
    }

    /// Whether every figure can be right and has a source.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first that does not.
    fn validate(&self, path: &str) -> Result<()> {
        let counts = [
            ("step_tokens_max", &self.step_tokens_max),
            ("sequences_max", &self.sequences_max),
            ("kv_block_tokens", &self.kv_block_tokens),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| count.value == 0) {
            return Err(invalid(path, key, "0", "a count above 0"));
        }
        let share = self.kv_memory.value.share;
        if !(share > 0.0 && share <= 1.0) {
            let found = share.to_string();
            return Err(invalid(path, "kv_memory", &found, "a share above 0, at most 1"));
        }
        for (key, factor) in
            [("decode_factor", &self.decode_factor), ("prefill_factor", &self.prefill_factor)]
        {
            if !(0.01..=100.0).contains(&factor.value) {
                let found = factor.value.to_string();
                return Err(invalid(path, key, &found, "a factor between 0.01 and 100"));
            }
        }
        self.check_sources(path)?;
        self.check_rules(path)
    }

    fn check_sources(&self, path: &str) -> Result<()> {
        let figures = [
            ("replica_rule", &self.replica_rule.source),
            ("dispatch_type", &self.dispatch_type.source),
            ("combine_type", &self.combine_type.source),
            ("scheduler", &self.scheduler.source),
            ("step_tokens_max", &self.step_tokens_max.source),
            ("sequences_max", &self.sequences_max.source),
            ("kv_memory", &self.kv_memory.source),
            ("kv_block_tokens", &self.kv_block_tokens.source),
            ("graph_batch_max", &self.graph_batch_max.source),
            ("host_overlap", &self.host_overlap.source),
            ("host_time", &self.host_time.source),
            ("ttft_offset", &self.ttft_offset.source),
            ("decode_factor", &self.decode_factor.source),
            ("prefill_factor", &self.prefill_factor.source),
        ];
        let rules = self.communication.iter().map(|rule| ("communication", &rule.source));
        let kernels = self.kernels.iter().map(|known| ("kernels", &known.source));
        let mut all = figures.into_iter().chain(rules).chain(kernels);
        match all.find(|(_, source)| source.trim().is_empty()) {
            Some((key, _)) => Err(invalid(path, key, "no source", "the document, table or reason")),
            None => Ok(()),
        }
    }

    /// Each operation must have a backend at any size in each phase; kernels must be known ones.
    fn check_rules(&self, path: &str) -> Result<()> {
        for operation in [Operation::AllReduce, Operation::ExpertExchange] {
            for phase in [Phase::Prefill, Phase::Decode] {
                let largest = Bytes(u64::MAX);
                if !self.communication.iter().any(|rule| rule.fits(operation, phase, largest)) {
                    let found = format!("no rule for {operation:?} of any size in {phase:?}");
                    return Err(invalid(path, "communication", &found, "a last rule for the rest"));
                }
            }
        }
        for known in &self.kernels {
            Family::find(&known.family).map_err(|error| {
                invalid(path, "kernels", &error.to_string(), "a family of kernels")
            })?;
        }
        Ok(())
    }
}

fn invalid(path: &str, key: &str, found: &str, expected: &str) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

//! A file of machines whose experts live in several memories, as typed.

use moecast_profiles::model::DataType;
use moecast_profiles::units::Bytes;
use moecast_sim::offload::{Batching, Given, Machine};
use serde::{Deserialize, Serialize};

use crate::pass::file::ModelFile;
use crate::variants::{self, Suite};

/// Variants of one machine, and what was published of them.
pub(crate) type Offloads = Suite<OffloadFile>;

/// One machine that serves requests, as typed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OffloadFile {
    /// Model preset, path of a `config.json`, or the shape itself.
    pub(crate) model: ModelFile,
    /// How routed experts are stored, where that is not as the model has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expert_type: Option<DataType>,
    /// The same for all other weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dense_type: Option<DataType>,
    /// The routing that requests borrow.
    pub(crate) trace: TraceFile,
    /// Kind of GPU: a hardware preset. Absent where `kernels` says what it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<String>,
    /// Kernel cost model; the roofline where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<String>,
    /// Kernel times as measured, instead of a cost model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernels: Option<Given>,
    pub(crate) machine: Machine,
    pub(crate) cache: CacheFile,
    #[serde(default)]
    pub(crate) prefetch: PrefetchFile,
    /// Who computes experts that are not in GPU memory.
    #[serde(default = "gpu")]
    pub(crate) compute: String,
    #[serde(default)]
    pub(crate) rule: RuleFile,
    #[serde(default)]
    pub(crate) precision: PrecisionFile,
    #[serde(default)]
    pub(crate) load: LoadFile,
}

fn gpu() -> String {
    "gpu".to_owned()
}

/// Where routing comes from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceFile {
    /// A trace, or a recording that an importer recognises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// A synthetic preset; the model's own where neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) like: Option<String>,
    /// Requests that are made, and tokens of prompt and answer of each.
    #[serde(default = "requests")]
    pub(crate) requests: u32,
    #[serde(default = "prompt")]
    pub(crate) prompt: u32,
    #[serde(default = "prompt")]
    pub(crate) generated: u32,
    /// Share of the requests that is served; policies and placements are fitted on the others. 0
    /// serves what they were fitted on.
    #[serde(default = "half")]
    pub(crate) heldout: f64,
}

fn requests() -> u32 {
    16
}

fn prompt() -> u32 {
    128
}

fn half() -> f64 {
    0.5
}

/// GPU memory for experts: capacity or share, or slots, which are what counts where they are given.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheFile {
    /// Bytes of all GPUs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) capacity: Option<Bytes>,
    /// Share of all experts' bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<f64>,
    /// Experts a layer: one number for all, or one a layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) slots: Vec<u32>,
    #[serde(default)]
    pub(crate) pool: PoolFile,
    #[serde(default = "lru")]
    pub(crate) policy: String,
    /// Whether the cache is empty when the first request comes, or holds what training used most.
    #[serde(default)]
    pub(crate) start: StartFile,
    /// Which experts it is filled with at the start: those that training used most, or any.
    #[serde(default)]
    pub(crate) chosen: ChosenFile,
    /// Share of the capacity that is pinned by frequency, outside of any policy.
    #[serde(default)]
    pub(crate) pinned: f64,
}

fn lru() -> String {
    "lru".to_owned()
}

/// Who shares GPU memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PoolFile {
    /// All layers.
    #[default]
    Global,
    /// Each layer has an equal part, or its own number of slots.
    PerLayer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StartFile {
    Empty,
    #[default]
    Frequent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChosenFile {
    #[default]
    Frequency,
    Uniform,
}

/// What is copied before it is asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrefetchFile {
    pub(crate) name: String,
    /// Layers ahead.
    #[serde(default = "one")]
    pub(crate) depth: usize,
    /// Share of predictions that are right, one layer ahead, of prefetchers whose accuracy follows
    /// from no recording; as published where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accuracy: Option<f64>,
}

fn one() -> usize {
    1
}

impl Default for PrefetchFile {
    fn default() -> Self {
        Self { name: "none".to_owned(), depth: one(), accuracy: None }
    }
}

/// What becomes of the router's choices.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFile {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) knobs: Vec<f64>,
}

impl Default for RuleFile {
    fn default() -> Self {
        Self { name: "exact".to_owned(), knobs: Vec::new() }
    }
}

/// Versions of every expert.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrecisionFile {
    /// Bytes of each version as a share of the expert as stored, highest precision first.
    pub(crate) versions: Vec<f64>,
    /// Whether a version holds those after it (planes of bits), so that it adds the difference.
    #[serde(default)]
    pub(crate) nested: bool,
    /// Share of GPU memory for each version, where they are copies of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shares: Vec<f64>,
}

impl Default for PrecisionFile {
    fn default() -> Self {
        Self { versions: vec![1.0], nested: false, shares: Vec::new() }
    }
}

/// Requests, and how they are put together.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoadFile {
    /// Requests to serve; those of the trace where 0.
    pub(crate) requests: usize,
    /// Requests a second (Poisson); whenever there is room where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    /// Tokens that one pass generates at most.
    pub(crate) batch: usize,
    /// Requests under way at most; as many as `batch` where 0.
    pub(crate) window: usize,
    pub(crate) batching: Batching,
    /// Prompt tokens of one pass at most.
    pub(crate) chunk: usize,
}

impl Default for LoadFile {
    fn default() -> Self {
        Self { requests: 0, rate: None, batch: 1, window: 0, batching: Batching::Fifo, chunk: 4096 }
    }
}

impl variants::Typed for OffloadFile {
    const NAMES_OR_TABLES: &'static [&'static str] = &["model"];
    type Unit = Unit;
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Unit {
    /// While tokens are generated.
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
    /// Mean time to the first token.
    #[serde(rename = "s to first token")]
    Ttft,
    /// Mean time between tokens.
    #[serde(rename = "s between tokens")]
    Tpot,
    /// Share of asked-for experts in GPU memory.
    #[serde(rename = "hit rate")]
    HitRate,
    /// Tokens a second over those of another variant.
    #[serde(rename = "times")]
    Times,
    /// Time to the first token of another variant over this one's.
    #[serde(rename = "times, prefill")]
    TimesPrefill,
    /// Most bytes in GPU memory of another variant over this one's.
    #[serde(rename = "times less memory")]
    TimesMemory,
}

impl variants::Unit for Unit {
    fn relative(self) -> bool {
        matches!(self, Self::Times | Self::TimesPrefill | Self::TimesMemory)
    }

    fn digits(self) -> usize {
        match self {
            Self::HitRate => 3,
            _ => 2,
        }
    }
}

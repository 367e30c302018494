//! A file of passes: a base, variants that change keys of it, and what was published of them.

use anyhow::{Context, Result};
use moecast_profiles::model::ModelShape;
use moecast_profiles::units::Bandwidth;
use moecast_sim::forward::scope::Scope;
use moecast_sim::lanes::compose::Overlap;
use moecast_sim::serving::file::LayoutFile;
use serde::{Deserialize, Serialize};

use crate::variants::{self, Suite};

/// Passes of one system, and what was published of them.
pub(crate) type Passes = Suite<PassFile>;

/// One pass, as typed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PassFile {
    /// Model preset, path of a `config.json`, or the shape itself.
    pub(crate) model: ModelFile,
    /// Kind of GPU: a hardware preset.
    pub(crate) gpu: String,
    /// GPUs of a node; as the preset's machines are sold where it is absent.
    #[serde(default)]
    pub(crate) gpus_per_node: u16,
    /// Bandwidth of a GPU's share of its node's network cards; the preset's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Bandwidth>,
    pub(crate) engine: String,
    #[serde(default)]
    pub(crate) engine_version: String,
    /// Kernel cost model; measured kernels where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<String>,
    /// What carries tokens to their experts; the engine's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exchange: Option<String>,
    pub(crate) layout: LayoutFile,
    /// `even`, `like` (the model's published statistics), `zipf S` (the n-th most popular expert of
    /// a layer is chosen in proportion to 1 / n^S), or the path of a trace.
    pub(crate) routing: String,
    /// Slots a layer; where absent one an expert, and those that are materialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slots: Option<u16>,
    /// Placement algorithm, fitted on the routing itself.
    #[serde(default = "linear")]
    pub(crate) algorithm: String,
    #[serde(default)]
    pub(crate) overlap: OverlapFile,
    /// What of the pass is run, and what beside it.
    #[serde(default)]
    pub(crate) scope: Scope,
    pub(crate) batch: BatchFile,
}

/// A model: by name or path, or its shape.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ModelFile {
    Named(String),
    Shape(Box<ModelShape>),
}

impl<'de> Deserialize<'de> for ModelFile {
    /// By hand, so that a wrong key of a shape is named.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::String(name) => Ok(Self::Named(name)),
            other => {
                let shape = other.try_into::<ModelShape>().map_err(serde::de::Error::custom)?;
                Ok(Self::Shape(Box::new(shape)))
            }
        }
    }
}

fn linear() -> String {
    "linear".to_owned()
}

/// What may run beside what: a scheme by name, or its choices.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum OverlapFile {
    Named(String),
    Choices(Overlap),
}

impl Default for OverlapFile {
    fn default() -> Self {
        Self::Choices(Overlap::NONE)
    }
}

impl OverlapFile {
    pub(crate) fn resolve(&self) -> Result<Overlap> {
        match self {
            Self::Choices(overlap) => Ok(*overlap),
            Self::Named(name) => overlap(name),
        }
    }
}

/// A scheme by name.
pub(crate) fn overlap(name: &str) -> Result<Overlap> {
    let named = Overlap::NAMED.iter().find(|(own, _)| *own == name);
    let names: Vec<&str> = Overlap::NAMED.iter().map(|(name, _)| *name).collect();
    let (_, overlap) =
        named.with_context(|| format!("overlap: {name}; expected one of {}", names.join(", ")))?;
    Ok(*overlap)
}

/// What every data-parallel rank works on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BatchFile {
    /// Requests that generate.
    pub(crate) requests: u32,
    /// Tokens of context of each.
    pub(crate) context: u32,
    /// Whole prompts.
    pub(crate) prompts: u32,
    /// Tokens of each.
    pub(crate) prompt_tokens: u32,
}

impl variants::Typed for PassFile {
    const NAMES_OR_TABLES: &'static [&'static str] = &["overlap"];
    type Unit = Unit;
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "tokens/s per GPU")]
    PerGpu,
    #[serde(rename = "tokens/s per node")]
    PerNode,
    /// Of a pass.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Tokens a second over those of another variant.
    #[serde(rename = "times")]
    Times,
}

impl variants::Unit for Unit {
    fn relative(self) -> bool {
        self == Self::Times
    }

    fn digits(self) -> usize {
        match self {
            Self::Times | Self::Milliseconds => 2,
            Self::PerGpu | Self::PerNode => 0,
        }
    }
}

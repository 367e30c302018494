//! A service as it stands in a TOML file: names, not yet facts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::faults::FaultFile;
use super::layout::Layout;
use super::service::{Limits, Preemption, Speculation};

/// A service under a load, as typed. Paths are relative to the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    /// Version of moecast that wrote it; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Model preset, or path of a `config.json`.
    pub model: String,
    /// Kind of GPU: a hardware preset.
    pub gpu: String,
    /// GPUs of a node; as the preset's machines are sold where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus_per_node: Option<u16>,
    /// Engine.
    pub engine: String,
    /// Its version; any where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Kernel cost model; measured kernels where a profile is given or shipped, else the roofline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Profile of measured kernels: a shipped one, or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its SHA-256; a profile with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_sha256: Option<String>,
    /// Records that `moecast profile tune` wrote; the engine's defaults where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Replicas of the model.
    #[serde(default = "one")]
    pub replicas: u16,
    /// Which replica gets a request.
    #[serde(default = "round_robin")]
    pub router: String,
    /// What becomes of requests that must make room.
    #[serde(default)]
    pub preemption: Preemption,
    /// Whether prompts that share a prefix share its cache.
    #[serde(default = "yes")]
    pub prefix_cache: bool,
    /// Seed of everything random; that of the command line where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Parallelism of a replica; everything on one GPU where absent.
    #[serde(default)]
    pub layout: LayoutFile,
    /// Limits that replace the engine's.
    #[serde(default)]
    pub limits: Limits,
    /// Where the experts of tokens come from.
    #[serde(default)]
    pub routing: RoutingFile,
    /// Requests.
    pub load: LoadFile,
    /// Drafts.
    #[serde(default)]
    pub speculation: Speculation,
    /// A pool that generates, where prompts have a pool of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<PoolFile>,
    /// What a request must keep to count as good.
    #[serde(default)]
    pub slo: SloFile,
    /// When the run may stop before all requests are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopFile>,
    /// What breaks while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultFile>,
    /// Price of a GPU for an hour, in any currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_gpu_hour: Option<f64>,
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

fn round_robin() -> String {
    "round-robin".to_owned()
}

/// A [`Layout`] of which most can be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutFile {
    /// As [`Layout::tensor`]; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<u16>,
    /// As [`Layout::data`]; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<u16>,
    /// As [`Layout::expert`]; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<u16>,
    /// As [`Layout::expert_tensor`]; the ranks that are left where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert_tensor: Option<u16>,
    /// As [`Layout::pipeline`]; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<u16>,
}

impl LayoutFile {
    /// The layout with everything said.
    #[must_use]
    pub fn resolve(&self) -> Layout {
        let [tensor, data, expert] =
            [self.tensor, self.data, self.expert].map(|ranks| ranks.unwrap_or(1));
        let left = (u32::from(tensor) * u32::from(data)) / u32::from(expert.max(1));
        let left = u16::try_from(left.max(1)).unwrap_or(u16::MAX);
        let expert_tensor = self.expert_tensor.unwrap_or(left);
        Layout { tensor, data, expert, expert_tensor, pipeline: self.pipeline.unwrap_or(1) }
    }
}

impl From<Layout> for LayoutFile {
    fn from(layout: Layout) -> Self {
        Self {
            tensor: Some(layout.tensor),
            data: Some(layout.data),
            expert: Some(layout.expert),
            expert_tensor: Some(layout.expert_tensor),
            pipeline: Some(layout.pipeline),
        }
    }
}

/// A pool of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    /// Replicas.
    #[serde(default = "one")]
    pub replicas: u16,
    /// Parallelism of each.
    #[serde(default)]
    pub layout: LayoutFile,
    /// Limits that replace the engine's.
    #[serde(default)]
    pub limits: Limits,
}

/// How the experts of tokens are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingMode {
    /// Every expert is as likely as the others.
    Even,
    /// Like the model's published statistics, where there are any; else even. By the mean.
    #[default]
    Like,
    /// Like the tokens of a recording, by the mean over drawn batches.
    Mean,
    /// Every request borrows the routing of a recorded one, token by token.
    Recorded,
}

/// Where the experts of tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingFile {
    /// How; `recorded` where a trace is given, else `like`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RoutingMode>,
    /// The routing trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Its SHA-256; a file with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_sha256: Option<String>,
    /// A plan for the expert-parallel ranks; experts in order where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Its SHA-256; a file with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<String>,
}

/// What clients ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadFile {
    /// Arrival process: `moecast list request-generators`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// Its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, f64>,
    /// Tokens of prompts: TOKENS, lognormal:MEAN,CV or uniform:TOKENS,LOW,HIGH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<String>,
    /// Tokens of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<String>,
    /// A request trace: its arrivals, or its lengths where there is a generator too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Its SHA-256; a file with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_sha256: Option<String>,
}

/// What a request must keep to count as good; what is absent is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloFile {
    /// Longest time to the first token, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Longest mean time between tokens, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<f64>,
    /// Longest time to the last token, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_to_end_ms: Option<f64>,
}

/// Figures whose precision a run can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Mean time to the last token.
    EndToEnd,
    /// Mean time between the tokens of a request.
    Tpot,
    /// Mean time to the first token.
    Ttft,
}

/// When a run may stop early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopFile {
    /// The figure.
    pub metric: Metric,
    /// Half the width of its 95% interval over the figure, above 0.
    pub precision: f64,
}

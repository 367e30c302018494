//! The closed sets that describe an engine: the simulator handles each of their members.

use serde::{Deserialize, Serialize};

use crate::hardware::SourceKind;
use crate::units::Bytes;

/// How a replica is picked at run time, where an expert has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaRule {
    /// One fixed replica per (source rank, layer, expert): on the same GPU if any, else on the
    /// same node if that narrows the set, else dealt out in near-equal shares.
    /// (SGLang `--ep-dispatch-algorithm static`.)
    Static,
    /// Uniformly random per token among the nearest replicas: same GPU, then same node, then all.
    /// (SGLang `dynamic`.)
    Dynamic,
    /// A hash of the token's index modulo the number of replicas; no locality. (vLLM.)
    TokenHash,
    /// Round-robin per expert within a thread block, offset by the source rank. (TensorRT-LLM.)
    RoundRobin,
    /// Source rank modulo the number of replicas. (vllm-ascend.)
    RankModulo,
}

/// How requests share forward passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// One budget of tokens a step: running requests first, then chunks of prompts beside them.
    /// (vLLM v1.)
    MixedChunkedPrefill,
    /// Steps of prompts alone go before steps of decoding alone. (SGLang.)
    PrefillFirst,
    /// Whole prompts join the running requests in one step as they fit. (TensorRT-LLM.)
    InFlightBatching,
    /// A fixed number of slots, each with its share of the context; prompts in pieces beside the
    /// decoding of other slots. (llama.cpp.)
    Slots,
}

/// What the share of memory for the KV cache is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryBase {
    /// All memory: the share holds weights and the KV cache; activations have the rest. (SGLang.)
    Static,
    /// All memory: the share holds weights, activations and the KV cache. (vLLM.)
    Total,
    /// What weights and activations left free. (TensorRT-LLM.)
    Free,
}

/// How much memory the KV cache may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvMemory {
    /// Above 0, at most 1.
    pub share: f64,
    /// Of what.
    pub of: MemoryBase,
}

/// What a forward pass does for its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reads prompts.
    Prefill,
    /// Makes one token a request.
    Decode,
}

/// What ranks exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Partial sums of tensor parallelism.
    AllReduce,
    /// Tokens to their experts and back: dispatch and combine.
    ExpertExchange,
}

/// What carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The engine's own all-reduce over peer memory of one node.
    CustomAllReduce,
    /// NCCL's collective of that name.
    Nccl,
    /// All-gather to dispatch, reduce-scatter to combine.
    AllgatherReduceScatter,
    /// DeepEP's low-latency kernels.
    DeepepLowLatency,
    /// DeepEP's normal kernels: one copy a node over the network, then NVLink.
    DeepepNormal,
    /// One-sided copies over NVLink.
    OneSidedNvlink,
    /// Huawei's HCCL.
    Hccl,
    /// Huawei's fused dispatch and combine.
    Mc2,
    /// Copies between device and host memory: experts that the processor computes.
    HostCopy,
}

/// Which backend carries an operation; of the rules of an engine the first that fits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommunicationRule {
    /// What is exchanged.
    pub operation: Operation,
    /// In which phase; `None` is both.
    pub phase: Option<Phase>,
    /// Up to which size; `None` is any.
    pub bytes_max: Option<Bytes>,
    /// What carries it.
    pub backend: Backend,
    /// How that is known.
    pub kind: SourceKind,
    /// Who says so.
    pub source: String,
}

impl CommunicationRule {
    /// Whether it speaks of `bytes` of `operation` in `phase`.
    #[must_use]
    pub fn fits(&self, operation: Operation, phase: Phase, bytes: Bytes) -> bool {
        self.operation == operation
            && self.phase.is_none_or(|known| known == phase)
            && self.bytes_max.is_none_or(|most| bytes <= most)
    }
}

/// Which variants of a kernel an engine runs; of the preferences of an engine the first that fits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelPreference {
    /// Name of the kernel family, as in files of samples.
    pub family: String,
    /// Starts of the names of hardware presets; empty is all.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Parts of variant names, best first.
    pub variants: Vec<String>,
    /// How that is known.
    pub kind: SourceKind,
    /// Who says so.
    pub source: String,
}

impl KernelPreference {
    /// Whether it speaks of `family` on `gpu`.
    #[must_use]
    pub fn fits(&self, family: &str, gpu: &str) -> bool {
        let here = self.gpus.is_empty() || self.gpus.iter().any(|start| gpu.starts_with(start));
        self.family == family && here
    }
}

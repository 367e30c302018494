//! What an inference engine does with a placement: which replica serves a token, and how many
//! bytes a token is on its way.

use serde::{Deserialize, Serialize};

use crate::model::DataType;
use crate::registry::{UnknownName, find as find_entry};

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

/// One engine.
pub struct Engine {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Which replica serves a token by default.
    pub replica_rule: ReplicaRule,
    /// How activations travel to the experts.
    pub dispatch_type: DataType,
    /// How results travel back.
    pub combine_type: DataType,
}

crate::named!(Engine);

/// Every engine, alphabetical. Replica rules were read in the engines' sources (2025-2026);
/// dispatch types are the defaults of the DeepEP low-latency path where an engine uses it.
pub const ALL: &[Engine] = &[
    Engine {
        name: "sglang",
        about: "SGLang with DeepEP: static replica per source rank, FP8 dispatch, BF16 combine",
        replica_rule: ReplicaRule::Static,
        dispatch_type: DataType::Fp8,
        combine_type: DataType::Bf16,
    },
    Engine {
        name: "sglang-dynamic",
        about: "SGLang with --ep-dispatch-algorithm dynamic: a random near replica per token",
        replica_rule: ReplicaRule::Dynamic,
        dispatch_type: DataType::Fp8,
        combine_type: DataType::Bf16,
    },
    Engine {
        name: "trtllm",
        about: "TensorRT-LLM: replicas in turn per expert, BF16 both ways",
        replica_rule: ReplicaRule::RoundRobin,
        dispatch_type: DataType::Bf16,
        combine_type: DataType::Bf16,
    },
    Engine {
        name: "vllm",
        about: "vLLM with DeepEP: hash of the token index, FP8 dispatch, BF16 combine",
        replica_rule: ReplicaRule::TokenHash,
        dispatch_type: DataType::Fp8,
        combine_type: DataType::Bf16,
    },
    Engine {
        name: "vllm-ascend",
        about: "vllm-ascend: source rank modulo copies, BF16 both ways",
        replica_rule: ReplicaRule::RankModulo,
        dispatch_type: DataType::Bf16,
        combine_type: DataType::Bf16,
    },
];

/// Finds an engine by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Engine, UnknownName> {
    find_entry("engine", ALL, name)
}

//! Names of tensors in GGUF files, by architecture: what llama.cpp's rules are matched against.
//!
//! From `llama.cpp/src/llama-arch.cpp` (2025-2026). Names are those of a file: `blk.N.` before
//! what belongs to a layer, `.weight` or `.bias` behind. A file may lack some (a query that is not
//! compressed, an output that shares the embeddings), so the lists hold every one that can occur.

use moecast_profiles::registry::{UnknownName, find as find_entry};

/// The tensors of one architecture.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture` of the file.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Beginnings of the names of models that are of it.
    models: &'static [&'static str],
    /// Of every layer.
    layer: &'static [&'static str],
    /// Of layers with experts, beside the experts.
    routed: &'static [&'static str],
    /// Whether experts have biases.
    has_biases: bool,
    /// Whether layers without experts exist.
    has_dense: bool,
}

moecast_profiles::named!(Architecture);

/// What stands outside of layers.
const GLOBAL: &[&str] = &["token_embd.weight", "output_norm.weight", "output.weight"];

/// Experts of a layer: separate projections, or gate and up in one.
const EXPERTS: [&str; 4] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps"];

const DENSE: &[&str] = &["ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"];
const SHARED: &[&str] = &[
    "ffn_gate_inp.weight",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "ffn_down_shexp.weight",
    "ffn_gate_inp_shexp.weight",
    "exp_probs_b.bias",
];
const GATE: &[&str] = &["ffn_gate_inp.weight"];
const ATTENTION: &[&str] = &[
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_norm.weight",
];
const ATTENTION_NORMED: &[&str] = &[
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "ffn_norm.weight",
];
const ATTENTION_BIASED: &[&str] = &[
    "attn_norm.weight",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias",
    "attn_sinks.weight",
    "post_attention_norm.weight",
    "ffn_norm.weight",
];
const ATTENTION_LATENT: &[&str] = &[
    "attn_norm.weight",
    "attn_q.weight",
    "attn_q_a.weight",
    "attn_q_a_norm.weight",
    "attn_q_b.weight",
    "attn_kv_a_mqa.weight",
    "attn_kv_a_norm.weight",
    "attn_kv_b.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
    "attn_output.weight",
    "ffn_norm.weight",
];

/// Every architecture, alphabetical.
pub const ALL: &[Architecture] = &[
    Architecture {
        name: "deepseek2",
        about: "DeepSeek-V2, V3 and R1, Kimi-K2",
        models: &["deepseek", "kimi"],
        layer: ATTENTION_LATENT,
        routed: SHARED,
        has_biases: false,
        has_dense: true,
    },
    Architecture {
        name: "gpt-oss",
        about: "gpt-oss",
        models: &["gpt-oss"],
        layer: ATTENTION_BIASED,
        routed: &["ffn_gate_inp.weight", "ffn_gate_inp.bias"],
        has_biases: true,
        has_dense: false,
    },
    Architecture {
        name: "llama",
        about: "Mixtral",
        models: &["mixtral"],
        layer: ATTENTION,
        routed: GATE,
        has_biases: false,
        has_dense: false,
    },
    Architecture {
        name: "olmoe",
        about: "OLMoE",
        models: &["olmoe"],
        layer: ATTENTION_NORMED,
        routed: GATE,
        has_biases: false,
        has_dense: false,
    },
    Architecture {
        name: "phimoe",
        about: "Phi-3.5-MoE",
        models: &["phi-3.5-moe"],
        layer: ATTENTION_BIASED,
        routed: GATE,
        has_biases: false,
        has_dense: false,
    },
    Architecture {
        name: "qwen2moe",
        about: "Qwen1.5-MoE and Qwen2-57B",
        models: &["qwen1.5-moe", "qwen2-57b"],
        layer: ATTENTION_BIASED,
        routed: SHARED,
        has_biases: false,
        has_dense: false,
    },
    Architecture {
        name: "qwen3moe",
        about: "Qwen3 with experts",
        models: &["qwen3-"],
        layer: ATTENTION_NORMED,
        routed: GATE,
        has_biases: false,
        has_dense: true,
    },
];

/// Finds an architecture by the name that a GGUF file gives it.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Architecture, UnknownName> {
    find_entry("architecture", ALL, name)
}

/// The architecture of the model preset called `model`.
#[must_use]
pub fn of_model(model: &str) -> Option<&'static Architecture> {
    let model = model.to_lowercase();
    ALL.iter().find(|known| known.models.iter().any(|start| model.starts_with(start)))
}

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The MoE layer (an ordinal) whose routed experts it holds.
    pub experts_of: Option<usize>,
}

/// Every tensor that a file of a model with `hidden` layers, experts in `layers` (absolute,
/// ascending), can hold. Without an architecture, what every one of them can hold.
#[must_use]
pub fn tensors(architecture: Option<&Architecture>, hidden: u16, layers: &[u16]) -> Vec<Tensor> {
    let other = |name: String| Tensor { name, experts_of: None };
    let mut all: Vec<Tensor> = GLOBAL.iter().map(|name| other((*name).to_owned())).collect();
    let layer_names = architecture.map_or(ATTENTION, |known| known.layer);
    let routed = architecture.map_or(SHARED, |known| known.routed);
    let has_biases = architecture.is_some_and(|known| known.has_biases);
    let has_dense = architecture.is_none_or(|known| known.has_dense);
    for layer in 0..hidden {
        let of = |name: &&str| other(format!("blk.{layer}.{name}"));
        all.extend(layer_names.iter().map(of));
        let Ok(ordinal) = layers.binary_search(&layer) else {
            all.extend(DENSE.iter().filter(|_| has_dense).map(of));
            continue;
        };
        all.extend(routed.iter().map(of));
        for name in EXPERTS {
            for kind in ["weight", "bias"].into_iter().take(1 + usize::from(has_biases)) {
                let name = format!("blk.{layer}.{name}.{kind}");
                all.push(Tensor { name, experts_of: Some(ordinal) });
            }
        }
    }
    all
}

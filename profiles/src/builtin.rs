//! The facts that ship with moecast: one file per model, device and engine, checked by tests.

use crate::hardware::Device;
use crate::hardware::cluster::Cluster;
use crate::model::ModelShape;
use crate::profile::Profile;
use crate::registry::find;
use crate::{Error, Result};

/// A shipped file.
pub struct Preset {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    text: &'static str,
}

crate::named!(Preset);

macro_rules! preset {
    ($family:literal, $name:literal, $about:literal) => {
        Preset {
            name: $name,
            about: $about,
            text: include_str!(concat!("../builtin/", $family, "/", $name, ".toml")),
        }
    };
}

impl Preset {
    /// The file.
    pub(crate) fn text(&self) -> &'static str {
        self.text
    }
}

/// Every shipped cluster, alphabetical; [`crate::hardware::Hardware::from_spec`] reads one.
pub const CLUSTERS: &[Preset] = &[
    preset!("clusters", "dgx-a100", "8 A100, NVSwitch, 8 HDR 200 Gbit/s cards on rails"),
    preset!("clusters", "dgx-gb200", "72 GB200 in one NVLink domain, C2C to 36 Grace processors"),
    preset!("clusters", "hgx-h100", "8 H100, NVSwitch, 8 ConnectX-7 400 Gbit/s cards on rails"),
    preset!("clusters", "hgx-h200", "8 H200, NVSwitch, 8 ConnectX-7 400 Gbit/s cards on rails"),
    preset!("clusters", "leaf-spine-h100", "8 H100, leaves of four nodes, 2:1 oversubscribed"),
    preset!("clusters", "pcie-4090", "8 RTX 4090 on two sockets, without peer-to-peer"),
    preset!("clusters", "pcie-l40s", "8 L40S on PCIe switches under two sockets, 4 cards"),
];

/// Every shipped engine, alphabetical; [`crate::engine::find`] reads one.
pub const ENGINES: &[Preset] = &[
    preset!("engines", "ktransformers", "SGLang-kt: GPU experts by frequency, the rest on the CPU"),
    preset!("engines", "llama.cpp", "llama.cpp: slots, experts of whole layers on GPU or CPU"),
    preset!(
        "engines",
        "sglang",
        "SGLang with DeepEP: static replica per source rank, FP8 dispatch, BF16 combine"
    ),
    preset!(
        "engines",
        "sglang-dynamic",
        "SGLang with --ep-dispatch-algorithm dynamic: a random near replica per token"
    ),
    preset!("engines", "trtllm", "TensorRT-LLM: replicas in turn per expert, BF16 both ways"),
    preset!(
        "engines",
        "vllm",
        "vLLM with DeepEP: hash of the token index, FP8 dispatch, BF16 combine"
    ),
    preset!("engines", "vllm-ascend", "vllm-ascend: source rank modulo copies, BF16 both ways"),
];

/// Every shipped kind of GPU, alphabetical.
pub const HARDWARE: &[Preset] = &[
    preset!("hardware", "a100-sxm", "NVIDIA A100 SXM 80 GB, NVLink 3"),
    preset!("hardware", "b200", "NVIDIA B200 SXM 180 GB, NVLink 5"),
    preset!("hardware", "gb200-nvl72", "NVIDIA GB200 NVL72, 72 GPUs in one NVLink domain"),
    preset!("hardware", "h100-sxm", "NVIDIA H100 SXM 80 GB, NVLink 4"),
    preset!("hardware", "h200-sxm", "NVIDIA H200 SXM 141 GB, NVLink 4"),
    preset!("hardware", "l40s", "NVIDIA L40S 48 GB, PCIe 4"),
    preset!("hardware", "rtx-4090", "NVIDIA GeForce RTX 4090 24 GB, PCIe 4"),
    preset!("hardware", "rtx-a6000", "NVIDIA RTX A6000 48 GB, PCIe 4"),
];

/// Every shipped model, alphabetical.
pub const MODELS: &[Preset] = &[
    preset!("models", "deepseek-r1", "DeepSeek-R1: the shape of DeepSeek-V3"),
    preset!("models", "deepseek-v2-lite", "DeepSeek-V2-Lite: 26 MoE layers x 64 experts, top-6"),
    preset!("models", "deepseek-v3", "DeepSeek-V3 671B: 58 MoE layers x 256 experts, top-8"),
    preset!("models", "glm-5", "GLM-5 744B: 75 MoE layers x 256 experts, top-8"),
    preset!("models", "gpt-oss-120b", "gpt-oss-120b: 36 MoE layers x 128 experts, top-4"),
    preset!("models", "kimi-k2", "Kimi-K2 1T: 60 MoE layers x 384 experts, top-8"),
    preset!("models", "minimax-m2.5", "MiniMax-M2.5 229B: 62 MoE layers x 256 experts, top-8"),
    preset!("models", "mixtral-8x7b", "Mixtral-8x7B: 32 MoE layers x 8 experts, top-2"),
    preset!("models", "olmoe-1b-7b", "OLMoE-1B-7B: 16 MoE layers x 64 experts, top-8"),
    preset!("models", "openmoe-8b", "OpenMoE-8B: 4 MoE layers x 32 experts, top-2"),
    preset!("models", "phi-3.5-moe", "Phi-3.5-MoE: 32 MoE layers x 16 experts, top-2"),
    preset!("models", "qwen1.5-moe-a2.7b", "Qwen1.5-MoE-A2.7B: 24 MoE layers x 60 experts, top-4"),
    preset!("models", "qwen2-57b-a14b", "Qwen2-57B-A14B: 28 MoE layers x 64 experts, top-8"),
    preset!("models", "qwen3-235b-a22b", "Qwen3-235B-A22B: 94 MoE layers x 128 experts, top-8"),
    preset!("models", "qwen3-30b-a3b", "Qwen3-30B-A3B: 48 MoE layers x 128 experts, top-8"),
];

/// A shipped profile of measured kernels.
pub struct ShippedProfile {
    /// Name as typed: device and engine.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The bytes of the file.
    pub bytes: &'static [u8],
}

crate::named!(ShippedProfile);

macro_rules! shipped_profile {
    ($name:literal, $about:literal) => {
        ShippedProfile {
            name: $name,
            about: $about,
            bytes: include_bytes!(concat!("../builtin/profiles/", $name, ".profile")),
        }
    };
}

/// Every shipped profile, alphabetical. Made by `moecast profile import aiconfigurator` from the
/// tables of aiconfigurator-core 0.12.0 (Apache-2.0; see NOTICE).
pub const PROFILES: &[ShippedProfile] = &[
    shipped_profile!("a100-sxm-sglang", "A100 SXM under SGLang"),
    shipped_profile!("a100-sxm-trtllm", "A100 SXM under TensorRT-LLM"),
    shipped_profile!("a100-sxm-vllm", "A100 SXM under vLLM"),
    shipped_profile!("b200-sglang", "B200 under SGLang"),
    shipped_profile!("b200-trtllm", "B200 under TensorRT-LLM"),
    shipped_profile!("b200-vllm", "B200 under vLLM"),
    shipped_profile!("gb200-nvl72-sglang", "GB200 NVL72 under SGLang"),
    shipped_profile!("gb200-nvl72-trtllm", "GB200 NVL72 under TensorRT-LLM"),
    shipped_profile!("gb200-nvl72-vllm", "GB200 NVL72 under vLLM"),
    shipped_profile!("h100-sxm-sglang", "H100 SXM under SGLang"),
    shipped_profile!("h100-sxm-trtllm", "H100 SXM under TensorRT-LLM"),
    shipped_profile!("h100-sxm-vllm", "H100 SXM under vLLM"),
    shipped_profile!("h200-sxm-sglang", "H200 SXM under SGLang"),
    shipped_profile!("h200-sxm-trtllm", "H200 SXM under TensorRT-LLM"),
    shipped_profile!("h200-sxm-vllm", "H200 SXM under vLLM"),
    shipped_profile!("l40s-sglang", "L40S under SGLang"),
    shipped_profile!("l40s-trtllm", "L40S under TensorRT-LLM"),
    shipped_profile!("l40s-vllm", "L40S under vLLM"),
];

/// The profile of preset `name`.
///
/// # Errors
/// When no preset has that name.
pub fn profile(name: &str) -> Result<Profile> {
    let preset = find("profile", PROFILES, name)?;
    Profile::read(preset.bytes, &format!("preset {}", preset.name))
}

/// The shipped profile of `device` under `engine`, where there is one: engines that are modes of
/// another (`sglang-dynamic`) share its kernels.
#[must_use]
pub fn profile_for(device: &str, engine: &str) -> Option<&'static ShippedProfile> {
    PROFILES.iter().find(|preset| {
        preset
            .name
            .strip_prefix(device)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|own| engine == own || engine.strip_prefix(own) == Some("-dynamic"))
    })
}

/// The device of preset `name`.
///
/// # Errors
/// When no preset has that name.
pub fn device(name: &str) -> Result<Device> {
    let preset = find("hardware", HARDWARE, name)?;
    let device: Device = read(preset)?;
    device.validate()?;
    Ok(device)
}

/// The cluster of preset `name`; `None` where none has that name.
///
/// # Errors
/// When the shipped file is wrong, which a test makes sure of.
pub fn cluster(name: &str) -> Result<Option<Cluster>> {
    let preset = CLUSTERS.iter().find(|preset| preset.name == name);
    preset.map(|preset| Cluster::read(preset.text, &format!("cluster {name}"), name)).transpose()
}

/// The model of preset `name`.
///
/// # Errors
/// When no preset has that name.
pub fn model(name: &str) -> Result<ModelShape> {
    let preset = find("model", MODELS, name)?;
    let shape: ModelShape = read(preset)?;
    shape.validate()?;
    Ok(shape)
}

fn read<T: serde::de::DeserializeOwned>(preset: &Preset) -> Result<T> {
    toml::from_str(preset.text).map_err(|error| Error::Invalid {
        path: format!("preset {}", preset.name),
        key: "file".to_owned(),
        found: error.message().to_owned(),
        expected: "a valid profile".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::SourceKind;

    #[test]
    fn every_device_is_valid_and_called_as_it_is_listed() {
        for preset in HARDWARE {
            let device = device(preset.name).unwrap();
            assert_eq!(device.name, preset.name);
            assert!(device.flops_fp8.value >= device.flops_bf16.value, "{}", preset.name);
            // The memory is nearer than the domain, and the domain than the network.
            let domain = device.domain_bandwidth.value;
            assert!(device.memory_bandwidth.value > domain, "{}", preset.name);
            assert!(domain > device.network_bandwidth.value, "{}", preset.name);
            // Nothing that ships is called measured before one of our benchmarks has run.
            let kinds = [
                device.memory.kind,
                device.memory_bandwidth.kind,
                device.domain_latency.kind,
                device.power_idle.kind,
                device.power_max.kind,
            ];
            assert!(!kinds.contains(&SourceKind::Measured), "{}", preset.name);
        }
    }

    #[test]
    fn every_model_is_valid_and_called_as_it_is_listed() {
        for preset in MODELS {
            let shape = model(preset.name).unwrap();
            assert_eq!(shape.name, preset.name);
            assert!(shape.source.starts_with("https://huggingface.co/"), "{}", shape.source);
            assert_eq!(shape.absolute(crate::ids::MoeLayer(0)), Some(shape.moe_layers[0]));
        }
    }

    #[test]
    fn presets_are_alphabetical_and_described() {
        for family in [ENGINES, HARDWARE, MODELS] {
            assert!(family.windows(2).all(|pair| pair[0].name < pair[1].name));
            assert!(family.iter().all(|preset| !preset.about.is_empty()));
        }
    }

    #[test]
    fn descriptions_count_layers_and_experts_as_the_files_do() {
        for preset in MODELS.iter().filter(|preset| preset.about.contains("top-")) {
            let shape = model(preset.name).unwrap();
            let (layers, experts) = (shape.moe_layers.len(), shape.experts);
            let counts = format!("{layers} MoE layers x {experts} experts, top-{}", shape.top_k);
            assert!(preset.about.ends_with(&counts), "{}: {counts}", preset.about);
        }
    }

    #[test]
    fn experts_hold_the_parameters_that_their_makers_publish() {
        // Routed experts alone, in billions: 3 matrices per expert, in every MoE layer.
        // DeepSeek-V3 is sold as 671B, Kimi-K2 as 1T, Mixtral as 47B, Qwen3 as 235B and 30B,
        // gpt-oss as 117B and OLMoE as 6.9B; the rest is attention, shared experts and embeddings.
        let cases = [
            ("deepseek-r1", 654),
            ("deepseek-v2-lite", 14),
            ("deepseek-v3", 654),
            ("glm-5", 725),
            ("gpt-oss-120b", 115),
            ("kimi-k2", 1_015),
            ("minimax-m2.5", 225),
            ("mixtral-8x7b", 45),
            ("olmoe-1b-7b", 6),
            ("openmoe-8b", 6),
            ("phi-3.5-moe", 40),
            ("qwen1.5-moe-a2.7b", 12),
            ("qwen2-57b-a14b", 49),
            ("qwen3-235b-a22b", 227),
            ("qwen3-30b-a3b", 29),
        ];
        assert_eq!(cases.len(), MODELS.len());
        for (name, billions) in cases {
            let shape = model(name).unwrap();
            let expert = 3 * u64::from(shape.hidden) * u64::from(shape.expert_inter);
            let params = expert * u64::from(shape.experts) * shape.moe_layers.len() as u64;
            let rounded = (params + 500_000_000) / 1_000_000_000;
            assert_eq!(rounded, billions, "{name}: {params}");
        }
    }

    #[test]
    fn attention_holds_the_parameters_of_its_matrices() {
        // By hand. DeepSeek-V3: 7168 x 1536 and 1536 x 128 x 192 for queries, 7168 x 576 and
        // 512 x 128 x 256 for keys and values, 128 x 128 x 7168 out; DeepSeek-V2-Lite compresses
        // no queries: 2048 x 16 x 192. Mixtral: 4096 x 128 x (32 + 8 + 8 + 32).
        let cases = [
            ("deepseek-v2-lite", 13_762_560),
            ("deepseek-v3", 187_105_280),
            ("mixtral-8x7b", 41_943_040),
        ];
        for (name, params) in cases {
            assert_eq!(model(name).unwrap().attention_params(), params, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_valid_ones() {
        let answer = model("mixtral").unwrap_err().to_string();
        assert!(answer.contains("valid names are deepseek-r1, deepseek-v2-lite"), "{answer}");
    }
}

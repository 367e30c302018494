//! The facts that ship with moecast: one file per model and per device, checked by tests.

use crate::hardware::Device;
use crate::model::ModelShape;
use crate::registry::{Named, find};
use crate::{Error, Result};

/// A shipped file.
pub struct Preset {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    text: &'static str,
}

impl Named for Preset {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

macro_rules! preset {
    ($family:literal, $name:literal, $about:literal) => {
        Preset {
            name: $name,
            about: $about,
            text: include_str!(concat!("../builtin/", $family, "/", $name, ".toml")),
        }
    };
}

/// Every shipped kind of GPU, alphabetical.
pub const HARDWARE: &[Preset] = &[
    preset!("hardware", "a100-sxm", "NVIDIA A100 SXM 80 GB, NVLink 3"),
    preset!("hardware", "b200", "NVIDIA B200 SXM 180 GB, NVLink 5"),
    preset!("hardware", "gb200-nvl72", "NVIDIA GB200 NVL72, 72 GPUs in one NVLink domain"),
    preset!("hardware", "h100-sxm", "NVIDIA H100 SXM 80 GB, NVLink 4"),
    preset!("hardware", "h200-sxm", "NVIDIA H200 SXM 141 GB, NVLink 4"),
    preset!("hardware", "rtx-4090", "NVIDIA GeForce RTX 4090 24 GB, PCIe 4"),
];

/// Every shipped model, alphabetical.
pub const MODELS: &[Preset] = &[
    preset!("models", "deepseek-r1", "DeepSeek-R1: the shape of DeepSeek-V3"),
    preset!("models", "deepseek-v3", "DeepSeek-V3 671B: 58 MoE layers x 256 experts, top-8"),
    preset!("models", "gpt-oss-120b", "gpt-oss-120b: 36 MoE layers x 128 experts, top-4"),
    preset!("models", "kimi-k2", "Kimi-K2 1T: 60 MoE layers x 384 experts, top-8"),
    preset!("models", "mixtral-8x7b", "Mixtral-8x7B: 32 MoE layers x 8 experts, top-2"),
    preset!("models", "olmoe-1b-7b", "OLMoE-1B-7B: 16 MoE layers x 64 experts, top-8"),
    preset!("models", "qwen3-235b-a22b", "Qwen3-235B-A22B: 94 MoE layers x 128 experts, top-8"),
    preset!("models", "qwen3-30b-a3b", "Qwen3-30B-A3B: 48 MoE layers x 128 experts, top-8"),
];

/// The device of preset `name`.
///
/// # Errors
/// When no preset has that name.
pub fn device(name: &str) -> Result<Device> {
    let preset = find("hardware", HARDWARE, name)?;
    read(preset)
}

/// The model of preset `name`.
///
/// # Errors
/// When no preset has that name.
pub fn model(name: &str) -> Result<ModelShape> {
    let preset = find("model", MODELS, name)?;
    read(preset)
}

fn read<T: serde::de::DeserializeOwned>(preset: &Preset) -> Result<T> {
    toml::from_str(preset.text).map_err(|error| Error::Invalid {
        path: format!("preset {}", preset.name),
        key: "file".to_owned(),
        found: error.message().to_owned(),
        expected: "a valid profile".to_owned(),
    })
}

//! Names on the command line become facts: models, traces, digests.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};
use moecast_profiles::builtin;
use moecast_profiles::hardware::{Hardware, SourceKind, Sourced};
use moecast_profiles::model::{ModelShape, read_config};
use moecast_traces::{RoutingTrace, format};

/// A preset by name, or the `config.json` at a path.
pub(crate) fn model(name: &str) -> Result<ModelShape> {
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(read_config(path)?);
    }
    builtin::model(name).context("a model is a preset or the path of a config.json")
}

/// A trace and the digest of its file.
pub(crate) struct TraceFile {
    pub(crate) trace: RoutingTrace,
    pub(crate) sha256: String,
}

pub(crate) fn trace(path: &Path) -> Result<TraceFile> {
    let trace = format::read(path)?;
    Ok(TraceFile { trace, sha256: moecast_traces::digest_file(path)?.sha256 })
}

/// The figures of a machine that a result rests on, each with its source.
pub(crate) fn hardware_details(hardware: &Hardware) -> Vec<String> {
    fn line<T: Display>(what: &str, figure: &Sourced<T>) -> String {
        let kind = match figure.kind {
            SourceKind::Measured => "measured",
            SourceKind::Published => "published",
            SourceKind::Assumed => "assumed",
        };
        format!("  {what}: {} ({kind}: {})", figure.value, figure.source)
    }
    let device = hardware.device();
    vec![
        format!("{}:", device.name),
        line("memory", &device.memory),
        line("memory bandwidth", &device.memory_bandwidth),
        line("bf16", &device.flops_bf16),
        line("fp8", &device.flops_fp8),
        line("domain bandwidth, one direction", &device.domain_bandwidth),
        line("domain latency", &device.domain_latency),
        line("network bandwidth, one direction", &device.network_bandwidth),
        line("network latency", &device.network_latency),
    ]
}

/// The preset that a recording's model name means: engines write names such as
/// `Qwen3-30B-A3B-Q4_K_M.gguf` or `deepseek-ai/DeepSeek-V3`.
pub(crate) fn preset_in(recorded: &str) -> Option<&'static str> {
    let recorded = recorded.to_lowercase();
    let names = builtin::MODELS.iter().map(|preset| preset.name);
    names.filter(|name| recorded.contains(name)).max_by_key(|name| name.len())
}

//! Arguments of `moecast memory plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use moecast_profiles::model::DataType;
use moecast_profiles::units::{Bandwidth, Bytes, Flops, Nanos};
use moecast_sim::offload::Split;

/// Options that say what the machine is; a file says all of it.
const MACHINE: [&str; 17] = [
    "model",
    "expert_type",
    "dense_type",
    "gpu",
    "gpus",
    "split",
    "trace",
    "requests",
    "prompt",
    "generated",
    "host_bandwidth",
    "host_memory",
    "storage_bandwidth",
    "cpu_bandwidth",
    "cpu_flops",
    "synchronisation",
    "batch",
];

#[derive(Args)]
pub(crate) struct Plan {
    /// A file as `moecast offload` reads it, whose machine is planned for; or --model and --gpu.
    #[arg(conflicts_with_all = MACHINE)]
    pub(crate) file: Option<PathBuf>,
    /// A variant of the file [default: the first].
    #[arg(long, requires = "file")]
    pub(crate) variant: Option<String>,
    /// Model preset, or path of a config.json.
    #[arg(long, requires = "gpu")]
    pub(crate) model: Option<String>,
    /// How routed experts are stored: bf16, fp8, mxfp4 or int4 [default: as the model has them].
    #[arg(long, value_parser = data_type)]
    pub(crate) expert_type: Option<DataType>,
    /// How all other weights are stored [default: as the model has them].
    #[arg(long, value_parser = data_type)]
    pub(crate) dense_type: Option<DataType>,
    /// Kind of GPU; `moecast list hardware` names them.
    #[arg(long)]
    pub(crate) gpu: Option<String>,
    /// Number of GPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) gpus: u16,
    /// What each GPU holds of the experts.
    #[arg(long, value_enum, default_value_t = SplitArgument::Tensor)]
    pub(crate) split: SplitArgument,
    /// Ask what so much memory of each GPU gives, such as 24GiB; several, comma separated [default:
    /// all that the GPU has].
    #[arg(
        long,
        value_delimiter = ',',
        allow_hyphen_values = true,
        conflicts_with = "tokens_per_second"
    )]
    pub(crate) memory: Vec<Bytes>,
    /// Ask how much memory each GPU needs for so many generated tokens a second.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) tokens_per_second: Option<f64>,
    /// A recording of expert routing [default: synthetic, like the model's preset].
    #[arg(long)]
    pub(crate) trace: Option<PathBuf>,
    /// Without a recording: how many requests are made up.
    #[arg(long, default_value_t = 16)]
    pub(crate) requests: u32,
    /// Without a recording: tokens of each prompt.
    #[arg(long, default_value_t = 32)]
    pub(crate) prompt: u32,
    /// Without a recording: tokens of each answer.
    #[arg(long, default_value_t = 64)]
    pub(crate) generated: u32,
    /// Share of the requests that the search does not see and is judged on.
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    pub(crate) heldout: f64,
    /// Bandwidth of copies from host memory to one GPU, such as 25GB/s [default: 80% of its link].
    #[arg(long)]
    pub(crate) host_bandwidth: Option<Bandwidth>,
    /// Host memory for experts; the others are in storage [default: all fit].
    #[arg(long, requires = "storage_bandwidth")]
    pub(crate) host_memory: Option<Bytes>,
    /// Bandwidth of reading experts from storage.
    #[arg(long, requires = "host_memory")]
    pub(crate) storage_bandwidth: Option<Bandwidth>,
    /// Let the host's processor compute missing experts, reading weights at so much, such as
    /// 60GB/s [default: GPUs compute everything].
    #[arg(long, requires = "cpu_flops")]
    pub(crate) cpu_bandwidth: Option<Bandwidth>,
    /// Rate at which that processor computes, such as 2TFLOP/s.
    #[arg(long, requires = "cpu_bandwidth")]
    pub(crate) cpu_flops: Option<Flops>,
    /// Time in which the host reads what a layer's router chose, in every layer; assumed.
    #[arg(long, default_value = "20us")]
    pub(crate) synchronisation: Nanos,
    /// Requests served at once: one pass generates a token of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// Tokens of each request that room for keys and values is kept for.
    #[arg(long, default_value_t = 4096)]
    pub(crate) context: u32,
    /// Memory of each GPU that nobody may use: driver, activations, graphs; assumed.
    #[arg(long, default_value = "1GiB")]
    pub(crate) reserve: Bytes,
    /// Prefetchers that need a trained predictor, or the next layers' gates, may be chosen too.
    #[arg(long)]
    pub(crate) assume_predictor: bool,
    /// Mean bits of an expert's weight, at most those that it is stored in: its copies and its
    /// place in memory shrink as much [default: experts stay as stored].
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) bits: Option<f64>,
    /// How experts share these bits; `moecast list precision-policies` names the rules.
    #[arg(long, requires = "bits", default_value = "budget")]
    pub(crate) bits_rule: String,
    /// Measured quantisation errors that the rule weighs, a CSV `layer,expert,bits,error` [default:
    /// 4^-bits, assumed].
    #[arg(long, requires = "bits")]
    pub(crate) errors: Option<PathBuf>,
    /// Search only among what this engine can do as it is.
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineArgument>,
    /// Most simulations of the search; those of the curve, of the baselines and of the judgement on
    /// held-out requests come on top.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub(crate) simulations: u32,
    /// Plans, the best of the search, that are judged on requests that it did not see.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) top: u16,
    /// Folder for memory.json, the best plan, and memory.svg and memory.png, the curve [default:
    /// write nothing].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// What GPUs hold of the experts.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SplitArgument {
    /// A part of every expert.
    Tensor,
    /// Experts of their own.
    Expert,
}

/// Engines that keep experts where they are put, and compute the others on the processor.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArgument {
    /// Whole layers stay in GPU memory.
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// Experts stay in GPU memory, whichever.
    Ktransformers,
}

impl From<SplitArgument> for Split {
    fn from(split: SplitArgument) -> Self {
        match split {
            SplitArgument::Tensor => Self::Tensor,
            SplitArgument::Expert => Self::Expert,
        }
    }
}

fn data_type(text: &str) -> Result<DataType, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
}

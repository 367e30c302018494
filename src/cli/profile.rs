//! `moecast profile ...`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measure this machine, with raw samples, and fit a profile to them.
    Calibrate(Calibrate),
    /// Hold a profile against samples: errors per kernel, the worst points, a figure.
    Check(Check),
    /// Fit a profile to a file of samples.
    Fit(Fit),
    /// Read tables and benchmark outputs of others and fit a profile to them.
    Import(Import),
    /// Show what a profile holds, and how far off it was on points held out; or a cluster's links.
    Show(Show),
    /// Fit the constants of a deployment (host time, offsets, factors) to measured runs.
    Tune(Tune),
}

#[derive(Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Import {
    /// What the source is; `moecast list kernel-tables` names them.
    pub(crate) format: String,
    /// The file or folder: an aiconfigurator-core wheel, a text output, a folder of CSV.
    pub(crate) source: PathBuf,
    /// The GPU: `h200_sxm`, or a hardware preset.
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// The inference engine: sglang, trtllm or vllm.
    #[arg(long)]
    pub(crate) engine: Option<String>,
    /// The engine's version [default: the newest].
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// The profile to write.
    #[arg(short, long, required_unless_present = "samples")]
    pub(crate) output: Option<PathBuf>,
    /// Write the samples themselves, as JSON lines.
    #[arg(long)]
    pub(crate) samples: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Fit {
    /// Samples, as `import --samples` and `calibrate --samples` write them.
    pub(crate) samples: PathBuf,
    /// The profile to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
pub(crate) struct Show {
    /// A shipped profile, or the path of one; or a cluster such as hgx-h100:12, or the path of its
    /// file (*.toml).
    pub(crate) profile: String,
}

#[derive(Args)]
pub(crate) struct Check {
    /// A shipped profile, or the path of one.
    pub(crate) profile: String,
    /// Samples that it is held against.
    #[arg(long)]
    pub(crate) against: PathBuf,
    /// A figure of predicted over measured times (.svg or .png).
    #[arg(long)]
    pub(crate) figure: Option<PathBuf>,
    /// Fail where a kernel's median error is above this share, for example 0.05.
    #[arg(long)]
    pub(crate) fail_above: Option<f64>,
}

#[derive(Args)]
pub(crate) struct Calibrate {
    /// What to measure: `cpu` or `cuda:0` (a build with `--features cuda`).
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// What to call it, for example h200-sxm: bounds of the closed forms come from that hardware
    /// preset [default: the device's own name].
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// Folder on the storage whose reads are measured [default: storage is not measured].
    #[arg(long)]
    pub(crate) storage: Option<PathBuf>,
    /// The profile to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// The raw samples; a run that was interrupted goes on from them [default: beside the
    /// profile, as NAME.samples.jsonl].
    #[arg(long)]
    pub(crate) samples: Option<PathBuf>,
    /// Measure again what the samples file already holds.
    #[arg(long)]
    pub(crate) afresh: bool,
}

#[derive(Args)]
pub(crate) struct Tune {
    /// CSV of measured runs: model, gpu, tp, ep, isl, osl, concurrency, backend, ttft_ms, tpot_ms
    /// and more.
    #[arg(long)]
    pub(crate) runs: PathBuf,
    /// Profile of measured kernels [default: the shipped one of each run's GPU and engine].
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// The calibration records to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
}

//! Arguments of `moecast rebalance`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use moecast_profiles::units::Nanos;

#[derive(Args)]
pub(crate) struct Rebalance {
    /// The routing trace that is served.
    #[arg(long)]
    pub(crate) trace: PathBuf,
    /// Model preset, or path of a config.json [default: the model that the trace names].
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// GPUs, as PRESET:NODESxGPUS, for example h200-sxm:1x8.
    #[arg(long)]
    pub(crate) cluster: String,
    /// Engine: its replica rule, and its window and interval by default.
    #[arg(long, default_value = "sglang")]
    pub(crate) engine: String,
    /// Kernel cost model [default: calibrated where there is a profile, else roofline].
    #[arg(long)]
    pub(crate) cost: Option<String>,
    /// Profile of measured kernels: a shipped one, or a path [default: of the GPU and engine].
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// How tokens reach their experts; `moecast list exchanges` [default: as the engine does].
    #[arg(long)]
    pub(crate) exchange: Option<String>,
    /// How expert weights are stored: bf16, fp8, mxfp4 or int4 [default: the model's].
    #[arg(long)]
    pub(crate) expert_type: Option<String>,
    /// A plan.json that serving begins with [default: experts in order].
    #[arg(long, conflicts_with_all = ["slots", "redundant"])]
    pub(crate) plan: Option<PathBuf>,
    /// Physical slots per layer, all ranks together.
    #[arg(long, conflicts_with = "redundant")]
    pub(crate) slots: Option<u16>,
    /// Physical slots per layer beyond one per expert [default: what makes them divide by GPUs].
    #[arg(long)]
    pub(crate) redundant: Option<u16>,
    /// Placement algorithms, comma separated; `moecast list algorithms` names them.
    #[arg(long, value_delimiter = ',', default_value = "eplb")]
    pub(crate) algorithm: Vec<String>,
    /// How weights move, comma separated.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "blocking")]
    pub(crate) how: Vec<HowArgument>,
    /// Layers whose weights move beside one step, layer by layer.
    #[arg(long, default_value_t = 1)]
    pub(crate) layers_per_step: usize,
    /// Steps whose loads the algorithm sees [default: the engine's].
    #[arg(long)]
    pub(crate) window: Option<usize>,
    /// Steps between two looks at the loads, comma separated [default: the engine's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) interval: Vec<usize>,
    /// Max over mean rank load of the window above which the algorithm is asked.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) threshold: f64,
    /// What one call of the algorithm takes, such as 300ms [default: EPLB's Python, by slots];
    /// copies in every step need none.
    #[arg(long)]
    pub(crate) algorithm_time: Option<Nanos>,
    /// Serving goes on while the algorithm computes.
    #[arg(long)]
    pub(crate) algorithm_beside: bool,
    /// Context of requests where the recording does not know it, tokens.
    #[arg(long, default_value_t = 2048)]
    pub(crate) context: u32,
    /// Folder for rebalance.json and rebalance.csv, a line for every step of every policy.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HowArgument {
    /// Serving stands still until all weights are there.
    Blocking,
    /// Weights move beside traffic, a few layers in every step.
    LayerByLayer,
    /// Hot experts are copied to other ranks anew in every step (FSSDP).
    EveryStep,
}

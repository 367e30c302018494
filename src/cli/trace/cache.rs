//! `moecast trace cache`, as typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use moecast_profiles::units::Bytes;

#[derive(Args)]
pub(crate) struct Cache {
    /// The trace.
    pub(crate) trace: PathBuf,
    /// Policies, comma separated; `moecast list cache-policies` names them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "belady,least-stale,lfu,lfu-history,lru,s3-fifo"
    )]
    pub(crate) policy: Vec<String>,
    /// Sizes in experts of all layers together, comma separated [default: an eighth to three
    /// quarters of all experts].
    #[arg(long, value_delimiter = ',', conflicts_with = "bytes")]
    pub(crate) slots: Vec<u64>,
    /// Sizes in bytes of all layers together, comma separated: "4000MiB,8GiB".
    #[arg(long, value_delimiter = ',')]
    pub(crate) bytes: Vec<Bytes>,
    /// What is looked up at once.
    #[arg(long, value_enum, default_value_t = GranularityArgument::Layer)]
    pub(crate) granularity: GranularityArgument,
    /// Which experts share slots.
    #[arg(long, value_enum, default_value_t = PoolArgument::Global)]
    pub(crate) pool: PoolArgument,
    /// Slots of each MoE layer, comma separated; for --pool planned.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["slots", "bytes"])]
    pub(crate) layer_slots: Vec<u64>,
    /// Model preset or path of a config.json that says the bytes of an expert [default: what the
    /// trace says].
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Share of requests or steps that policies are judged on and not fitted to.
    #[arg(long)]
    pub(crate) heldout: Option<f64>,
    /// Also the miss-ratio curve of LRU at all sizes.
    #[arg(long)]
    pub(crate) curve: bool,
    /// Windows of steps that results over time are cut into, at most.
    #[arg(long, default_value = "20")]
    pub(crate) windows: NonZeroUsize,
    /// Folder for cache.json, cache.svg and cache.png.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GranularityArgument {
    /// Every pick by itself, as cache simulators do it.
    Access,
    /// The distinct experts of one step in one layer, as engines do it.
    Layer,
    /// The experts of one token in all layers.
    Token,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolArgument {
    /// All layers share all slots.
    Global,
    /// Every layer has its own, equally many.
    PerLayer,
    /// Every layer has its own, as --layer-slots says.
    Planned,
}

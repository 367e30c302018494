//! Arguments of the commands that simulate a service many times.

use std::path::PathBuf;

use clap::Args;
use moecast_profiles::units::Nanos;

#[derive(Args)]
pub(crate) struct Capacity {
    /// The service; its load must arrive by rate, not wait for answers.
    pub(crate) service: PathBuf,
    /// Kinds of GPUs to compare, comma separated [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) gpu: Vec<String>,
    /// Layouts to compare, comma separated, such as tp8ep8,tp1dp8ep8 [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) layout: Vec<String>,
    /// Price of a GPU for an hour: one, or one for each --gpu [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) price: Vec<f64>,
    /// Requests per second [default: the file's].
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Instead of replicas, find the largest rate that the file's replicas hold.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) rate_max: bool,
    /// Longest time to the first token, such as 500ms [default: the file's].
    #[arg(long)]
    pub(crate) ttft: Option<Nanos>,
    /// Longest mean time between the tokens of a request [default: the file's].
    #[arg(long)]
    pub(crate) tpot: Option<Nanos>,
    /// Longest time to the last token [default: the file's].
    #[arg(long)]
    pub(crate) end_to_end: Option<Nanos>,
    /// Share of the requests that must keep all of these limits.
    #[arg(long, default_value_t = 0.99)]
    pub(crate) goodput: f64,
    /// Replicas to try at most.
    #[arg(long, default_value_t = 1024)]
    pub(crate) replicas_max: u16,
    /// Shortest time that generated requests arrive for.
    #[arg(long, default_value = "120s")]
    pub(crate) duration: Nanos,
}

#[derive(Args)]
pub(crate) struct Study {
    /// The study: a service, and the keys of it that differ; see examples/studies.
    pub(crate) study: PathBuf,
    /// Folder for study.csv, study.json, report.html and figures/.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Simulate every point again, also those that the folder already holds.
    #[arg(long)]
    pub(crate) afresh: bool,
}

//! Arguments of the commands that simulate a service many times.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct Capacity {
    /// The service, with a load that does not wait for answers and with an [slo].
    pub(crate) service: PathBuf,
    /// Share of the requests that must keep the SLO.
    #[arg(long, default_value_t = 0.99)]
    pub(crate) goodput_share: f64,
    /// Replicas to try at most.
    #[arg(long, default_value_t = 1024)]
    pub(crate) replicas_max: u16,
    /// Instead of replicas, find the largest rate that the file's replicas hold.
    #[arg(long, conflicts_with = "replicas_max")]
    pub(crate) rate_max: bool,
    /// Kinds of GPUs to compare, comma separated [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) gpu: Vec<String>,
    /// Price of a GPU for an hour, one for each of --gpu [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) price: Vec<f64>,
    /// Layouts to compare, comma separated, such as tp8ep8,tp1dp8ep8 [default: the file's].
    #[arg(long, value_delimiter = ',')]
    pub(crate) layout: Vec<String>,
    /// Folder for capacity.json and tried.csv: every service that was tried.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
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

//! The arguments exactly as typed. Nothing is opened, resolved or checked here.

pub(crate) mod memory;
pub(crate) mod offload;
pub(crate) mod pass;
pub(crate) mod profile;
pub(crate) mod rebalance;
pub(crate) mod serving;
pub(crate) mod swarm;
pub(crate) mod trace;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::offload::Offload;
pub(crate) use self::pass::Pass;

/// Simulate and plan expert placement for Mixture-of-Experts inference, from recorded routing.
#[derive(Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args)]
pub(crate) struct Global {
    /// Print one JSON object with stable keys instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Seed of everything random; the same seed gives the same bytes.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Worker threads; the results do not depend on it [default: all cores].
    #[arg(long, global = true)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Print results only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more about what was read and assumed.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Find the fewest GPUs that hold an SLO at a load, or the largest load that GPUs hold.
    Capacity(serving::Capacity),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// List what can be named: algorithms, engines, exporters, figures, hardware, importers, ...
    List(List),
    /// Plan for experts that do not all fit a GPU: bits of each, files that engines load.
    #[command(subcommand)]
    Memory(memory::Command),
    /// Serve requests with experts in GPU memory, host memory and storage.
    Offload(offload::Offload),
    /// Simulate one forward pass of full batches: overlap, exchanges, timeline.
    Pass(pass::Pass),
    /// Plan which expert sits on which GPU and write the files that engines load.
    Plan(Plan),
    /// Import, fit, show and check profiles of measured kernels.
    #[command(subcommand)]
    Profile(profile::Command),
    /// Do everything once, on data that ships with moecast.
    Quickstart(Quickstart),
    /// Simulate experts that move while a recording is served: how often does it pay?
    Rebalance(rebalance::Rebalance),
    /// Turn a simulated run into one self-contained page and figures.
    Report(Report),
    /// Simulate a service under load: TTFT, TPOT, throughput, utilisation, energy and cost.
    Serve(Serve),
    /// Simulate recorded forward passes with a plan and with the placements it replaces.
    Simulate(Simulate),
    /// Simulate a service over a grid of its keys: which setting is fastest, which is cheapest.
    Study(serving::Study),
    /// Check the serving simulator itself: random services against laws that every run keeps.
    Swarm(swarm::Swarm),
    /// Import, measure, show, cut, join and export recordings of expert routing.
    #[command(subcommand)]
    Trace(trace::Command),
    /// Simulate published measurements and say how far off the predictions are.
    Validate(Validate),
}

#[derive(Args)]
pub(crate) struct Validate {
    /// CSV of measured runs, as `moecast profile tune` reads them [default: published systems].
    #[arg(long)]
    pub(crate) runs: Option<PathBuf>,
    /// A suite of published figures [default: those that ship with moecast].
    #[arg(long, conflicts_with = "runs")]
    pub(crate) suite: Option<PathBuf>,
    /// Records that `moecast profile tune` wrote [default: what engines do by default].
    #[arg(long, requires = "runs")]
    pub(crate) calibration: Option<PathBuf>,
    /// Profile of measured kernels [default: the shipped one of each run's GPU and engine].
    #[arg(long, requires = "runs")]
    pub(crate) profile: Option<String>,
    /// Only runs of this trust.
    #[arg(long, requires = "runs")]
    pub(crate) trust: Option<String>,
    /// A figure of predicted against measured times (.svg or .png).
    #[arg(long, requires = "runs")]
    pub(crate) figure: Option<PathBuf>,
    /// Fail where errors are worse than in this table, which --write-errors wrote.
    #[arg(long, requires = "runs")]
    pub(crate) against: Option<PathBuf>,
    /// Write the table of errors.
    #[arg(long, requires = "runs")]
    pub(crate) write_errors: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Plan {
    /// The routing trace to plan on.
    #[arg(long, required_unless_present = "loads", conflicts_with = "loads")]
    pub(crate) trace: Option<PathBuf>,
    /// Instead of a trace: a CSV `layer,expert,count`.
    #[arg(long)]
    pub(crate) loads: Option<PathBuf>,
    /// Model preset, or path of a config.json [default: the model that the trace names].
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// GPUs, as PRESET:NODESxGPUS, for example h200-sxm:1x8; or a cluster, such as hgx-h100:12 for
    /// 12 nodes, or the path of its file (*.toml).
    #[arg(long, required_unless_present = "gpus", conflicts_with_all = ["gpus", "nodes"])]
    pub(crate) cluster: Option<String>,
    /// Without a cluster: number of GPUs.
    #[arg(long)]
    pub(crate) gpus: Option<u16>,
    /// Without a cluster: number of nodes that the GPUs are on.
    #[arg(long, requires = "gpus")]
    pub(crate) nodes: Option<u16>,
    /// Physical slots per layer beyond one per expert [default: what makes them divide by GPUs].
    #[arg(long, conflicts_with = "slots")]
    pub(crate) redundant: Option<u16>,
    /// Physical slots per layer, all ranks together.
    #[arg(long)]
    pub(crate) slots: Option<u16>,
    /// Groups of experts that the router limits its choice to [default: the model's].
    #[arg(long)]
    pub(crate) groups: Option<u16>,
    /// Placement algorithm; `moecast list algorithms` names them.
    #[arg(long, default_value = "moecast")]
    pub(crate) algorithm: String,
    /// Engines to write files for, comma separated; predictions use the first one's rules.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engine: Vec<String>,
    /// Exchange model of the predictions; `moecast list exchanges` [default: the engine's].
    #[arg(long)]
    pub(crate) exchange: Option<String>,
    /// Share of the recording that the planner does not see and is judged on; 0 plans on all.
    #[arg(long, default_value_t = 0.3)]
    pub(crate) heldout: f64,
    /// Folder for plan.json and the engines' files [default: write nothing].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// The service: model, GPUs, engine, layout, routing and load; see examples/serving.
    pub(crate) scenario: PathBuf,
    /// Folder for service.json, requests.csv and the service.toml that repeats the run.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Simulate {
    /// A scenario.toml that an earlier run wrote; repeats that run.
    #[arg(conflicts_with_all =
        ["trace", "plan", "model", "cluster", "engine", "cost", "profile", "exchange", "part"])]
    pub(crate) scenario: Option<PathBuf>,
    /// The routing trace.
    #[arg(long, required_unless_present = "scenario")]
    pub(crate) trace: Option<PathBuf>,
    /// The plan.json to simulate.
    #[arg(long, required_unless_present = "scenario")]
    pub(crate) plan: Option<PathBuf>,
    /// Model preset, or path of a config.json [default: the plan's].
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// GPUs, as PRESET:NODESxGPUS, or a cluster or its file [default: the plan's].
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// Engine whose replica rule is simulated [default: the plan's].
    #[arg(long)]
    pub(crate) engine: Option<String>,
    /// Kernel cost model [default: calibrated where there is a profile, else roofline].
    #[arg(long)]
    pub(crate) cost: Option<String>,
    /// Profile of measured kernels: a shipped one, or a path [default: of the GPU and engine].
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// How tokens reach their experts; `moecast list exchanges` [default: as the engine does].
    #[arg(long)]
    pub(crate) exchange: Option<String>,
    /// Part of the recording [default: heldout when the plan was made on this trace, else all].
    #[arg(long, value_enum)]
    pub(crate) part: Option<PartArgument>,
    /// Context of requests where the recording does not know it, tokens.
    #[arg(long, default_value_t = 2048)]
    pub(crate) context: u32,
    /// Folder for run.json, steps.csv and scenario.toml.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PartArgument {
    All,
    Heldout,
    Train,
}

#[derive(Args)]
pub(crate) struct Report {
    /// The folder that `moecast simulate --out` or `moecast trace stats --out` wrote.
    pub(crate) run: PathBuf,
    /// Folder for report.html and figures/ [default: the run's folder].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Quickstart {
    /// Folder for everything that is written.
    #[arg(long, default_value = "moecast-quickstart")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct List {
    /// What to list; without it, the families.
    pub(crate) family: Option<String>,
}

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

//! `moecast trace ...`, as typed.

pub(crate) mod cache;
pub(crate) mod range;
pub(crate) mod requests;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use range::Span;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Replay a trace through caches of experts: hit rates and bytes moved by policy and size.
    Cache(cache::Cache),
    /// Join several recordings of one model into one.
    Concat(Concat),
    /// Write a trace for other tools: CSV, JSON lines, NumPy arrays.
    Export(Export),
    /// Read a recording of an engine and write it as a moecast trace.
    Import(Import),
    /// Measure or generate when requests arrive and how long they are.
    #[command(subcommand)]
    Requests(requests::Command),
    /// Draw a heat map of the load of every expert.
    Show(Show),
    /// Keep some requests, steps, layers, a domain, a phase or the first tokens.
    Slice(Slice),
    /// Split a trace into a training and a held-out part that share no request.
    Split(Split),
    /// Measure load, locality and drift of a trace, each beside what chance gives.
    Stats(Stats),
    /// Generate a trace like a published model or like a recording, as much of it as wanted.
    Synth(Synth),
}

#[derive(Args)]
pub(crate) struct Import {
    /// Files of one recording (several ranks or windows), or folders of them.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The trace to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// Format of the recording; `moecast list importers` names them.
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    /// Model preset, or path of a Hugging Face config.json.
    #[arg(long)]
    pub(crate) model: Option<String>,
}

#[derive(Args)]
pub(crate) struct Stats {
    /// The trace.
    pub(crate) trace: PathBuf,
    /// A plan.json: how many hops from layer to layer stay on a rank under its placement.
    #[arg(long)]
    pub(crate) plan: Option<PathBuf>,
    /// Folder for stats.json, which `moecast report` draws; the folder of a run adds it there.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Split {
    /// The trace.
    pub(crate) trace: PathBuf,
    /// Share that is held out, of requests, domains or steps.
    #[arg(long, default_value_t = 0.3)]
    pub(crate) heldout: f64,
    /// What is kept together [default: request where requests are known, else time].
    #[arg(long, value_enum)]
    pub(crate) by: Option<SplitBy>,
    /// Domains to hold out, comma separated, instead of drawing them; means --by domain.
    #[arg(long, value_delimiter = ',')]
    pub(crate) domain: Vec<String>,
    /// Folder for train.safetensors and heldout.safetensors.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitBy {
    /// Whole requests, drawn by the seed.
    Request,
    /// Whole domains, drawn by the seed.
    Domain,
    /// The last requests to start; the last steps where requests are not known.
    Time,
}

#[derive(Args)]
pub(crate) struct Concat {
    /// The traces, in the order in which they are to follow each other.
    #[arg(required = true)]
    pub(crate) traces: Vec<PathBuf>,
    /// The trace to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// A domain for each trace, comma separated; replaces the domains that they name.
    #[arg(long, value_delimiter = ',')]
    pub(crate) domains: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Slice {
    /// The trace.
    pub(crate) trace: PathBuf,
    /// The trace to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// Requests A..B as the trace numbers them, without B; A.. and ..B are ranges too.
    #[arg(long)]
    pub(crate) requests: Option<Span<u32>>,
    /// Steps A..B as the trace numbers them, without B.
    #[arg(long)]
    pub(crate) steps: Option<Span<u32>>,
    /// Layers A..B as the model numbers them, without B.
    #[arg(long)]
    pub(crate) layers: Option<Span<u16>>,
    /// The tokens of one domain.
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// The tokens of one phase.
    #[arg(long, value_enum)]
    pub(crate) phase: Option<PhaseArgument>,
    /// The first tokens of what the other options leave.
    #[arg(long)]
    pub(crate) tokens: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PhaseArgument {
    /// Tokens of prompts.
    Prefill,
    /// Generated tokens.
    Decode,
}

#[derive(Args)]
pub(crate) struct Export {
    /// The format; `moecast list trace-exporters` names them.
    pub(crate) format: String,
    /// The trace.
    pub(crate) trace: PathBuf,
    /// The file to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The trace.
    pub(crate) trace: PathBuf,
    /// What the rows are.
    #[arg(long, value_enum, default_value_t = ShowBy::Layer)]
    pub(crate) by: ShowBy,
    /// One layer only, as the model numbers it.
    #[arg(long)]
    pub(crate) layer: Option<u16>,
    /// Busiest expert of a layer first, instead of the order of ids.
    #[arg(long)]
    pub(crate) sort: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowBy {
    /// A row for every MoE layer.
    Layer,
    /// A row for every domain, layer by layer.
    Domain,
    /// A row for every window of time, layer by layer.
    Time,
    /// A row for prefill and one for decode, layer by layer.
    Phase,
}

#[derive(Args)]
pub(crate) struct Synth {
    /// Preset to be like; `moecast list presets` names them.
    #[arg(long, required_unless_present_any = ["fit", "recipe"])]
    pub(crate) like: Option<String>,
    /// Instead of a preset: the trace to be like.
    #[arg(long, conflicts_with_all = ["like", "recipe"])]
    pub(crate) fit: Option<PathBuf>,
    /// Instead of a preset: a recipe that `--save` wrote.
    #[arg(long, conflicts_with = "like")]
    pub(crate) recipe: Option<PathBuf>,
    /// Shape of the routers, a preset or the path of a config.json [default: that of the preset or
    /// of the fitted trace].
    #[arg(long, required_unless_present_any = ["like", "fit"])]
    pub(crate) model: Option<String>,
    /// Requests.
    #[arg(long, default_value_t = 64)]
    pub(crate) requests: u32,
    /// Tokens of each request, prompt and answer.
    #[arg(long, default_value_t = 512)]
    pub(crate) tokens: u32,
    /// How many of them are generated [default: a quarter].
    #[arg(long)]
    pub(crate) generated: Option<u32>,
    /// Requests that run together: their prompts are one step, and so is the next token of each.
    #[arg(long, default_value_t = 16)]
    pub(crate) batch: u32,
    /// Sets a knob, which `moecast list knobs` names, popularity=log-normal|zipf,
    /// choice=token|expert, or domains=N.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Writes the recipe to this file.
    #[arg(long)]
    pub(crate) save: Option<PathBuf>,
    /// The trace to write.
    #[arg(short, long, required_unless_present = "save")]
    pub(crate) output: Option<PathBuf>,
}

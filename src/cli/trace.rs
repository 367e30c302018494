//! `moecast trace ...`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Read a recording of an engine and write it as a moecast trace.
    Import(Import),
    /// Measure how unevenly a trace loads its experts.
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
    /// Sets a knob, NAME=VALUE; `moecast list knobs` names them.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Writes the recipe to this file.
    #[arg(long)]
    pub(crate) save: Option<PathBuf>,
    /// The trace to write.
    #[arg(short, long, required_unless_present = "save")]
    pub(crate) output: Option<PathBuf>,
}

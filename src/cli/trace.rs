//! `moecast trace ...`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Read a recording of an engine and write it as a moecast trace.
    Import(Import),
    /// Measure how unevenly a trace loads its experts.
    Stats(Stats),
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
    /// Folder for stats.json, which `moecast report` draws; the folder of a run adds it there.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

//! `moecast trace requests ...`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make requests with an arrival process, as JSON lines that `stats` reads.
    Generate(Generate),
    /// Measure rate, burstiness, lengths and shared prefixes of a request trace.
    Stats(Stats),
}

#[derive(Args)]
pub(crate) struct Stats {
    /// Files of one recording, in the order of time.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Format of the files; `moecast list request-formats` names them.
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
}

#[derive(Args)]
pub(crate) struct Generate {
    /// The arrival process; `moecast list request-generators` names them and their settings.
    pub(crate) generator: String,
    /// A setting, NAME=NUMBER; may be repeated.
    #[arg(long)]
    pub(crate) set: Vec<String>,
    /// Prompt lengths: TOKENS, lognormal:MEAN,CV or uniform:TOKENS,LOW,HIGH (shares of TOKENS).
    #[arg(long, default_value = "1024")]
    pub(crate) input_tokens: String,
    /// Answer lengths, likewise.
    #[arg(long, default_value = "128")]
    pub(crate) output_tokens: String,
    /// Draw pairs of lengths from this request trace instead.
    #[arg(long, conflicts_with_all = ["input_tokens", "output_tokens"])]
    pub(crate) lengths_from: Option<PathBuf>,
    /// The file to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
}

//! `moecast trace ...`: one file per subcommand.

mod cache;
mod checked;
mod edit;
mod export;
mod hops;
mod import;
mod requests;
mod show;
pub(crate) mod stats;
mod summary;
mod synth;

use anyhow::Result;
use moecast_traces::{Header, RoutingTrace};

use crate::cli::Global;
use crate::cli::trace::Command;
use crate::output::Output;

pub(crate) fn run(command: &Command, global: &Global, output: &Output) -> Result<()> {
    match command {
        Command::Cache(arguments) => cache::run(arguments, global, output),
        Command::Concat(arguments) => edit::concat(arguments, output),
        Command::Export(arguments) => export::run(arguments, output),
        Command::Import(arguments) => import::run(arguments, output),
        Command::Requests(command) => requests::run(command, global, output),
        Command::Show(arguments) => show::run(arguments, output),
        Command::Slice(arguments) => edit::slice(arguments, output),
        Command::Split(arguments) => edit::split(arguments, global, output),
        Command::Stats(arguments) => stats::run(arguments, output),
        Command::Synth(arguments) => synth::run(arguments, global, output),
    }
}

/// "156 tokens of 1 request in 129 steps, 48 MoE layers x 128 experts, top-6".
pub(crate) fn describe(trace: &RoutingTrace) -> String {
    let (tokens, steps) = (trace.token_count(), trace.steps().len());
    describe_extent(trace.header(), tokens, trace.request_count(), steps)
}

fn describe_extent(header: &Header, tokens: u64, requests: Option<usize>, steps: usize) -> String {
    let requests = match requests {
        Some(1) => " of 1 request".to_owned(),
        Some(count) => format!(" of {count} requests"),
        None => String::new(),
    };
    format!(
        "{tokens} tokens{requests} in {steps} steps, {} MoE layers x {} experts, top-{}{}",
        header.moe_layers(),
        header.experts,
        header.top_k,
        if header.synthetic { " (synthetic)" } else { "" },
    )
}

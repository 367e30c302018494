//! moecast: simulate and plan expert placement for Mixture-of-Experts inference.
//!
//! This file is the table of contents: arguments are parsed, one command runs, and its answer
//! becomes an exit code. Each command is a file beside this one.

mod capacity;
mod cli;
mod completions;
mod deployment;
mod exchanges;
mod facts;
mod files;
mod keys;
mod list;
mod measured;
mod memory;
mod offload;
mod output;
mod pass;
mod picture;
mod plan;
mod profile;
mod quickstart;
mod rebalance;
mod report;
mod serve;
mod simulate;
mod study;
mod swarm;
mod trace;
mod validate;
mod variants;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};
use crate::output::Output;

/// The input was wrong, or a file could not be read or written.
const BAD_INPUT: u8 = 1;
/// moecast is wrong.
const INTERNAL: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too; both are answers, not errors.
            let code = if error.use_stderr() { BAD_INPUT } else { 0 };
            if error.use_stderr() {
                output::usage_error(&error.render().to_string());
                return ExitCode::from(code);
            }
            return error.print().map_or(ExitCode::from(INTERNAL), |()| ExitCode::from(code));
        }
    };
    std::panic::set_hook(Box::new(output::report_panic));
    let output = Output::new(&cli.global);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&cli, &output)));
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            output.error(&error);
            ExitCode::from(BAD_INPUT)
        }
        Err(_) => ExitCode::from(INTERNAL),
    }
}

fn run(cli: &Cli, output: &Output) -> Result<()> {
    if let Some(threads) = cli.global.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()?;
    }
    match &cli.command {
        Command::Capacity(arguments) => capacity::run(arguments, &cli.global, output),
        Command::Completions(arguments) => completions::run(arguments, output),
        Command::List(arguments) => list::run(arguments, output),
        Command::Memory(command) => memory::run(command, &cli.global, output),
        Command::Offload(arguments) => offload::run(arguments, &cli.global, output),
        Command::Pass(arguments) => pass::run(arguments, &cli.global, output),
        Command::Plan(arguments) => plan::run(arguments, &cli.global, output),
        Command::Profile(command) => profile::run(command, &cli.global, output),
        Command::Quickstart(arguments) => quickstart::run(arguments, &cli.global, output),
        Command::Rebalance(arguments) => rebalance::run(arguments, &cli.global, output),
        Command::Report(arguments) => report::run(arguments, output),
        Command::Serve(arguments) => serve::run(arguments, &cli.global, output),
        Command::Simulate(arguments) => simulate::run(arguments, &cli.global, output),
        Command::Study(arguments) => study::run(arguments, &cli.global, output),
        Command::Swarm(arguments) => swarm::run(arguments, &cli.global, output),
        Command::Trace(command) => trace::run(command, &cli.global, output),
        Command::Validate(arguments) => validate::run(arguments, &cli.global, output),
    }
}

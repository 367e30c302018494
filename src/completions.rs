//! `moecast completions SHELL`.

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Completions};
use crate::output::Output;

pub(crate) fn run(arguments: &Completions, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "moecast", &mut script);
    output.bytes(&script)
}

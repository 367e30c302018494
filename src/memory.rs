//! `moecast memory ...`: experts that do not all fit a GPU; one file per subcommand.

mod bits;
mod export;
mod plan;

use anyhow::Result;

use crate::cli::Global;
use crate::cli::memory::Command;
use crate::output::Output;

pub(crate) fn run(command: &Command, global: &Global, output: &Output) -> Result<()> {
    match command {
        Command::Bits(arguments) => bits::run(arguments, output),
        Command::Export(arguments) => export::run(arguments, output),
        Command::Plan(arguments) => plan::run(arguments, global, output),
    }
}

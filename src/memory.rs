//! `moecast memory ...`: experts that do not all fit a GPU; one file per subcommand.

mod bits;
mod export;

use anyhow::Result;

use crate::cli::memory::Command;
use crate::output::Output;

pub(crate) fn run(command: &Command, output: &Output) -> Result<()> {
    match command {
        Command::Bits(arguments) => bits::run(arguments, output),
        Command::Export(arguments) => export::run(arguments, output),
    }
}

//! `moecast capacity`.
use anyhow::Result;

use crate::cli::Global;
use crate::cli::serving::Capacity;
use crate::output::Output;

pub(crate) fn run(_arguments: &Capacity, _global: &Global, _output: &Output) -> Result<()> {
    anyhow::bail!("not yet")
}

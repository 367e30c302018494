//! Published figures of whole systems.

use anyhow::Result;

use crate::cli::{self, Global};
use crate::output::Output;

pub(super) fn run(_: &cli::Validate, _: &Global, _: &Output) -> Result<()> {
    anyhow::bail!("validate: expected --runs")
}

//! x
use anyhow::Result;
use crate::cli::{Global, Quickstart};
use crate::output::Output;
pub(crate) fn run(_a: &Quickstart, _g: &Global, _o: &Output) -> Result<()> { Ok(()) }

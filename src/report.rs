//! `moecast report RUN`.

use anyhow::Result;
use moecast_reports::{RunFile, page};
use serde_json::json;

use crate::cli::Report;
use crate::files;
use crate::output::Output;

/// Largest run.json that is read: the largest models on the largest clusters need far less.
const RUN_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(arguments: &Report, output: &Output) -> Result<()> {
    let written = make(arguments)?;
    if output.json(&json!({ "files": written }))? {
        return Ok(());
    }
    output.line(&format!("report: {} (and {} figure files)", written[0], written.len() - 1))
}

/// Writes the page and the figures; returns their paths, the page first.
pub(crate) fn make(arguments: &Report) -> Result<Vec<String>> {
    let path = arguments.run.join("run.json");
    let bytes = files::read_small(&path, RUN_BYTES_MAX)?;
    let run = RunFile::read(&bytes, &path.display().to_string())?;
    let out = arguments.out.as_ref().unwrap_or(&arguments.run);
    let mut written = Vec::new();
    for (name, bytes) in page::write_files(&run)? {
        let path = out.join(name);
        files::write_bytes(&path, &bytes)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

//! `moecast report FOLDER`.

use std::path::Path;

use anyhow::{Result, bail};
use moecast_reports::{RunFile, StatsFile, StudyFile, Subject, page};
use serde_json::json;

use crate::cli::Report;
use crate::files;
use crate::output::Output;

/// Largest file that is read: the largest models on the largest clusters need far less.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(arguments: &Report, output: &Output) -> Result<()> {
    let written = make(arguments)?;
    if output.json(&json!({ "files": written }))? {
        return Ok(());
    }
    output.line(&format!("report: {} (and {} figure files)", written[0], written.len() - 1))
}

/// Writes the page and the figures; returns their paths, the page first.
pub(crate) fn make(arguments: &Report) -> Result<Vec<String>> {
    let folder = &arguments.run;
    let run = read(&folder.join("run.json"), RunFile::read)?;
    let stats = read(&folder.join("stats.json"), StatsFile::read)?;
    let study = read(&folder.join("study.json"), StudyFile::read)?;
    let subject = match (&run, &stats, &study) {
        (Some(run), stats, _) => Subject::Run(run, stats.as_ref()),
        (None, Some(stats), _) => Subject::Recording(stats),
        (None, None, Some(study)) => Subject::Study(study),
        (None, None, None) => bail!(
            "{}: no run.json, stats.json or study.json; expected the folder of `moecast simulate \
             --out`, `moecast trace stats --out` or `moecast study --out`",
            folder.display()
        ),
    };
    let out = arguments.out.as_ref().unwrap_or(folder);
    let mut written = Vec::new();
    for (name, bytes) in page::write_files(subject)? {
        let path = out.join(name);
        files::write_bytes(&path, &bytes)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

/// What the file at `path` holds; `None` where there is no such file.
fn read<T>(path: &Path, parse: fn(&[u8], &str) -> moecast_reports::Result<T>) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read_small(path, FILE_BYTES_MAX)?;
    Ok(Some(parse(&bytes, &path.display().to_string())?))
}

//! Request traces: when requests arrive, how long their prompts and answers are, and which
//! blocks of their prompts they share. Read from foreign recordings (one file per format, one
//! line in [`ALL`]) or made by [`generators`].
//!
//! Time is data here: an arrival is a number of nanoseconds since the first one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use moecast_profiles::registry::find;

use crate::error::{Error, Result};
use crate::import::digest_file;

mod azure_csv;
mod builder;
mod burstgpt_csv;
mod clock;
mod csv;
pub mod generators;
mod jsonl;
mod lengths_jsonl;
mod load;
mod mooncake_jsonl;
mod statistics;
mod text;
mod trace;
mod write;

pub use builder::{Arrival, Refusal, RequestTraceBuilder};
pub use load::{ClosedLoop, Load, RequestLengths};
pub use statistics::{LengthStats, RequestStats, stats};
pub use trace::{PREFIX_BLOCK_TOKENS, Request, RequestHeader, RequestTrace};
pub use write::write_jsonl;

#[cfg(test)]
mod tests;

/// A foreign format of request traces.
pub struct Entry {
    /// Name as typed after `--format`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether a file whose first line is this one is of this format.
    pub recognise: fn(&str) -> bool,
    /// Reads the files, in the order given, as parts of one recording: they share a clock and
    /// the meaning of their prefix hashes. The digests of the files are added by [`read`].
    pub read: fn(&[PathBuf]) -> Result<RequestTraceBuilder>,
}

moecast_profiles::named!(Entry);

/// Every reader, alphabetical.
pub const ALL: &[Entry] =
    &[azure_csv::ENTRY, burstgpt_csv::ENTRY, lengths_jsonl::ENTRY, mooncake_jsonl::ENTRY];

/// How much of a file is looked at to recognise it: a Mooncake line of 128k tokens fits.
const HEAD_BYTES: u64 = 64 * 1024;

/// Reads a request trace with the reader called `format`, or with the one that recognises the
/// first file where `format` is `auto`. The header gets the digests of all files.
///
/// # Errors
/// When no reader fits, a file cannot be read, or the reader refuses it; the error names file,
/// line, what was found and what would be right.
pub fn read(format: &str, paths: &[PathBuf]) -> Result<RequestTrace> {
    let Some(first) = paths.first() else {
        return Err(Error::invalid("input", "list of files", "no file", "at least one file"));
    };
    let entry = match format {
        "auto" => recognise(first)?,
        name => find("request trace format", ALL, name)?,
    };
    let mut builder = (entry.read)(paths)?;
    for path in paths {
        builder.header_mut().inputs.push(digest_file(path)?);
    }
    builder.finish().map_err(|refusal| refusal.at(shown(first), "whole recording"))
}

/// The reader that recognises the first line of `path` that is not blank.
fn recognise(path: &Path) -> Result<&'static Entry> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| Error::io(path, error))?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    ALL.iter().find(|entry| (entry.recognise)(line.trim_ascii())).ok_or_else(|| {
        let valid: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
        Error::Unrecognised { path: shown(path), valid: valid.join(", ") }
    })
}

/// A path as errors name it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

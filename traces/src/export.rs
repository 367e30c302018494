//! Exporters: traces for other tools, one file per format, one line in [`ALL`]. They write as
//! they read: memory does not grow with the recording.

use std::io::Write;

use moecast_profiles::registry::find;

use crate::error::{Error, Result};
use crate::trace::RoutingTrace;

mod csv;
mod jsonl;
mod npz;

#[cfg(test)]
mod tests;

/// A format that traces are written in.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether and how the format takes a recording; see [`check`].
    check: fn(&RoutingTrace, &str) -> Result<Vec<String>>,
    write: fn(&RoutingTrace, &mut dyn Write) -> std::io::Result<()>,
}

moecast_profiles::named!(Entry);

/// Every exporter, alphabetical.
pub const ALL: &[Entry] = &[csv::ENTRY, jsonl::ENTRY, npz::ENTRY];

/// What the format called `format` cannot say of `trace`, in words; `path` is named in errors.
///
/// # Errors
/// When there is no such format, or it cannot hold this kind of recording at all.
pub fn check(format: &str, trace: &RoutingTrace, path: &str) -> Result<Vec<String>> {
    let entry = find("trace exporter", ALL, format)?;
    (entry.check)(trace, path)
}

/// Writes `trace` in the format called `format`; `path` is named in errors.
///
/// # Errors
/// What [`check`] refuses, and what `into` answers.
pub fn write(format: &str, trace: &RoutingTrace, path: &str, into: &mut dyn Write) -> Result<()> {
    let entry = find("trace exporter", ALL, format)?;
    (entry.check)(trace, path)?;
    (entry.write)(trace, into).map_err(|error| Error::io(path, error))
}

//! Importers: one file per foreign format, one line in [`ALL`].

use std::path::{Path, PathBuf};

use moecast_profiles::model::ModelShape;
use moecast_profiles::registry::{Named, find};

use crate::error::{Error, Result};
use crate::trace::RoutingTrace;

/// What an importer is given.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Files of one recording: several ranks or requests, in the order given.
    pub paths: &'a [PathBuf],
    /// The model, where the user named one: tells dense layers and top-k where the file does not.
    pub model: Option<&'a ModelShape>,
    /// Told the number of bytes read so far.
    pub progress: &'a dyn Fn(u64),
}

/// A foreign format.
pub struct Entry {
    /// Name as typed after `--format`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether a file that begins with `.1` and is called `.0` is of this format.
    pub recognise: fn(&Path, &[u8]) -> bool,
    /// Reads the recording.
    pub read: fn(Input<'_>) -> Result<RoutingTrace>,
}

impl Named for Entry {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

/// Every importer, alphabetical.
pub const ALL: &[Entry] = &[];

/// Reads a recording with the importer called `format`, or with the first that recognises the
/// first file where `format` is `auto`. The header gets the digests of all inputs.
///
/// # Errors
/// When no importer fits, or the importer refuses the file.
pub fn read(format: &str, input: Input<'_>) -> Result<RoutingTrace> {
    let _ = (format, input);
    let _ = find("importer", ALL, format)?;
    Err(Error::Unrecognised { path: String::new(), valid: String::new() })
}

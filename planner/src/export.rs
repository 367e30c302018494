//! Exporters: one file per engine format, one line in [`ALL`].
//!
//! Beside them stand what they share: `tree` reads JSON and YAML into a `node`, `cursor`
//! takes it apart and names the place of every error, `shape` checks what every engine demands.

mod csv;
pub(crate) mod cursor;
pub(crate) mod node;
mod sglang;
pub(crate) mod shape;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tree;
mod trtllm;
mod vllm;
mod vllm_ascend;

use moecast_profiles::registry::{UnknownName, find as find_entry};
use moecast_sim::Placement;

use crate::error::Result;
use crate::plan::Plan;

/// One file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Name inside the output folder. The first file of an export is the one the engine loads.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a reader is told besides the file: what the engine's own format leaves out.
#[derive(Clone, Debug)]
pub struct Context {
    /// Path, named in errors.
    pub path: String,
    /// Logical experts per layer.
    pub experts: u16,
    /// Ranks.
    pub ranks: u16,
    /// Absolute layer number of every MoE layer, ascending.
    pub layers: Vec<u16>,
}

/// An engine's format.
pub struct Entry {
    /// Name as typed after `--engine`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The files that carry the plan; the first one is what the engine loads.
    pub write: fn(&Plan) -> Result<Vec<File>>,
    /// Reads the placement back from the bytes of the first file.
    pub read: fn(&[u8], &Context) -> Result<Placement>,
    /// How the engine is told to load the files: text for `README.txt`.
    pub launch: fn(&Plan) -> String,
}

moecast_profiles::named!(Entry);

/// Every exporter, alphabetical.
pub const ALL: &[Entry] =
    &[csv::ENTRY, sglang::ENTRY, trtllm::ENTRY, vllm::ENTRY, vllm_ascend::ENTRY];

/// Finds an exporter by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("exporter", ALL, name)
}

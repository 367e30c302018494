//! Foreign kernel timings: tables and benchmark outputs of others, read into [`Samples`].
//!
//! Every reader answers wrong input with an error that names file and row, and says in
//! [`Samples::flags`] what it left out.

mod aiconfigurator;
mod check;
mod nccl_tests;
mod nvbandwidth;
mod text;
mod vidur;

use std::path::Path;

use crate::Result;
use crate::registry::{UnknownName, find as find_entry};
use crate::sample::Samples;

#[cfg(feature = "import-parquet")]
pub use aiconfigurator::{Available, available};

/// What a source may hold more than one of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The GPU: `h200_sxm` or the name of a hardware preset. Where a source does not say which
    /// it ran on, this is what the samples say.
    pub system: Option<String>,
    /// The inference engine: `sglang`, `trtllm` or `vllm`.
    pub engine: Option<String>,
    /// The engine's version; the newest when absent.
    pub version: Option<String>,
}

/// A source of timings that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Reads a file or folder.
    pub read: fn(&Path, &Options) -> Result<Samples>,
}

crate::named!(Entry);

/// Every source, alphabetical.
pub const ALL: &[Entry] =
    &[aiconfigurator::ENTRY, nccl_tests::ENTRY, nvbandwidth::ENTRY, vidur::ENTRY];

/// Finds a source by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("kernel table format", ALL, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of these formats is in an empty file or folder, and no reader panics on one.
    #[test]
    fn every_reader_refuses_what_is_not_its_format() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.txt");
        std::fs::write(&empty, "").unwrap();
        let noise = folder.path().join("noise.csv");
        let bytes: Vec<u8> =
            (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(&noise, bytes).unwrap();
        let options = Options {
            system: Some("h200_sxm".to_owned()),
            engine: Some("vllm".to_owned()),
            version: None,
        };
        for entry in ALL {
            for path in [folder.path(), &empty, &noise, &folder.path().join("absent")] {
                let error = (entry.read)(path, &options).unwrap_err().to_string();
                assert!(!error.contains('\n'), "{}: {error}", entry.name);
            }
        }
    }

    #[test]
    fn names_are_alphabetical_and_found() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        for entry in ALL {
            assert_eq!(find(entry.name).unwrap().about, entry.about);
        }
    }
}

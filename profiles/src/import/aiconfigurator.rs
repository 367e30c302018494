//! The tables of NVIDIA's AIConfigurator: the wheel `aiconfigurator-core`, or its folder.
//!
//! `systems/data/<system>/<family>/<engine>/<version>/<table>.parquet`, times in milliseconds
//! (in microseconds where a column says `_us`, and in `moe_a2a_perf`). What each table means is
//! in `tables`; the columns were read from release 0.12.0 (Apache-2.0). Parquet is read only
//! in builds with the feature `import-parquet`.

#[cfg(feature = "import-parquet")]
mod columns;
#[cfg(feature = "import-parquet")]
mod comm;
#[cfg(feature = "import-parquet")]
mod decode;
#[cfg(feature = "import-parquet")]
mod pages;
#[cfg(feature = "import-parquet")]
mod read;
#[cfg(feature = "import-parquet")]
mod source;
#[cfg(feature = "import-parquet")]
mod tables;
#[cfg(all(test, feature = "import-parquet"))]
mod tests;
#[cfg(feature = "import-parquet")]
mod version;

use std::path::Path;

use super::{Entry, Options};
use crate::Result;
use crate::sample::Samples;

#[cfg(feature = "import-parquet")]
pub use read::{Available, available};

pub(super) const ENTRY: Entry = Entry {
    name: "aiconfigurator",
    about: "all kernels of an engine: the aiconfigurator-core wheel (feature import-parquet)",
    read,
};

#[cfg(feature = "import-parquet")]
fn read(path: &Path, options: &Options) -> Result<Samples> {
    read::read(path, options)
}

#[cfg(not(feature = "import-parquet"))]
fn read(path: &Path, _options: &Options) -> Result<Samples> {
    let path = path.display().to_string();
    let expected = "a build with `--features import-parquet`";
    Err(super::check::invalid(&path, "Parquet", "this build does not read it", expected))
}

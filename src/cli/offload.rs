//! Arguments of `moecast offload`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct Offload {
    /// A file of machines whose experts live in several memories; see examples/offload.
    pub(crate) file: PathBuf,
    /// Only this variant of the file.
    #[arg(long)]
    pub(crate) variant: Option<String>,
}

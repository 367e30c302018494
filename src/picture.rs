//! Pictures beside answers.

use std::path::Path;

use anyhow::{Result, bail};
use moecast_reports::Picture;

use crate::files;

/// Writes `picture` in the format that the name of `path` says, for `--figure`.
pub(crate) fn write(picture: &Picture, path: &Path) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => files::write_bytes(path, picture.svg()?.as_bytes()),
        Some("png") => files::write_bytes(path, &picture.png()?),
        _ => bail!("--figure {}: expected a name that ends in .svg or .png", path.display()),
    }
}

/// Writes `NAME.svg` and `NAME.png` into `folder`.
pub(crate) fn write_both(picture: &Picture, folder: &Path, name: &str) -> Result<()> {
    ["svg", "png"]
        .iter()
        .try_for_each(|ending| write(picture, &folder.join(name).with_extension(ending)))
}

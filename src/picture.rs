//! Pictures beside answers.

use std::path::Path;

use anyhow::{Result, bail};
use moecast_reports::Picture;

use crate::files;

/// A format that pictures are written in.
enum Format {
    Svg,
    Png,
}

fn format(path: &Path) -> Result<Format> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => Ok(Format::Svg),
        Some("png") => Ok(Format::Png),
        _ => bail!("--figure {}: expected a name that ends in .svg or .png", path.display()),
    }
}

/// Refuses a `--figure` that could not be written, before the work that it is to show.
pub(crate) fn check(path: &Path) -> Result<()> {
    format(path).map(|_| ())
}

/// Writes `picture` in the format that the name of `path` says, for `--figure`.
pub(crate) fn write(picture: &Picture, path: &Path) -> Result<()> {
    match format(path)? {
        Format::Svg => files::write_bytes(path, picture.svg()?.as_bytes()),
        Format::Png => files::write_bytes(path, &picture.png()?),
    }
}

/// Writes `NAME.svg` and `NAME.png` into `folder`.
pub(crate) fn write_both(picture: &Picture, folder: &Path, name: &str) -> Result<()> {
    ["svg", "png"]
        .iter()
        .try_for_each(|ending| write(picture, &folder.join(name).with_extension(ending)))
}

//! Reading text that somebody else's program wrote.

use std::io::Read;
use std::path::Path;

use super::check::invalid;
use crate::{Error, Result};

/// Larger text is not the output of a benchmark.
const BYTES_MAX: u64 = 256 << 20;

/// The text of `path`, and the path as errors write it.
///
/// # Errors
/// [`Error::Read`], or [`Error::Invalid`] when it is too large, empty or no text.
pub(super) fn read_text(path: &Path) -> Result<(String, String)> {
    let name = path.display().to_string();
    let read = |source| Error::Read { path: name.clone(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(invalid(&name, "size", "more than 256 MiB", "the output of a benchmark"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| invalid(&name, "text", error.utf8_error().to_string(), "UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(invalid(&name, "text", "nothing", "the output of a benchmark"));
    }
    Ok((text, name))
}

/// The hardware preset that a foreign `system` name stands for.
pub(super) fn preset(system: &str) -> String {
    match system {
        "b200_sxm" => "b200".to_owned(),
        "gb200" => "gb200-nvl72".to_owned(),
        other => other.replace('_', "-"),
    }
}

//! Reads a small file whole: its size is compared with a limit before anything is reserved, and
//! memory grows with what is really read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Progress, shown};
use crate::error::{Error, Result};

/// Bytes that are read between two reports of progress.
const CHUNK_BYTES: u64 = 1 << 20;

/// The bytes of the file at `path`, at most `bytes_max`.
pub(super) fn read_whole(path: &Path, bytes_max: u64, progress: &Progress) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut bytes = Vec::new();
    loop {
        let mut chunk = file.by_ref().take(CHUNK_BYTES);
        let count = chunk.read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
        progress.add(count as u64);
        if count == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 > bytes_max {
            let found = format!("more than {bytes_max} bytes");
            return Err(Error::invalid(shown(path), "whole file", found, "a smaller file"));
        }
    }
}

//! SHA-256 of the inputs, computed beside the importer: hashing reads the files a second time on
//! its own thread, so neither waits for the other and no importer has to know of it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::header::InputDigest;

/// Large enough to hide the cost of a read, small enough to stay in a core's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Runs `work` and digests `paths` meanwhile. Gives up hashing when `work` fails.
pub(super) fn alongside<T>(
    paths: &[PathBuf],
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<InputDigest>)> {
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hasher = scope.spawn(|| {
            paths.iter().map(|path| digest(path, &cancelled)).collect::<Result<Vec<_>>>()
        });
        let done = work();
        cancelled.store(done.is_err(), Ordering::Relaxed);
        let digests = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done?, digests?))
    })
}

/// SHA-256 of the file at `path`.
///
/// # Errors
/// When the file cannot be read.
pub fn digest_file(path: &Path) -> Result<InputDigest> {
    digest(path, &AtomicBool::new(false))
}

fn digest(path: &Path, cancelled: &AtomicBool) -> Result<InputDigest> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    while !cancelled.load(Ordering::Relaxed) {
        let count = file.read(&mut chunk).map_err(|error| Error::io(path, error))?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        bytes += count as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(InputDigest { name: super::file_name(path), bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of "abc" is the first example of FIPS 180-4.
    #[test]
    fn the_digest_is_sha_256_and_the_name_has_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc.csv");
        std::fs::write(&path, "abc").unwrap();
        let (done, digests) = alongside(&[path], || Ok(7)).unwrap();
        assert_eq!(done, 7);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected =
            InputDigest { name: "abc.csv".to_owned(), bytes: 3, sha256: sha256.to_owned() };
        assert_eq!(digests, [expected]);
    }

    #[test]
    fn the_error_of_the_work_wins() {
        let missing = PathBuf::from("no-such-file");
        let refuse = || Err::<(), _>(Error::invalid("a", "b", "c", "d"));
        let error = alongside(&[missing], refuse).unwrap_err();
        assert_eq!(error.to_string(), "a: b: c; expected d");
    }
}

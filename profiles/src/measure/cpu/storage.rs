//! Reads of a file past the page cache.
//!
//! The file is written once, opened for direct I/O where the file system allows it, read in
//! requests by one thread for each request in flight, and removed when the benchmark is dropped,
//! also after errors. Times are of one request each. Where direct I/O is refused the page cache
//! may answer, and a flag says so.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use rand::{Rng, RngExt};

use super::super::TimingError;
use super::threads::{Barrier, time_together};
use super::unsupported;
use crate::seed::Seed;
use crate::{Error, Result};

/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of one write.
const WRITE_BYTES: usize = 4 << 20;
/// Direct I/O wants buffers and offsets at multiples of this.
const ALIGNMENT: usize = 4096;
/// The file's name in the folder that the caller gave.
const FILE_NAME: &str = "moecast-storage-benchmark.tmp";

/// A file of random bytes, there as long as this is.
pub(super) struct TestFile {
    path: PathBuf,
    bytes: u64,
    direct: bool,
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; the name says what the file is.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl TestFile {
    /// Writes a file into `folder`: 1 GiB, or a quarter of the free space where that is less.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let free = free_bytes(folder).map_err(|error| failed(folder, &error))?;
        Self::of_size(folder, (free / 4).min(FILE_BYTES_MAX))
    }

    /// Writes a file of about `bytes`.
    pub(super) fn of_size(folder: &Path, bytes: u64) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let mut file =
            Self { path, bytes: bytes / ALIGNMENT as u64 * ALIGNMENT as u64, direct: false };
        file.write().map_err(|error| failed(&file.path, &error))?;
        file.direct = open_direct(&file.path).is_ok();
        Ok(file)
    }

    fn write(&self) -> std::io::Result<()> {
        let mut block = vec![0_u8; WRITE_BYTES];
        Seed(0).stream("measure/cpu/storage").fill_bytes(&mut block);
        let mut file = File::create(&self.path)?;
        let mut left = self.bytes;
        while left > 0 {
            let part = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            // Equal blocks could be stored once only.
            block[..8].copy_from_slice(&left.to_le_bytes());
            file.write_all(&block[..part])?;
            left -= part as u64;
        }
        file.sync_all()
    }

    /// What the reader of the samples must know.
    pub(super) fn flag(&self) -> Option<String> {
        let flag = "storage was read without direct I/O: the page cache may have answered";
        (!self.direct).then(|| flag.to_owned())
    }

    /// Reads `bytes` at a time, `in_flight` at once, `sequential` or `random` as `variant` says,
    /// and gives the microseconds of each read: `repeats` by each thread.
    pub(super) fn time(
        &self,
        variant: &str,
        in_flight: u32,
        bytes: usize,
        repeats: u32,
    ) -> std::result::Result<Vec<f64>, TimingError> {
        let requests = self.bytes / (bytes as u64).max(1);
        if requests < u64::from(in_flight) || bytes == 0 || !bytes.is_multiple_of(ALIGNMENT) {
            let held = self.bytes;
            return Err(unsupported(format!("{bytes} bytes at a time of a file of {held}")));
        }
        let random = match variant {
            "random" => true,
            "sequential" => false,
            _ => return Err(unsupported(format!("no reads that are `{variant}`"))),
        };
        let times = Mutex::new(Vec::new());
        let workers = (0..in_flight)
            .map(|thread| {
                let mut rng = Seed(0).stream(&format!("measure/cpu/storage/{thread}"));
                let mut reader = Reader::open(self, bytes)?;
                let times = &times;
                Ok(move |repeat: usize, _: &Barrier| {
                    let next = repeat as u64 * u64::from(in_flight) + u64::from(thread);
                    let place =
                        if random { rng.random_range(0..requests) } else { next % requests };
                    let time = reader.read(place * bytes as u64);
                    times.lock().expect("no thread panics").push(time);
                })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| failed(&self.path, &error))?;
        time_together(workers, repeats as usize);
        let times = times.into_inner().expect("no thread panics");
        let times: std::io::Result<Vec<f64>> = times.into_iter().collect();
        Ok(times.map_err(|error| failed(&self.path, &error))?)
    }
}

/// One thread's handle and buffer.
struct Reader {
    file: File,
    buffer: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Reader {
    fn open(of: &TestFile, bytes: usize) -> std::io::Result<Self> {
        let file = if of.direct {
            open_direct(&of.path)?
        } else {
            let file = File::open(&of.path)?;
            forget(&file);
            file
        };
        let buffer = vec![0_u8; bytes + ALIGNMENT];
        let address = buffer.as_ptr().addr();
        Ok(Self { file, buffer, start: address.next_multiple_of(ALIGNMENT) - address, bytes })
    }

    /// The microseconds of reading at `offset`.
    fn read(&mut self, offset: u64) -> std::io::Result<f64> {
        let start = Instant::now();
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut self.buffer[self.start..self.start + self.bytes])?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(direct).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(path: &Path) -> std::io::Result<File> {
    drop(OpenOptions::new().read(true).open(path)?);
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Asks for the file's pages to leave the page cache; a refusal is covered by the flag.
#[cfg(target_os = "linux")]
fn forget(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) {}

#[cfg(target_os = "linux")]
fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Unknown: enough for a file of 256 MiB.
#[cfg(not(target_os = "linux"))]
fn free_bytes(_: &Path) -> std::io::Result<u64> {
    Ok(1 << 30)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Measure { what: format!("storage at {}", path.display()), found: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_gone_when_the_benchmark_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = TestFile::of_size(folder.path(), (1 << 20) + 5).unwrap();
        assert_eq!(std::fs::metadata(&file.path).unwrap().len(), 1 << 20);
        assert_eq!(file.time("random", 3, 1 << 14, 4).unwrap().len(), 12);
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn reads_that_make_no_sense_are_unsupported() {
        let folder = tempfile::tempdir().unwrap();
        let file = TestFile::of_size(folder.path(), 1 << 16).unwrap();
        for (variant, in_flight, bytes) in
            [("random", 1, 1 << 20), ("random", 1, 1000), ("random", 99, 4096), ("back", 1, 4096)]
        {
            let answer = file.time(variant, in_flight, bytes, 1);
            assert!(matches!(answer, Err(TimingError::Unsupported(_))), "{variant} {bytes}");
        }
    }

    #[test]
    fn an_error_names_the_file_and_leaves_none() {
        let folder = tempfile::tempdir().unwrap();
        let answer = TestFile::of_size(&folder.path().join("gone"), 1 << 16);
        assert!(answer.is_err_and(|error| error.to_string().contains("storage at")));
        let file = TestFile::of_size(folder.path(), 1 << 16).unwrap();
        File::options().write(true).open(&file.path).unwrap().set_len(4096).unwrap();
        assert!(matches!(file.time("sequential", 1, 8192, 8), Err(TimingError::Failed(_))));
    }
}

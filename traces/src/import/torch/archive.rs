//! The zip around the pickle, and its storages read in chunks: no storage is ever held whole.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zip::read::{ZipArchive, ZipFile};
use zip::{CompressionMethod, result::ZipError};

use super::super::{Progress, shown};
use super::pickle::unpickle;
use super::tensor::{DataType, Tensor};
use super::value::{Item, Pickle};
use crate::error::{Error, Result};

mod ids;

/// What every element must be.
const COUNT: &str = "a count from 0 to 4294967295";

/// Bytes that are converted at a time.
const CHUNK_BYTES: usize = 1 << 18;

/// Largest pickle that is read; that of a recording of 100,000 passes has 20 MB.
const PICKLE_BYTES_MAX: u64 = 256 << 20;

/// An open `.pt` whose structure has been read.
pub(in crate::import) struct Archive<'a> {
    path: String,
    /// What the names of all entries begin with.
    prefix: String,
    zip: ZipArchive<BufReader<File>>,
    pickle: Pickle,
    /// Size of the file.
    bytes: u64,
    progress: &'a Progress<'a>,
}

impl<'a> Archive<'a> {
    /// Opens all files and shows each, and its number, to `visit`. Their structures are dropped
    /// then: that of a long recording is large, and [`Self::root`] is None from there on.
    pub(in crate::import) fn open_all(
        paths: &[PathBuf],
        progress: &'a Progress<'a>,
        mut visit: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<Vec<Self>> {
        let mut archives = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let mut archive = Self::open(path, progress)?;
            visit(&mut archive, number)?;
            archive.pickle = Pickle::none(&archive.path);
            archives.push(archive);
        }
        Ok(archives)
    }

    /// Opens `path`, reads its structure and checks every storage that a tensor refers to.
    pub(in crate::import) fn open(path: &Path, progress: &'a Progress<'a>) -> Result<Self> {
        let name = shown(path);
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        check_start(&name, &mut file)?;
        let size = file.metadata().map_err(|error| Error::io(path, error))?.len();
        let mut zip =
            ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&name, "zip", error))?;
        let prefix = find_prefix(&name, &zip)?;
        if zip.has_duplicate_names() {
            return Err(Error::invalid(name, "zip", "two entries of one name", "distinct names"));
        }
        let order = format!("{prefix}byteorder");
        if zip.index_for_name(&order).is_some() {
            let found = read_whole(&name, &mut zip, &order, 16)?;
            if found != b"little" {
                let found = String::from_utf8_lossy(&found).escape_debug().to_string();
                return Err(Error::invalid(name, "entry `byteorder`", found, "little"));
            }
        }
        let bytes = read_whole(&name, &mut zip, &format!("{prefix}data.pkl"), PICKLE_BYTES_MAX)?;
        progress.add(bytes.len() as u64);
        let pickle = unpickle(&name, &bytes)?;
        let mut archive = Self { path: name, prefix, zip, pickle, bytes: size, progress };
        archive.check_storages()?;
        Ok(archive)
    }

    pub(in crate::import) fn path(&self) -> &str {
        &self.path
    }

    /// Size of the file.
    pub(in crate::import) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The object that was saved.
    pub(in crate::import) fn root(&self) -> Item<'_> {
        self.pickle.root()
    }

    /// Every storage must have an entry of exactly its size that is neither compressed nor
    /// reaches beyond the file.
    fn check_storages(&mut self) -> Result<()> {
        let mut storages: Vec<_> = self.pickle.tensors().map(|tensor| &tensor.storage).collect();
        storages.sort_by(|a, b| a.key.cmp(&b.key));
        storages.dedup_by(|a, b| (&a.key, a.elements) == (&b.key, b.elements));
        for storage in storages {
            let entry = format!("{}data/{}", self.prefix, storage.key);
            let file = open_entry(&self.path, &mut self.zip, &entry)?;
            let expected = storage.elements.checked_mul(storage.data_type.bytes() as u64);
            if expected != Some(file.size()) || file.size() > self.bytes {
                let expected = format!("{} elements of {:?}", storage.elements, storage.data_type);
                let found = format!("{} bytes in a file of {}", file.size(), self.bytes);
                return Err(Error::invalid(&self.path, entry_place(&entry), found, expected));
            }
        }
        Ok(())
    }

    /// The elements of `tensor` as counts, in order. `name` is what errors call it.
    pub(in crate::import) fn counts(&mut self, tensor: &Tensor, name: &str) -> Result<Counts<'_>> {
        let entry = format!("{}data/{}", self.prefix, tensor.storage.key);
        let file = open_entry(&self.path, &mut self.zip, &entry)?;
        let mut counts = Counts {
            path: &self.path,
            name: name.to_owned(),
            entry,
            file,
            tensor: tensor.clone(),
            at: 0,
            buffer: vec![0; chunk_bytes(tensor)],
            progress: self.progress,
        };
        counts.skip(tensor.offset * tensor.storage.data_type.bytes() as u64)?;
        Ok(counts)
    }

    /// All elements of a small tensor.
    pub(in crate::import) fn read_counts(
        &mut self,
        tensor: &Tensor,
        name: &str,
    ) -> Result<Vec<u32>> {
        let count = usize::try_from(tensor.elements).map_err(|_| {
            let found = format!("{} elements", tensor.elements);
            Error::invalid(&self.path, format!("tensor `{name}`"), found, "a smaller tensor")
        })?;
        let mut values = vec![0; count];
        let mut counts = self.counts(tensor, name)?;
        counts.add_to(&mut values)?;
        counts.finish()?;
        Ok(values)
    }
}

/// The elements of one tensor, read in order and checked against the entry's CRC-32 at the end.
pub(in crate::import) struct Counts<'a> {
    path: &'a str,
    name: String,
    entry: String,
    file: ZipFile<'a, BufReader<File>>,
    tensor: Tensor,
    /// The next element.
    at: u64,
    buffer: Vec<u8>,
    progress: &'a Progress<'a>,
}

impl Counts<'_> {
    /// Adds the next `sums.len()` elements to `sums`.
    pub(in crate::import) fn add_to(&mut self, sums: &mut [u32]) -> Result<()> {
        let data_type = self.tensor.storage.data_type;
        let size = data_type.bytes();
        for sums in sums.chunks_mut(self.buffer.len() / size) {
            let bytes = &mut self.buffer[..sums.len() * size];
            self.file
                .read_exact(bytes)
                .map_err(|error| unreadable(self.path, &self.entry, error))?;
            if let Err(fault) = add(data_type, bytes, sums) {
                let indices = self.tensor.indices(self.at + fault.at as u64);
                let place = format!("tensor `{}` at {indices:?}", self.name);
                return Err(Error::invalid(self.path, place, fault.found, COUNT));
            }
            self.at += sums.len() as u64;
            self.progress.add(bytes.len() as u64);
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let some = self.buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.file
                .read_exact(&mut self.buffer[..some])
                .map_err(|error| unreadable(self.path, &self.entry, error))?;
            count -= some as u64;
        }
        Ok(())
    }

    /// Reads what is left of the entry, so that its checksum is compared.
    pub(in crate::import) fn finish(mut self) -> Result<()> {
        loop {
            match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(self.path, &self.entry, error)),
            }
        }
    }
}

/// The first element that is no count.
struct Fault {
    at: usize,
    found: String,
}

type Added = std::result::Result<(), Fault>;

fn add(data_type: DataType, bytes: &[u8], sums: &mut [u32]) -> Added {
    match data_type {
        DataType::U8 => add_all(bytes, sums, u8::from_le_bytes, |value| Some(value.into())),
        DataType::I8 => add_all(bytes, sums, i8::from_le_bytes, |value| value.try_into().ok()),
        DataType::I16 => add_all(bytes, sums, i16::from_le_bytes, |value| value.try_into().ok()),
        DataType::I32 => add_all(bytes, sums, i32::from_le_bytes, |value| value.try_into().ok()),
        DataType::I64 => add_all(bytes, sums, i64::from_le_bytes, |value| value.try_into().ok()),
        DataType::F32 => add_all(bytes, sums, f32::from_le_bytes, |value| whole(value.into())),
        DataType::F64 => add_all(bytes, sums, f64::from_le_bytes, whole),
    }
}

/// A cast saturates, so only a whole number that fits survives the way back.
fn whole(value: f64) -> Option<u32> {
    let count = value as u32;
    (f64::from(count) == value).then_some(count)
}

/// Adds all elements and looks for faults only where there was one: without a branch for each
/// element the loop is several times as fast.
fn add_all<T: Copy + std::fmt::Display, const N: usize>(
    bytes: &[u8],
    sums: &mut [u32],
    read: impl Fn([u8; N]) -> T,
    count: impl Fn(T) -> Option<u32>,
) -> Added {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut faulty = false;
    for (&element, sum) in elements.iter().zip(&mut *sums) {
        let count = count(read(element));
        let (added, overflow) = sum.overflowing_add(count.unwrap_or(0));
        faulty |= overflow | count.is_none();
        *sum = added;
    }
    if !faulty {
        return Ok(());
    }
    for (at, (&element, sum)) in elements.iter().zip(sums).enumerate() {
        let value = read(element);
        let found = match count(value) {
            None => value.to_string(),
            Some(count) if *sum < count => {
                format!("{} + {count} over several files", sum.wrapping_sub(count))
            }
            Some(_) => continue,
        };
        return Err(Fault { at, found });
    }
    unreachable!("a fault was seen")
}

fn check_start(path: &str, file: &mut File) -> Result<()> {
    let mut start = [0; 4];
    let found = match file.read_exact(&mut start) {
        Ok(()) if start == *b"PK\x03\x04" => return Ok(()),
        Ok(()) if start[0] == 0x80 => "a file of torch.save before PyTorch 1.6",
        Ok(()) => "no zip",
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => "less than 4 bytes",
        Err(error) => return Err(Error::io(path, error)),
    };
    Err(Error::invalid(path, "start of the file", found, "a zip as torch.save writes it"))
}

/// The folder in the zip: torch.save names it after the file.
fn find_prefix(path: &str, zip: &ZipArchive<BufReader<File>>) -> Result<String> {
    let mut found = zip.file_names_raw().filter_map(|name| {
        let folder = name.strip_suffix(b"data.pkl")?;
        let single = folder.iter().filter(|&&byte| byte == b'/').count() == 1;
        (single && folder.ends_with(b"/")).then(|| String::from_utf8(folder.to_vec()).ok())?
    });
    match (found.next(), found.next()) {
        (Some(prefix), None) => Ok(prefix),
        (None, _) => Err(Error::invalid(path, "zip", "no entry `data.pkl`", "one")),
        (Some(_), Some(_)) => Err(Error::invalid(path, "zip", "several `data.pkl`", "one")),
    }
}

/// A recording of many passes has many small tensors: none needs more than its own size.
fn chunk_bytes(tensor: &Tensor) -> usize {
    usize::try_from(tensor.bytes()).map_or(CHUNK_BYTES, |bytes| bytes.clamp(64, CHUNK_BYTES))
}

fn entry_place(entry: &str) -> String {
    format!("entry `{}`", entry.escape_debug())
}

fn open_entry<'z>(
    path: &str,
    zip: &'z mut ZipArchive<BufReader<File>>,
    entry: &str,
) -> Result<ZipFile<'z, BufReader<File>>> {
    let place = entry_place(entry);
    let file = zip.by_name(entry).map_err(|error| damaged(path, &place, error))?;
    let compression = file.compression();
    if compression != CompressionMethod::Stored || file.compressed_size() != file.size() {
        let found = format!("compression {compression:?}");
        return Err(Error::invalid(path, place, found, "a stored entry, as torch.save writes"));
    }
    Ok(file)
}

/// A whole entry; its size is compared with `bytes_max` before anything is reserved, and memory
/// grows with what is really read.
fn read_whole(
    path: &str,
    zip: &mut ZipArchive<BufReader<File>>,
    entry: &str,
    bytes_max: u64,
) -> Result<Vec<u8>> {
    let mut file = open_entry(path, zip, entry)?;
    if file.size() > bytes_max {
        let found = format!("{} bytes", file.size());
        return Err(Error::invalid(
            path,
            entry_place(entry),
            found,
            format!("{bytes_max} at most"),
        ));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| unreadable(path, entry, error))?;
    Ok(bytes)
}

fn damaged(path: &str, place: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) if source.kind() != ErrorKind::UnexpectedEof => {
            let invalid = matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput);
            if invalid { readable_error(path, place, &source) } else { Error::io(path, source) }
        }
        other => Error::invalid(path, place, other.to_string(), "a whole zip of torch.save"),
    }
}

fn unreadable(path: &str, entry: &str, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            readable_error(path, &entry_place(entry), &error)
        }
        _ => Error::io(path, error),
    }
}

fn readable_error(path: &str, place: &str, error: &std::io::Error) -> Error {
    Error::invalid(path, place, error.to_string(), "bytes that match their size and CRC-32")
}

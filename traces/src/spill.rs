//! Values that may be more than memory should hold: the latest are held, the others lie in an
//! anonymous temporary file. It has no name, so nothing is left of it however the process ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytemuck::Pod;

use crate::column::{self, Column};
use crate::error::{Error, Result};

/// Values that a reader holds at least, where there are that many.
const CHUNK_VALUES: usize = 1 << 16;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Where values go that memory should not hold.
#[derive(Clone, Debug)]
pub struct Spill {
    /// Folder of the temporary files: best that of the output, which must have room anyway.
    pub folder: PathBuf,
    /// Bytes that a builder holds, and every aid of an importer, before they are spilled.
    pub budget_bytes: usize,
}

impl Spill {
    /// A budget at which writing is no slower than with any larger one.
    pub const BUDGET_BYTES: usize = 64 << 20;

    /// Spills to `folder` what exceeds [`Self::BUDGET_BYTES`].
    #[must_use]
    pub fn to(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), budget_bytes: Self::BUDGET_BYTES }
    }
}

/// A sequence of plain values that only grows.
#[derive(Debug)]
pub(crate) struct Pile<T> {
    spilled: Option<Spilled>,
    /// The values behind the spilled ones.
    held: Vec<T>,
}

/// The part of a pile that lies in a file.
#[derive(Debug)]
struct Spilled {
    folder: PathBuf,
    file: File,
    bytes: u64,
}

impl Spilled {
    fn error(&self, error: std::io::Error) -> Error {
        Error::io(&self.folder, error)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(into))
            .map_err(|error| self.error(error))
    }
}

impl<T> Default for Pile<T> {
    fn default() -> Self {
        Self { spilled: None, held: Vec::new() }
    }
}

impl<T: Pod> Pile<T> {
    /// Number of values.
    pub(crate) fn len(&self) -> u64 {
        self.spilled_len() + self.held.len() as u64
    }

    fn spilled_len(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.bytes / size_of::<T>() as u64)
    }

    /// Bytes of memory that hold values.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len() * size_of::<T>()
    }

    /// Makes room for `count` more values.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.held.reserve_exact(count);
    }

    /// Adds values in memory.
    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = T>) {
        self.held.extend(values);
    }

    /// Adds values in memory.
    pub(crate) fn extend_from_slice(&mut self, values: &[T]) {
        self.held.extend_from_slice(values);
    }

    /// Adds values, and spills where more are held than allowed.
    pub(crate) fn push(&mut self, values: &[T], spill: Option<&Spill>) -> Result<()> {
        self.held.extend_from_slice(values);
        match spill {
            Some(spill) if self.held_bytes() > spill.budget_bytes => self.spill(&spill.folder),
            _ => Ok(()),
        }
    }

    /// Moves what is held to a file in `folder`.
    pub(crate) fn spill(&mut self, folder: &Path) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => {
                let file =
                    tempfile::tempfile_in(folder).map_err(|error| Error::io(folder, error))?;
                none.insert(Spilled { folder: folder.to_owned(), file, bytes: 0 })
            }
        };
        let bytes: &[u8] = bytemuck::cast_slice(&self.held);
        let written =
            spilled.file.seek(SeekFrom::End(0)).and_then(|_| spilled.file.write_all(bytes));
        written.map_err(|error| spilled.error(error))?;
        spilled.bytes += bytes.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// Fills `into` with the values from number `at`, all of which must be there.
    pub(crate) fn read(&self, at: u64, into: &mut [T]) -> Result<()> {
        let before = self.spilled_len();
        let count = before.saturating_sub(at).min(into.len() as u64);
        let (first, rest) = into.split_at_mut(usize::try_from(count).expect("at most a slice"));
        if let Some(spilled) = self.spilled.as_ref().filter(|_| !first.is_empty()) {
            spilled.read(at * size_of::<T>() as u64, bytemuck::cast_slice_mut(first))?;
        }
        let start = usize::try_from(at.saturating_sub(before)).expect("held in memory");
        rest.copy_from_slice(&self.held[start..start + rest.len()]);
        Ok(())
    }

    /// Reads all values in order.
    pub(crate) fn reader(&self) -> Reader<'_, T> {
        Reader { pile: self, buffer: Vec::new(), used: 0, at: 0 }
    }

    /// The values as they are written.
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes { spilled: self.spilled.as_ref(), held: bytemuck::cast_slice(&self.held) }
    }

    /// The values as a column: mapped where they were spilled.
    pub(crate) fn column(mut self) -> Result<Column<T>> {
        let Some(Spilled { folder, .. }) = &self.spilled else { return Ok(self.held.into()) };
        let folder = folder.clone();
        self.spill(&folder)?;
        let map = match &self.spilled {
            Some(spilled) => column::map(&spilled.file).map_err(|error| spilled.error(error))?,
            None => unreachable!("looked at above"),
        };
        let len = map.len() / size_of::<T>();
        Ok(Column::mapped(&map, 0, len).expect("a map begins at a page"))
    }
}

/// Reads a pile from its first value to its last.
pub(crate) struct Reader<'a, T> {
    pile: &'a Pile<T>,
    buffer: Vec<T>,
    /// Values of the buffer that were handed out.
    used: usize,
    /// The first value behind the buffer.
    at: u64,
}

impl<T: Pod> Reader<'_, T> {
    /// The next `count` values, all of which must be there.
    pub(crate) fn take(&mut self, count: usize) -> Result<&[T]> {
        let have = self.buffer.len() - self.used;
        if have < count {
            self.buffer.drain(..self.used);
            self.used = 0;
            let left = usize::try_from(self.pile.len() - self.at).unwrap_or(usize::MAX);
            let more = left.min((count - have).max(CHUNK_VALUES));
            self.buffer.resize(have + more, T::zeroed());
            self.pile.read(self.at, &mut self.buffer[have..])?;
            self.at += more as u64;
        }
        self.used += count;
        Ok(&self.buffer[self.used - count..self.used])
    }

    /// Some of the next values; none at the end.
    pub(crate) fn chunk(&mut self) -> Result<&[T]> {
        let held = (self.buffer.len() - self.used) as u64;
        let left = held + self.pile.len() - self.at;
        self.take(usize::try_from(left).map_or(CHUNK_VALUES, |left| left.min(CHUNK_VALUES)))
    }
}

/// The bytes of a column, wherever they are.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    spilled: Option<&'a Spilled>,
    held: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// The bytes of values in memory.
    pub(crate) fn of<T: Pod>(values: &'a [T]) -> Self {
        Self { spilled: None, held: bytemuck::cast_slice(values) }
    }

    /// How many there are.
    pub(crate) fn len(self) -> u64 {
        self.spilled.map_or(0, |spilled| spilled.bytes) + self.held.len() as u64
    }

    /// Writes them through a small buffer; what was spilled is not mapped, because pages that are
    /// mapped count as memory. `path` names `into` in errors.
    pub(crate) fn copy_to(self, path: &str, into: &mut dyn Write) -> Result<()> {
        let io = |error| Error::Io { path: path.to_owned(), source: error };
        if let Some(spilled) = self.spilled {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = 0;
            while at < spilled.bytes {
                let left = usize::try_from(spilled.bytes - at).unwrap_or(usize::MAX);
                let buffer = &mut buffer[..left.min(COPY_BYTES)];
                spilled.read(at, buffer)?;
                into.write_all(buffer).map_err(io)?;
                at += buffer.len() as u64;
            }
        }
        into.write_all(self.held).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pile_is_read_back_wherever_its_values_lie() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill { folder: folder.path().to_owned(), budget_bytes: 6 };
        let mut pile = Pile::default();
        for value in 0..10_u16 {
            pile.push(&[value], Some(&spill)).unwrap();
        }
        // Four values are 8 bytes, which are spilled: twice, and two are held.
        assert_eq!((pile.len(), pile.held_bytes()), (10, 4));
        let mut some = [0; 5];
        pile.read(4, &mut some).unwrap();
        assert_eq!(some, [4, 5, 6, 7, 8]);
        pile.read(8, &mut some[..2]).unwrap();
        assert_eq!(some[..2], [8, 9]);
        let mut reader = pile.reader();
        assert_eq!(reader.take(3).unwrap(), [0, 1, 2]);
        assert_eq!(reader.chunk().unwrap(), [3, 4, 5, 6, 7, 8, 9]);
        assert!(reader.chunk().unwrap().is_empty());
        let mut bytes = Vec::new();
        pile.bytes().copy_to("memory", &mut bytes).unwrap();
        let expected: Vec<u8> = (0..10_u16).flat_map(u16::to_ne_bytes).collect();
        assert_eq!((pile.bytes().len(), bytes), (20, expected));
        assert_eq!(*pile.column().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        // The file never had a name.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let spill = Spill { folder: "no/such/folder".into(), budget_bytes: 0 };
        let error = Pile::default().push(&[1_u8], Some(&spill)).unwrap_err();
        assert!(error.to_string().starts_with("no/such/folder: "), "{error}");
    }
}

//! One column of a trace: a shared, immutable slice that lives in memory or in a mapped file.

use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

/// A cheaply cloneable slice of plain values.
#[derive(Clone)]
pub struct Column<T> {
    storage: Storage<T>,
    start: usize,
    len: usize,
}

#[derive(Clone)]
enum Storage<T> {
    Owned(Arc<Vec<T>>),
    Mapped(Arc<Mmap>),
}

/// Maps a whole file, which must not be empty.
pub(crate) fn map(file: &File) -> std::io::Result<Arc<Mmap>> {
    #[expect(
        unsafe_code,
        reason = "mapping is unsound only if someone truncates the file while it is mapped; \
                  moecast itself replaces files by renaming, never in place, and its temporary \
                  files have no name"
    )]
    let map = unsafe { Mmap::map(file) }?;
    Ok(Arc::new(map))
}

impl<T: bytemuck::Pod> Column<T> {
    /// The values at byte `offset` of `map`; `None` where they do not fit or are not aligned.
    pub(crate) fn mapped(map: &Arc<Mmap>, offset: usize, len: usize) -> Option<Self> {
        let size = size_of::<T>();
        let end = len.checked_mul(size)?.checked_add(offset)?;
        let bytes = map.get(offset..end)?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Self { storage: Storage::Mapped(Arc::clone(map)), start: offset, len })
    }

    /// The values `start..end` of this column, without a copy.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= self.len, "slice {start}..{end} of {} values", self.len);
        let first = match self.storage {
            Storage::Owned(_) => self.start + start,
            Storage::Mapped(_) => self.start + start * size_of::<T>(),
        };
        Self { storage: self.storage.clone(), start: first, len: end - start }
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        let len = values.len();
        Self { storage: Storage::Owned(Arc::new(values)), start: 0, len }
    }
}

impl<T: bytemuck::Pod> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.storage {
            Storage::Owned(values) => &values[self.start..self.start + self.len],
            Storage::Mapped(map) => {
                bytemuck::cast_slice(&map[self.start..self.start + self.len * size_of::<T>()])
            }
        }
    }
}

impl<T: bytemuck::Pod + std::fmt::Debug> std::fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: bytemuck::Pod + PartialEq> PartialEq for Column<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

//! Tensors of ids, of which -1 says "none".

use std::io::Read;

use super::{Archive, CHUNK_BYTES, DataType, Error, Result, Tensor, unreadable};

impl Archive<'_> {
    /// Shows the elements of a tensor of integers, -1 included, to `visit`: some at a time, always
    /// a multiple of `width`, of which the tensor's size must be one. That the tensor fits its
    /// storage and the storage its file was checked before.
    pub(in crate::import) fn each_ids(
        &mut self,
        tensor: &Tensor,
        name: &str,
        width: usize,
        mut visit: impl FnMut(&[i64]) -> Result<()>,
    ) -> Result<()> {
        let data_type = tensor.storage.data_type;
        let parse: fn(&[u8], &mut Vec<i64>) = match data_type {
            DataType::I16 => |data, ids| all(data, ids, |b: [u8; 2]| i16::from_le_bytes(b).into()),
            DataType::I32 => |data, ids| all(data, ids, |b: [u8; 4]| i32::from_le_bytes(b).into()),
            DataType::I64 => |data, ids| all(data, ids, i64::from_le_bytes),
            other => {
                let place = format!("tensor `{name}`");
                let found = format!("elements of {other:?}");
                return Err(Error::invalid(&self.path, place, found, "I16, I32 or I64"));
            }
        };
        let row_bytes = width * data_type.bytes();
        let chunk_bytes = (CHUNK_BYTES / row_bytes).max(1) * row_bytes;
        let (mut left, mut data, mut ids) = (tensor.bytes(), Vec::new(), Vec::new());
        let mut counts = self.counts(tensor, name)?;
        while left > 0 {
            let count = usize::try_from(left).map_or(chunk_bytes, |left| left.min(chunk_bytes));
            data.resize(count, 0);
            let read = counts.file.read_exact(&mut data);
            read.map_err(|error| unreadable(counts.path, &counts.entry, error))?;
            counts.progress.add(count as u64);
            parse(&data, &mut ids);
            visit(&ids)?;
            left -= count as u64;
        }
        counts.finish()
    }

    /// All elements of a small tensor of integers.
    pub(in crate::import) fn read_ids(&mut self, tensor: &Tensor, name: &str) -> Result<Vec<i64>> {
        let mut ids = Vec::new();
        self.each_ids(tensor, name, 1, |some| {
            ids.extend_from_slice(some);
            Ok(())
        })?;
        Ok(ids)
    }
}

fn all<const N: usize>(data: &[u8], ids: &mut Vec<i64>, parse: impl Fn([u8; N]) -> i64) {
    ids.clear();
    ids.extend(data.as_chunks::<N>().0.iter().map(|&element| parse(element)));
}

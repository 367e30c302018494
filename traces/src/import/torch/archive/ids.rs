//! Tensors of ids, of which -1 says "none".

use std::io::Read;

use super::{Archive, DataType, Error, Result, Tensor, unreadable};

impl Archive<'_> {
    /// All elements of a tensor of integers, -1 included: one record at a time, never a whole
    /// recording. That the tensor fits its storage and the storage its file was checked before.
    pub(in crate::import) fn read_ids(&mut self, tensor: &Tensor, name: &str) -> Result<Vec<i64>> {
        let data_type = tensor.storage.data_type;
        let bytes = usize::try_from(tensor.bytes()).unwrap_or(usize::MAX);
        let mut counts = self.counts(tensor, name)?;
        let mut data = vec![0; bytes];
        counts
            .file
            .read_exact(&mut data)
            .map_err(|error| unreadable(counts.path, &counts.entry, error))?;
        counts.progress.add(bytes as u64);
        let ids = match data_type {
            DataType::I16 => all(&data, |b: [u8; 2]| i16::from_le_bytes(b).into()),
            DataType::I32 => all(&data, |b: [u8; 4]| i32::from_le_bytes(b).into()),
            DataType::I64 => all(&data, i64::from_le_bytes),
            other => {
                let place = format!("tensor `{name}`");
                let found = format!("elements of {other:?}");
                return Err(Error::invalid(counts.path, place, found, "I16, I32 or I64"));
            }
        };
        counts.finish()?;
        Ok(ids)
    }
}

fn all<const N: usize>(data: &[u8], parse: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    data.as_chunks::<N>().0.iter().map(|&element| parse(element)).collect()
}

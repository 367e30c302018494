//! Element types, storages and tensors: sizes are checked before anything uses them.

use std::rc::Rc;

/// Most dimensions of a tensor; no recording has more than four.
const DIMENSIONS_MAX: usize = 8;

/// The element types that hold counts and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataType {
    U8,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl DataType {
    /// The type of the storage class `torch.<name>`.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "ByteStorage" => Self::U8,
            "CharStorage" => Self::I8,
            "ShortStorage" => Self::I16,
            "IntStorage" => Self::I32,
            "LongStorage" => Self::I64,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// One entry `data/<key>` of the archive.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    pub(super) data_type: DataType,
    pub(super) elements: u64,
}

/// A contiguous view of a storage.
#[derive(Clone, Debug)]
pub(in crate::import) struct Tensor {
    pub(super) storage: Storage,
    /// First element in the storage.
    pub(super) offset: u64,
    /// Elements of the tensor.
    pub(super) elements: u64,
    pub(in crate::import) shape: Vec<u64>,
}

impl Tensor {
    /// A view of `storage` from element `offset`; the error says what is wrong with it.
    pub(super) fn new(
        storage: Storage,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Result<Self, String> {
        if shape.len() != strides.len() || shape.len() > DIMENSIONS_MAX {
            return Err(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        let mut elements: u64 = 1;
        for &size in shape.iter().rev() {
            let size = u64::try_from(size).map_err(|_| format!("shape {shape:?}"))?;
            elements = elements.checked_mul(size).ok_or_else(|| format!("shape {shape:?}"))?;
        }
        let mut step: i64 = 1;
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            if size != 1 && elements != 0 && stride != step {
                return Err(format!("shape {shape:?} with strides {strides:?}: not contiguous"));
            }
            step = step.saturating_mul(size.max(1));
        }
        let offset = u64::try_from(offset).map_err(|_| format!("offset {offset}"))?;
        let end = offset.checked_add(elements);
        if end.is_none_or(|end| end > storage.elements) {
            let held = storage.elements;
            return Err(format!("shape {shape:?} at offset {offset} of {held} elements"));
        }
        let shape = shape.iter().map(|size| size.cast_unsigned()).collect();
        Ok(Self { storage, offset, elements, shape })
    }

    /// Number of elements.
    pub(in crate::import) fn elements(&self) -> u64 {
        self.elements
    }

    /// Bytes of the tensor in its storage.
    pub(in crate::import) fn bytes(&self) -> u64 {
        self.elements.saturating_mul(self.storage.data_type.bytes() as u64)
    }

    /// The indices of element number `at`, for messages.
    pub(super) fn indices(&self, mut at: u64) -> Vec<u64> {
        let mut indices: Vec<u64> = self
            .shape
            .iter()
            .rev()
            .map(|&size| {
                let index = at % size.max(1);
                at /= size.max(1);
                index
            })
            .collect();
        indices.reverse();
        indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(elements: u64) -> Storage {
        Storage { key: "0".into(), data_type: DataType::I32, elements }
    }

    #[test]
    fn a_contiguous_view_that_fits_is_a_tensor() {
        let tensor = Tensor::new(storage(30), 6, &[2, 3, 4], &[12, 4, 1]).unwrap();
        assert_eq!(tensor.elements, 24);
        assert_eq!(tensor.indices(23), [1, 2, 3]);
        assert_eq!(tensor.indices(4), [0, 1, 0]);
        // A dimension of one element may have any stride, and so may an empty tensor.
        assert!(Tensor::new(storage(4), 0, &[1, 4], &[99, 1]).is_ok());
        assert!(Tensor::new(storage(0), 0, &[0, 4], &[7, 7]).is_ok());
    }

    #[test]
    fn shapes_that_lie_are_refused() {
        let huge = i64::MAX;
        let cases: [(i64, &[i64], &[i64]); 8] = [
            (7, &[2, 3, 4], &[12, 4, 1]),
            (0, &[4, 6], &[1, 4]),
            (0, &[huge, 4], &[4, 1]),
            (0, &[huge, huge, huge], &[1, 1, 1]),
            (huge, &[1], &[1]),
            (-1, &[1], &[1]),
            (0, &[-1, 4], &[4, 1]),
            (0, &[24], &[0]),
        ];
        for (offset, shape, strides) in cases {
            let found = Tensor::new(storage(30), offset, shape, strides);
            assert!(found.is_err(), "{offset} {shape:?} {strides:?}: {found:?}");
        }
    }
}

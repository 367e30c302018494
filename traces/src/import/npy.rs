//! Reads arrays `[tokens, layers, k]` of ids that NumPy wrote: format versions 1.0, 2.0 and 3.0,
//! little-endian integers in C order. Everything else is refused by name; a header is never
//! believed before its sizes are compared with the bytes that are there.

use std::io::{ErrorKind, Read};

use crate::error::{Error, Result};

/// Longest header that is read; NumPy itself refuses more than 10,000 characters.
const HEADER_BYTES_MAX: usize = 1 << 16;

/// Most layers and most ids per layer: what one token's row may cost before any byte is read.
const LAYERS_MAX: usize = 4096;
const IDS_MAX: usize = 512;

/// What every file begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// A file, or a part of it such as an entry of an archive: what errors name.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) part: Option<&'a str>,
}

impl Source<'_> {
    /// An error at `place` of this source.
    pub(super) fn invalid(
        self,
        place: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Error {
        let place = match self.part {
            Some(part) => format!("{part}, {place}"),
            None => place.to_owned(),
        };
        Error::invalid(self.path, place, found, expected)
    }

    fn read_exact(self, reader: &mut impl Read, bytes: &mut [u8], place: &str) -> Result<()> {
        reader.read_exact(bytes).map_err(|error| self.unreadable(&error, place))
    }

    /// A damaged archive answers with an error of input and output, too.
    pub(super) fn unreadable(self, error: &std::io::Error, place: &str) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.invalid(place, "the end of the file", "a whole array"),
            _ => self.invalid(place, error.to_string(), "a whole array"),
        }
    }
}

/// The element types that hold ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataType {
    U8,
    U16,
    I16,
    I32,
    I64,
}

impl DataType {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    fn convert(self, bytes: &[u8], ids: &mut [i64]) {
        match self {
            Self::U8 => convert(bytes, ids, |b: [u8; 1]| b[0].into()),
            Self::U16 => convert(bytes, ids, |b| u16::from_le_bytes(b).into()),
            Self::I16 => convert(bytes, ids, |b| i16::from_le_bytes(b).into()),
            Self::I32 => convert(bytes, ids, |b| i32::from_le_bytes(b).into()),
            Self::I64 => convert(bytes, ids, i64::from_le_bytes),
        }
    }
}

fn convert<const N: usize>(bytes: &[u8], ids: &mut [i64], parse: impl Fn([u8; N]) -> i64) {
    for (id, &element) in ids.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *id = parse(element);
    }
}

/// The header of one array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    data_type: DataType,
    /// Tokens, layers, ids per token and layer.
    pub(crate) shape: [usize; 3],
    /// Bytes of the header and of the whole array.
    pub(super) header_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Array {
    /// Reads and checks a header; `reader` is left at the first element.
    pub(crate) fn open(source: Source<'_>, reader: &mut impl Read) -> Result<Self> {
        const PLACE: &str = "header";
        let mut start = [0; 8];
        source.read_exact(reader, &mut start, PLACE)?;
        if !start.starts_with(MAGIC) {
            return Err(source.invalid(PLACE, "no array of NumPy", "bytes that begin \\x93NUMPY"));
        }
        let [major, minor] = [start[6], start[7]];
        let width = match (major, minor) {
            (1, 0) => 2,
            (2 | 3, 0) => 4,
            _ => {
                let found = format!("version {major}.{minor}");
                return Err(source.invalid(PLACE, found, "version 1.0, 2.0 or 3.0"));
            }
        };
        let mut length = [0; 4];
        source.read_exact(reader, &mut length[..width], PLACE)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > HEADER_BYTES_MAX {
            let expected = format!("{HEADER_BYTES_MAX} at most");
            return Err(source.invalid(PLACE, format!("{length} bytes"), expected));
        }
        let mut text = vec![0; length];
        source.read_exact(reader, &mut text, PLACE)?;
        let header_bytes = (start.len() + width + length) as u64;
        let text = std::str::from_utf8(&text)
            .map_err(|_| source.invalid(PLACE, "bytes that are no text", "a Python dict"))?;
        let (data_type, shape) = header::parse(text)
            .map_err(|fault| source.invalid(PLACE, fault.found, fault.expected))?;
        let shape = check_shape(source, &shape)?;
        let data = shape
            .iter()
            .try_fold(data_type.bytes() as u64, |bytes, &size| bytes.checked_mul(size as u64));
        match data.and_then(|bytes| bytes.checked_add(header_bytes)) {
            Some(total_bytes) => Ok(Self { data_type, shape, header_bytes, total_bytes }),
            None => Err(source.invalid(PLACE, format!("shape {shape:?}"), "less than 2^64 bytes")),
        }
    }

    /// Hands out the ids `[layers, k]` of every token in order. The caller has compared
    /// `total_bytes` with what is there.
    pub(crate) fn each_token(
        &self,
        source: Source<'_>,
        reader: &mut impl Read,
        mut token: impl FnMut(&[i64]) -> Result<()>,
    ) -> Result<()> {
        let [tokens, layers, width] = self.shape;
        let mut ids = vec![0; layers * width];
        let mut bytes = vec![0; ids.len() * self.data_type.bytes()];
        for number in 0..tokens {
            reader
                .read_exact(&mut bytes)
                .map_err(|error| source.unreadable(&error, &format!("token {number}")))?;
            self.data_type.convert(&bytes, &mut ids);
            token(&ids)?;
        }
        Ok(())
    }
}

/// `[tokens, layers, k]`, none of them absurd.
fn check_shape(source: Source<'_>, shape: &[i64]) -> Result<[usize; 3]> {
    let sizes: Vec<usize> = shape.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
    match (<[usize; 3]>::try_from(sizes.as_slice()), shape.len()) {
        (Ok([tokens, layers @ 1..=LAYERS_MAX, ids @ 1..=IDS_MAX]), 3)
            if u32::try_from(tokens).is_ok() =>
        {
            Ok([tokens, layers, ids])
        }
        _ => {
            let found = format!("shape {shape:?}");
            let expected = format!(
                "[tokens, layers, k] with 1 to {LAYERS_MAX} layers and k of 1 to {IDS_MAX}"
            );
            Err(source.invalid("header", found, expected))
        }
    }
}

mod header;

#[cfg(test)]
pub(super) mod tests;

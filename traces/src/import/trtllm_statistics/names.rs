//! The header of a safetensors file, one tensor at a time: that of a long recording is large, the
//! crate keeps the last of two tensors of one name, and it wants the whole file in memory.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

use super::super::shown;
use super::super::sorter::Sorter;
use super::super::text::short;
use crate::error::{Error, Result};

/// Longest header, as the crate has it.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// An open file, whose header is to be read.
pub(super) struct Header {
    path: String,
    reader: BufReader<File>,
    bytes: u64,
    /// Where the data begins, and how long it is.
    pub(super) data_start: u64,
    pub(super) data_bytes: u64,
}

impl Header {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = shown(path);
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let size = file.metadata().map_err(|error| Error::io(path, error))?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut length = [0; 8];
        let read = reader.read_exact(&mut length);
        read.map_err(|error| not_whole(&name, error.to_string()))?;
        let bytes = u64::from_le_bytes(length);
        match bytes.checked_add(8).and_then(|start| Some((start, size.checked_sub(start)?))) {
            Some((data_start, data_bytes)) if bytes <= HEADER_BYTES_MAX => {
                Ok(Self { path: name, reader, bytes, data_start, data_bytes })
            }
            _ => Err(not_whole(&name, format!("a header of {bytes} bytes in a file of {size}"))),
        }
    }

    /// Shows every tensor to `visit`, in the order of the header.
    pub(super) fn each_tensor(
        &mut self,
        mut visit: impl FnMut(&str, TensorInfo) -> Result<()>,
    ) -> Result<()> {
        let mut refused = None;
        let header = self.reader.by_ref().take(self.bytes);
        let mut json = serde_json::Deserializer::from_reader(header);
        let seed = Tensors { visit: &mut visit, refused: &mut refused };
        let read = seed.deserialize(&mut json).and_then(|()| json.end());
        match (refused, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(not_whole(&self.path, error.to_string())),
            (None, Ok(())) => Ok(()),
        }
    }

    pub(super) fn into_file(self) -> File {
        self.reader.into_inner()
    }
}

/// Reads the map of a header; what `visit` refuses is kept, because serde only knows text.
struct Tensors<'a> {
    visit: &'a mut dyn FnMut(&str, TensorInfo) -> Result<()>,
    refused: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Tensors<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        from: D,
    ) -> std::result::Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header of safetensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let info = map.next_value()?;
            if let Err(error) = (self.visit)(&name, info) {
                *self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// An error for a file that does not hold what its header says.
pub(super) fn not_whole(path: &str, found: String) -> Error {
    Error::invalid(path, "whole file", found, "a whole safetensors file")
}

/// An error for a name that occurs twice in one header.
pub(super) fn twice(path: &str, tensor: &str) -> Error {
    let found = format!("tensor `{}` twice", short(tensor));
    Error::invalid(path, "header", found, "each tensor once")
}

/// Begin and end of a tensor in the data, if they suit its shape.
pub(super) fn extent(info: &TensorInfo) -> Option<[u64; 2]> {
    let elements = info.shape.iter().try_fold(1_usize, |all, &size| all.checked_mul(size))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    let (begin, end) = info.data_offsets;
    (end.checked_sub(begin)?.checked_mul(8)? == bits).then_some([begin as u64, end as u64])
}

/// Tensors (begin, end, pass, layer) must follow each other and fill the data.
pub(super) fn check_extents(
    path: &str,
    extents: Sorter<'_, [u64; 4]>,
    data_bytes: u64,
) -> Result<()> {
    let mut sorted = extents.sorted()?;
    let mut before = [0; 4];
    while let Some(extent) = sorted.next()? {
        let [begin, end, pass, layer] = extent;
        if end > 0 && extent == before {
            return Err(twice(path, &format!("{pass}_{layer}")));
        }
        if begin != before[1] {
            let found = format!("tensor `{pass}_{layer}` from byte {begin} behind {}", before[1]);
            return Err(not_whole(path, found));
        }
        before = extent;
    }
    if before[1] == data_bytes {
        return Ok(());
    }
    Err(not_whole(path, format!("tensors of {} bytes, {data_bytes} are there", before[1])))
}

/// A number as Python prints it: digits only, no leading zero.
pub(super) fn plain(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// Pass and layer of a tensor called `{iteration}_{layer}`.
pub(super) fn key(name: &str) -> Option<(u64, u16)> {
    let (pass, layer) = name.split_once('_')?;
    Some((plain(pass)?, u16::try_from(plain(layer)?).ok()?))
}

/// Whether a file begins with a header of safetensors in which a tensor has such a name.
pub(super) fn begins_with_key(head: &[u8]) -> bool {
    let Some((_, header)) = head.split_at_checked(8) else { return false };
    header
        .split(|&byte| byte == b'"')
        .skip(1)
        .step_by(2)
        .any(|text| std::str::from_utf8(text).is_ok_and(|text| key(text).is_some()))
        && header.trim_ascii_start().starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_pass_and_a_layer() {
        assert_eq!(key("100_3"), Some((100, 3)));
        assert_eq!(key("0_0"), Some((0, 0)));
        for wrong in ["100", "100_", "_3", "0100_3", "100_None", "1_2_3", "+1_2", "1_65536"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_tensor_is_shown_in_order() {
        let header = b"{\"__metadata__\":{\"a\":\"b\"},\
            \"2_1\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\
            \"1_1\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[2,10]}} ";
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), &[0; 10]].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rank0.safetensors");
        std::fs::write(&path, file).unwrap();
        let mut header = Header::open(&path).unwrap();
        assert_eq!(header.data_bytes, 10);
        let mut shown = Vec::new();
        let read = header.each_tensor(|name, info| {
            shown.push((name.to_owned(), extent(&info)));
            Ok(())
        });
        read.unwrap();
        assert_eq!(shown, [("2_1".to_owned(), Some([0, 2])), ("1_1".to_owned(), Some([2, 10]))]);
    }

    #[test]
    fn tensors_fill_the_data() {
        let check = |extents: &[[u64; 4]]| {
            let mut sorter = Sorter::new(None);
            extents.iter().try_for_each(|&extent| sorter.push(extent)).unwrap();
            check_extents("a", sorter, 4).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[[2, 4, 1, 1], [0, 2, 1, 2]]), Ok(()));
        let expected = "expected a whole safetensors file";
        let gap = format!("a: whole file: tensor `1_2` from byte 3 behind 2; {expected}");
        assert_eq!(check(&[[0, 2, 1, 1], [3, 4, 1, 2]]), Err(gap));
        let short = format!("a: whole file: tensors of 2 bytes, 4 are there; {expected}");
        assert_eq!(check(&[[0, 2, 1, 1]]), Err(short));
        let twice = "a: header: tensor `1_1` twice; expected each tensor once".to_owned();
        assert_eq!(check(&[[0, 4, 1, 1], [0, 4, 1, 1]]), Err(twice));
    }
}

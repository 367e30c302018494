//! The header of a GGUF file (versions 2 and 3, little-endian): metadata is skipped value by value
//! and never held, and no length is believed before it is compared with the bytes that are left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::super::shown;
use super::super::text::short;
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"GGUF";

/// Longest key or tensor name; ggml allows 64 bytes for a tensor's.
const NAME_BYTES_MAX: u64 = 1 << 16;

/// Most dimensions of a tensor, as ggml has it.
const DIMENSIONS_MAX: u32 = 4;

/// `ggml_type` of 32-bit floats.
const F32: u32 = 0;

/// Where the counts of one tensor are.
pub(super) struct Counts {
    pub(super) layer: u16,
    pub(super) experts: usize,
    offset: u64,
}

/// An open file whose header has been read.
pub(super) struct File {
    path: String,
    reader: BufReader<std::fs::File>,
    /// Bytes behind the reader's position.
    left: u64,
    alignment: u64,
    /// By tensor name.
    pub(super) counts: BTreeMap<String, Counts>,
    /// Tensors that are something else.
    pub(super) others: u64,
}

impl File {
    /// Opens `path`; `is_legacy` tells the format before GGUF from its first bytes.
    pub(super) fn open(path: &Path, is_legacy: impl Fn(&[u8]) -> bool) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
        let left = file.metadata().map_err(|error| Error::io(path, error))?.len();
        let reader = BufReader::with_capacity(1 << 16, file);
        let (counts, others, alignment) = (BTreeMap::new(), 0, 32);
        let mut file = Self { path: shown(path), reader, left, alignment, counts, others };
        file.check_start(is_legacy)?;
        let (tensors, keys) = (file.u64("header")?, file.u64("header")?);
        // The smallest value of a key takes 13 bytes, the smallest description of a tensor 24.
        if keys > file.left / 13 || tensors > file.left / 24 {
            let found = format!("{tensors} tensors and {keys} keys in {} bytes", file.left);
            return Err(file.invalid("header", found, "no more than the file can hold"));
        }
        let mut seen = BTreeSet::new();
        for number in 0..keys {
            let key = file.name(&format!("key {number}"))?;
            file.key(&key)?;
            if let Some(key) = seen.replace(key) {
                let place = format!("key `{}`", short(&key));
                return Err(file.invalid(&place, "a second time", "each key once"));
            }
        }
        let mut seen = BTreeSet::new();
        for number in 0..tensors {
            let name = file.name(&format!("tensor {number}"))?;
            file.tensor(&name)?;
            if let Some(name) = seen.replace(name) {
                let place = format!("tensor `{}`", short(&name));
                return Err(file.invalid(&place, "a second time", "each tensor once"));
            }
        }
        file.place_counts()?;
        Ok(file)
    }

    /// The values of the counts `info` of `tensor`.
    pub(super) fn read(&mut self, tensor: &str, info: &Counts) -> Result<Vec<f32>> {
        // The range was compared with the file's length, so this much is there.
        let mut bytes = vec![0; info.experts * 4];
        self.reader
            .seek(SeekFrom::Start(info.offset))
            .and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|error| self.unreadable(error, &format!("tensor `{}`", short(tensor))))?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
    }

    fn check_start(&mut self, is_legacy: impl Fn(&[u8]) -> bool) -> Result<()> {
        const PLACE: &str = "start of the file";
        let mut start = Vec::new();
        self.reader
            .by_ref()
            .take(16)
            .read_to_end(&mut start)
            .map_err(|error| Error::io(&self.path, error))?;
        self.left -= start.len() as u64;
        if is_legacy(&start) {
            let expected = "GGUF: make it anew with `llama-imatrix --output-format gguf`; the old \
                            format adds all experts of a tensor up";
            return Err(self.invalid(
                PLACE,
                "an imatrix.dat of llama.cpp before 2025-07",
                expected,
            ));
        }
        let version = start.get(4..8).and_then(|bytes| bytes.first_chunk());
        let version = version.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let found = match version {
            _ if start.len() < 16 => format!("{} bytes", start.len()),
            _ if !start.starts_with(MAGIC) => "no GGUF".to_owned(),
            2 | 3 => {
                self.left += 8;
                return self.reader.seek_relative(-8).map_err(|e| Error::io(&self.path, e));
            }
            other if (1..=3).contains(&other.swap_bytes()) => "a big-endian GGUF".to_owned(),
            other => format!("GGUF version {other}"),
        };
        Err(self.invalid(PLACE, found, "a little-endian GGUF of version 2 or 3"))
    }

    fn key(&mut self, key: &str) -> Result<()> {
        let place = format!("key `{}`", short(key));
        let kind = self.u32(&place)?;
        if key == "general.alignment" {
            let alignment = if kind == 4 { self.u32(&place)? } else { 0 };
            if !alignment.is_power_of_two() {
                let found = format!("type {kind}, value {alignment}");
                return Err(self.invalid(&place, found, "a 32-bit power of two"));
            }
            self.alignment = u64::from(alignment);
            return Ok(());
        }
        match kind {
            ARRAY => {
                let (kind, count) = (self.u32(&place)?, self.u64(&place)?);
                if kind != STRING {
                    let size = self.size(kind, &place)?;
                    return self.skip(count.saturating_mul(size), &place);
                }
                for _ in 0..count {
                    let length = self.u64(&place)?;
                    self.skip(length, &place)?;
                }
                Ok(())
            }
            STRING => {
                let length = self.u64(&place)?;
                self.skip(length, &place)
            }
            kind => {
                let size = self.size(kind, &place)?;
                self.skip(size, &place)
            }
        }
    }

    /// Bytes of one value of type `kind`.
    fn size(&self, kind: u32, place: &str) -> Result<u64> {
        match kind {
            0 | 1 | 7 => Ok(1),
            2 | 3 => Ok(2),
            4..=6 => Ok(4),
            10..=12 => Ok(8),
            other => Err(self.invalid(place, format!("value of type {other}"), "a type of GGUF")),
        }
    }

    /// The description of one tensor.
    fn tensor(&mut self, name: &str) -> Result<()> {
        let place = format!("tensor `{}`", short(name));
        let dimensions = self.u32(&place)?;
        if dimensions > DIMENSIONS_MAX {
            let found = format!("{dimensions} dimensions");
            return Err(self.invalid(&place, found, "4 at most"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&place)?);
        }
        let (kind, offset) = (self.u32(&place)?, self.u64(&place)?);
        let Some(layer) = layer_of(name) else {
            self.others += 1;
            return Ok(());
        };
        match (shape.as_slice(), kind) {
            (&[1, experts], F32) => {
                let experts = usize::try_from(experts).unwrap_or(usize::MAX);
                self.counts.insert(name.to_owned(), Counts { layer, experts, offset });
                Ok(())
            }
            _ => {
                let found = format!("shape {shape:?} of type {kind}");
                Err(self.invalid(&place, found, "[1, experts] of 32-bit floats (type 0)"))
            }
        }
    }

    /// Turns offsets in the data into offsets in the file, and compares them with its length.
    fn place_counts(&mut self) -> Result<()> {
        let here = self.reader.stream_position().map_err(|e| Error::io(&self.path, e))?;
        let end = here + self.left;
        let data = here.checked_next_multiple_of(self.alignment);
        let mut claimed: u64 = 0;
        for (name, counts) in &mut self.counts {
            let start = data.and_then(|data| data.checked_add(counts.offset));
            let size = (counts.experts as u64).checked_mul(4);
            claimed = claimed.saturating_add(size.unwrap_or(u64::MAX));
            match start.zip(size).and_then(|(start, size)| start.checked_add(size)) {
                Some(last) if last.max(claimed) <= end => counts.offset = start.unwrap_or(end),
                _ => {
                    let place = format!("tensor `{}`", short(name));
                    let found = format!(
                        "{} counts at offset {} of the data, in a file of {end} bytes",
                        counts.experts, counts.offset
                    );
                    return Err(Error::invalid(&self.path, place, found, "counts in the file"));
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, place: &str) -> Result<String> {
        let length = self.u64(place)?;
        if length > NAME_BYTES_MAX.min(self.left) {
            let found = format!("a name of {length} bytes, {} bytes left", self.left);
            return Err(self.invalid(place, found, format!("{NAME_BYTES_MAX} at most")));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.read_exact(&mut bytes, place)?;
        String::from_utf8(bytes)
            .map_err(|_| self.invalid(place, "a name that is not UTF-8", "text"))
    }

    fn u32(&mut self, place: &str) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read_exact(&mut bytes, place)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self, place: &str) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes, place)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn read_exact(&mut self, bytes: &mut [u8], place: &str) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|error| self.unreadable(error, place))?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(())
    }

    fn skip(&mut self, count: u64, place: &str) -> Result<()> {
        let Some(distance) = i64::try_from(count).ok().filter(|_| count <= self.left) else {
            let found = format!("a value of {count} bytes, {} bytes left", self.left);
            return Err(self.invalid(place, found, "a whole file"));
        };
        self.left -= count;
        self.reader.seek_relative(distance).map_err(|error| Error::io(&self.path, error))
    }

    fn invalid(&self, place: &str, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::invalid(&self.path, place, found, expected)
    }

    fn unreadable(&self, error: std::io::Error, place: &str) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.invalid(place, "the end of the file", "a whole file"),
            _ => Error::io(&self.path, error),
        }
    }
}

/// `gguf_type` of strings and of arrays.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The layer of a tensor called `blk.N.ffn_*_exps.weight.counts`.
fn layer_of(name: &str) -> Option<u16> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let counts = rest.starts_with("ffn_") && rest.ends_with("_exps.weight.counts");
    let digits = layer.bytes().all(|byte| byte.is_ascii_digit());
    (counts && digits && (layer == "0" || !layer.starts_with('0'))).then(|| layer.parse().ok())?
}

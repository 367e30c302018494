//! Our own file: safetensors with one versioned metadata key, memory-mapped on reading.
//!
//! `__metadata__` has one key, `moecast.trace`, whose value is the JSON text of [`Header`].
//! Tensors of a token recording: `experts` U16 `[T, M, k]` (0xFFFF = none), optional `weights`
//! F16 `[T, M, k]`, `request`, `position`, `step` U32 `[T]`, `phase` U8 `[T]` (0 prefill,
//! 1 decode), optional `domain` U16 `[T]`. Of a count recording: `counts` U32 `[S, M, E]`.
//! Numbers are little-endian. Any other tensor or metadata key is refused.
//!
//! Reading maps the file: opening costs one pass over the columns to check them, and memory only
//! for what is looked at.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::column::{self, Column};
use crate::error::{Error, Result};
use crate::header::{Header, VERSION};
use crate::trace::{CountColumns, Events, RoutingTrace, TokenColumns};

mod write;

pub use self::write::write;
pub(crate) use self::write::{Tensors, write_tensors};

/// The metadata key that holds the header.
pub const METADATA_KEY: &str = "moecast.trace";

const TOKEN_TENSORS: &[&str] =
    &["experts", "weights", "request", "position", "step", "phase", "domain"];

/// Reads the trace at `path` by mapping it into memory.
///
/// # Errors
/// When the file cannot be read, is no trace, is of a newer version or does not hold together.
pub fn read(path: &Path) -> Result<RoutingTrace> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let length = file.metadata().map_err(|error| Error::io(path, error))?.len();
    if length < 8 {
        return Err(not_a_trace(&name, format!("{length} bytes")));
    }
    let map = column::map(&file).map_err(|error| Error::io(path, error))?;
    let tensors = Parsed::parse(map, &name)?;
    let header = tensors.header.clone();
    let events = if tensors.infos.info("counts").is_some() {
        tensors.only(&["counts"])?;
        let shape = [header.moe_layers(), usize::from(header.experts)];
        let counts = tensors.column("counts", Dtype::U32, &shape)?;
        Events::Counts(CountColumns { counts })
    } else {
        tensors.only(TOKEN_TENSORS)?;
        read_tokens(&tensors)?
    };
    RoutingTrace::new(header, events, &name)
}

fn read_tokens(tensors: &Parsed<'_>) -> Result<Events> {
    let header = &tensors.header;
    let wide = [header.moe_layers(), usize::from(header.top_k)];
    let has = |name| tensors.infos.info(name).is_some();
    Ok(Events::Tokens(TokenColumns {
        experts: tensors.column("experts", Dtype::U16, &wide)?,
        weights: has("weights")
            .then(|| tensors.column("weights", Dtype::F16, &wide))
            .transpose()?,
        request: tensors.column("request", Dtype::U32, &[])?,
        position: tensors.column("position", Dtype::U32, &[])?,
        step: tensors.column("step", Dtype::U32, &[])?,
        phase: tensors.column("phase", Dtype::U8, &[])?,
        domain: has("domain").then(|| tensors.column("domain", Dtype::U16, &[])).transpose()?,
    }))
}

/// Whether `beginning` is the beginning of a file in this format.
#[must_use]
pub fn recognise(beginning: &[u8]) -> bool {
    let key = format!("\"{METADATA_KEY}\"");
    beginning.get(8) == Some(&b'{')
        && beginning.windows(key.len()).any(|window| window == key.as_bytes())
}

fn not_a_trace(path: &str, found: String) -> Error {
    let expected = "a trace made by `moecast trace import` (import foreign recordings first)";
    Error::invalid(path, "file", found, expected)
}

/// A parsed safetensors header over a mapped file.
struct Parsed<'a> {
    name: &'a str,
    map: Arc<Mmap>,
    header: Header,
    data_start: usize,
    infos: Metadata,
}

impl<'a> Parsed<'a> {
    fn parse(map: Arc<Mmap>, name: &'a str) -> Result<Self> {
        let (length, infos) = SafeTensors::read_metadata(&map)
            .map_err(|error| not_a_trace(name, format!("no whole safetensors file ({error})")))?;
        let text = infos.metadata().as_ref().and_then(|keys| keys.get(METADATA_KEY));
        let Some(text) = text else {
            return Err(not_a_trace(name, format!("safetensors without key `{METADATA_KEY}`")));
        };
        let header = parse_header(text, name)?;
        Ok(Self { name, map, header, data_start: 8 + length, infos })
    }

    /// Refuses tensors that the format does not know: they would be dropped silently.
    fn only(&self, known: &[&str]) -> Result<()> {
        let unknown =
            self.infos.offset_keys().into_iter().find(|name| !known.contains(&name.as_str()));
        unknown.map_or(Ok(()), |tensor| {
            let expected = format!("only the tensors {}", known.join(", "));
            Err(Error::invalid(self.name, format!("tensor `{tensor}`"), "not known", expected))
        })
    }

    /// The values of `tensor`, whose shape must be `[any, inner...]`.
    fn column<T: Pod>(&self, tensor: &str, dtype: Dtype, inner: &[usize]) -> Result<Column<T>> {
        let place = || format!("tensor `{tensor}`");
        let Some(info) = self.infos.info(tensor) else {
            return Err(Error::invalid(self.name, place(), "missing", "it to be there"));
        };
        if info.dtype != dtype || info.shape.get(1..) != Some(inner) {
            let found = format!("{:?} {:?}", info.dtype, info.shape);
            let inner: String = inner.iter().map(|size| format!(", {size}")).collect();
            let expected = format!("{dtype:?} [rows{inner}]");
            return Err(Error::invalid(self.name, place(), found, expected));
        }
        let (start, end) = info.data_offsets;
        let count = (end - start) / size_of::<T>();
        Column::mapped(&self.map, self.data_start + start, count).ok_or_else(|| {
            Error::invalid(self.name, place(), "data that is not aligned", "aligned data")
        })
    }
}

fn parse_header(text: &str, name: &str) -> Result<Header> {
    #[derive(serde::Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let place = format!("metadata key `{METADATA_KEY}`");
    let invalid = |error: serde_json::Error| {
        Error::invalid(name, place.clone(), error.to_string(), "the header of a trace")
    };
    let VersionOnly { version } = serde_json::from_str(text).map_err(invalid)?;
    if version != VERSION {
        let expected = format!("{VERSION}; a newer moecast reads it");
        return Err(Error::invalid(name, "header key `version`", version.to_string(), expected));
    }
    let header: Header = serde_json::from_str(text).map_err(invalid)?;
    header.validate(name)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{NO_EXPERT, Phase, TokenRow, TraceBuilder};

    fn tokens() -> RoutingTrace {
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 2, vec![1, 2]));
        for step in 0..3_u32 {
            builder.push_token(TokenRow {
                request: step % 2,
                position: step,
                step,
                phase: if step == 0 { Phase::Prefill } else { Phase::Decode },
                experts: &[0, 3, 1, NO_EXPERT],
                weights: Some(&[0.75, 0.25, 1.0, 0.0]),
            });
        }
        builder.finish("test").unwrap()
    }

    fn counts() -> RoutingTrace {
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 2, 1, vec![0]));
        builder.push_counts(&[5, 0]);
        builder.push_counts(&[1, 4]);
        builder.finish("test").unwrap()
    }

    fn bytes_of(trace: &RoutingTrace) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(trace, "memory", &mut bytes).unwrap();
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, Result<RoutingTrace>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let result = read(&path);
        (folder, path, result)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for trace in [tokens(), counts()] {
            let (_folder, _, result) = read_bytes(&bytes_of(&trace));
            assert_eq!(result.unwrap(), trace);
        }
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_is_more_than_an_error() {
        for trace in [tokens(), counts()] {
            let bytes = bytes_of(&trace);
            for length in 0..bytes.len() {
                assert!(read_bytes(&bytes[..length]).2.is_err(), "prefix of {length} bytes");
            }
            for position in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[position] ^= 0x55;
                let _ = read_bytes(&damaged).2;
            }
        }
    }

    #[test]
    fn a_foreign_safetensors_file_is_named_as_such() {
        let foreign = b"\x08\0\0\0\0\0\0\0{}      ";
        let error = read_bytes(foreign).2.unwrap_err().to_string();
        assert!(error.contains("safetensors without key `moecast.trace`"), "{error}");
    }

    #[test]
    fn a_newer_version_is_told_before_anything_else() {
        let text = String::from_utf8_lossy(&bytes_of(&counts())[8..]).into_owned();
        let newer = text.replace("\\\"version\\\":1", "\\\"version\\\":2");
        assert_ne!(text, newer);
        let mut bytes = bytes_of(&counts())[..8].to_vec();
        bytes.extend(newer.into_bytes());
        let error = read_bytes(&bytes).2.unwrap_err().to_string();
        assert!(error.ends_with("header key `version`: 2; expected 1; a newer moecast reads it"));
    }
}

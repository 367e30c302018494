//! Reads the arrays that vLLM returns where `enable_return_routed_experts` is set
//! (`CompletionOutput.routed_experts`, written against vLLM 0.13), as saved with `numpy.save`
//! (`.npy`, one request) or `numpy.savez` and `savez_compressed` (`.npz`, one request an entry,
//! in the order of names): integers `[tokens, layers, k]`, logical ids. The last token of a
//! response is not computed, so it has no row. vLLM fills a row for every hidden layer; arrays of
//! the MoE layers alone are read too.
//!
//! The length of the prompt, the batches and the gate weights are not in the array: the tokens of
//! a request are one step of prefill, and a remark says so.
//! Refused: other element types (Python objects: never unpickled), Fortran order, big-endian
//! numbers, other dimensions, ids out of range or twice in a cell, bytes that are not the array's,
//! entries that together claim more than 256 times their file (and more than 16 MiB). One token is
//! held at a time, and the directory of an archive.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::npy::{Array, MAGIC, Source};
use super::routed::Requests;
use super::text::short;
use super::{Entry, Input, Metered, Progress, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "vllm-routed-experts",
    about: "vLLM routed_experts saved as .npy or .npz: [tokens, layers, k] ids, one a request",
    extensions: &["npy", "npz"],
    recognise,
    read,
};

/// What the entries of an archive may hold together, per byte of the archive. Deflate reaches
/// 1032; 8 ids as 32-bit integers, of which one changes from token to token, reach about 100.
const EXPANSION_MAX: u64 = 256;

/// What they may always hold.
const EXPANDED_BYTES_FREE: u64 = 16 << 20;

/// Length of the fixed part of a zip's first header, and where in it the length of the name is.
const ZIP_NAME_AT: usize = 30;
const ZIP_NAME_LENGTH_AT: usize = 26;

fn recognise(_: &Path, head: &[u8]) -> bool {
    head.starts_with(MAGIC) || first_entry(head).is_some_and(|name| name.ends_with(b".npy"))
}

/// Name of the first entry of a zip.
fn first_entry(head: &[u8]) -> Option<&[u8]> {
    let length = head.get(ZIP_NAME_LENGTH_AT..)?.first_chunk()?;
    let end = ZIP_NAME_AT + usize::from(u16::from_le_bytes(*length));
    head.starts_with(b"PK\x03\x04").then(|| head.get(ZIP_NAME_AT..end))?
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut requests = Requests::new(ENTRY.name, input);
    for path in input.paths {
        let name = shown(path);
        let (file, bytes) = Metered::open(path, &progress)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let start = reader.fill_buf().map_err(|error| Error::io(path, error))?;
        if start.starts_with(b"PK\x03\x04") {
            read_archive(&name, reader, bytes, &mut requests)?;
        } else {
            let source = Source { path: &name, part: None };
            read_array(source, &mut reader, bytes, &mut requests)?;
        }
    }
    requests.finish()
}

/// One array of `bytes` bytes.
fn read_array(
    source: Source<'_>,
    reader: &mut impl Read,
    bytes: u64,
    requests: &mut Requests<'_>,
) -> Result<()> {
    let array = Array::open(source, reader)?;
    if array.total_bytes != bytes {
        let found = format!("{} bytes behind the header", bytes.saturating_sub(array.header_bytes));
        let expected =
            format!("{} for shape {:?}", array.total_bytes - array.header_bytes, array.shape);
        return Err(source.invalid("data", found, expected));
    }
    requests.open(source, array.shape, None)?;
    array.each_token(source, reader, |ids| requests.token(source, ids))
}

fn read_archive(
    path: &str,
    reader: BufReader<Metered<'_>>,
    bytes: u64,
    requests: &mut Requests<'_>,
) -> Result<()> {
    let damaged = |place: &str, error: zip::result::ZipError| {
        Error::invalid(path, place, error.to_string(), "a whole archive of numpy.savez")
    };
    let mut zip = ZipArchive::new(reader).map_err(|error| damaged("zip", error))?;
    if zip.has_duplicate_names() {
        return Err(Error::invalid(path, "zip", "two entries of one name", "distinct names"));
    }
    let names = zip.file_names().map(|name| name.map(Cow::into_owned));
    let mut names =
        names.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| damaged("zip", error))?;
    names.sort();
    let allowed = bytes.saturating_mul(EXPANSION_MAX).max(EXPANDED_BYTES_FREE);
    let mut claimed: u64 = 0;
    for name in &names {
        let part = format!("entry `{}`", short(name));
        let source = Source { path, part: Some(&part) };
        let mut file = zip
            .by_name(name)
            .map_err(|error| source.invalid("zip", error.to_string(), "a whole archive"))?;
        if !name.ends_with(".npy") {
            return Err(source.invalid("name", "no array", "a name that ends in .npy"));
        }
        claimed = claimed.saturating_add(file.size());
        if claimed > allowed {
            let found = format!("{claimed} bytes up to here in a file of {bytes}");
            return Err(source.invalid("size", found, format!("{allowed} at most")));
        }
        let size = file.size();
        read_array(source, &mut file, size, requests)?;
        // Reading on to the end compares the checksum, and nothing may be there.
        match file.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(source.invalid("data", "more bytes than declared", "none")),
            Err(error) => return Err(source.unreadable(&error, "data")),
        }
    }
    Ok(())
}

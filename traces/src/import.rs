//! Importers: one file per foreign format, one line in [`ALL`].

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use moecast_profiles::model::ModelShape;
use moecast_profiles::registry::find;

use self::shape::EXPERT_MAX;
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::spill::Spill;
use crate::trace::RoutingTrace;

mod base64;
mod counts_csv;
mod digest;
mod gguf_imatrix;
mod json_values;
mod jsonl_layers;
pub(crate) mod npy;
mod route_trace_csv;
mod routed;
mod sglang_per_pass;
mod sglang_per_token;
mod sglang_routed_experts;
mod sglang_stat;
mod shape;
mod sorter;
mod steps;
mod text;
mod torch;
mod trtllm_statistics;
mod vllm_routed_experts;
mod whole;

pub use digest::digest_file;

#[cfg(test)]
mod tests;

/// What an importer is given.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Files of one recording: several ranks or requests, in the order given.
    pub paths: &'a [PathBuf],
    /// The model, where the user named one: tells dense layers and top-k where the file does not.
    pub model: Option<&'a ModelShape>,
    /// Told the number of bytes read so far.
    pub progress: &'a dyn Fn(u64),
    /// Where to spill a recording that memory should not hold; without it all is held.
    pub spill: Option<&'a Spill>,
}

impl Input<'_> {
    /// A builder that spills as asked.
    fn builder(&self, mut header: Header) -> TraceBuilder {
        header.zero_experts = self.model.map_or(0, |model| model.zero_experts);
        TraceBuilder::spilling(header, self.spill)
    }

    /// The largest id that the model's router knows, of all that fit without a model.
    fn id_last(&self) -> u16 {
        self.model.map_or(EXPERT_MAX, |model| {
            model.experts.saturating_add(model.zero_experts).saturating_sub(1).min(EXPERT_MAX)
        })
    }
}

/// A foreign format.
pub struct Entry {
    /// Name as typed after `--format`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Endings of the files that are read where a folder is given.
    pub extensions: &'static [&'static str],
    /// Whether a file that begins with `.1` and is called `.0` is of this format.
    pub recognise: fn(&Path, &[u8]) -> bool,
    /// Reads the recording; the digests of the files are added by [`read`].
    pub read: fn(Input<'_>) -> Result<TraceBuilder>,
}

moecast_profiles::named!(Entry);

/// Every importer, alphabetical.
pub const ALL: &[Entry] = &[
    counts_csv::ENTRY,
    gguf_imatrix::ENTRY,
    jsonl_layers::ENTRY,
    route_trace_csv::ENTRY,
    sglang_per_pass::ENTRY,
    sglang_per_token::ENTRY,
    sglang_routed_experts::ENTRY,
    sglang_stat::ENTRY,
    trtllm_statistics::ENTRY,
    vllm_routed_experts::ENTRY,
];

/// How much of a file [`Entry::recognise`] sees.
const HEAD_BYTES: u64 = 64 * 1024;

/// Reads a recording with the importer called `format`, or with the first that recognises the
/// first file where `format` is `auto`. The header gets the digests of all inputs.
///
/// A folder among the paths stands for all its files with an ending of that format, sorted by
/// name; folders inside it are not entered.
///
/// # Errors
/// When no importer fits, or the importer refuses the file.
pub fn read(format: &str, input: Input<'_>) -> Result<RoutingTrace> {
    let (builder, path) = read_rows(format, input)?;
    builder.finish(&path)
}

/// As [`read`], for a trace that is written and not looked at: with [`Input::spill`] it takes
/// little memory, however large the recording is.
///
/// # Errors
/// As [`read`].
pub fn build(format: &str, input: Input<'_>) -> Result<TraceBuilder> {
    let (mut builder, path) = read_rows(format, input)?;
    builder.check(&path)?;
    Ok(builder)
}

/// All rows, and the path that errors name.
fn read_rows(format: &str, input: Input<'_>) -> Result<(TraceBuilder, String)> {
    let entry = match format {
        "auto" => recognise(input.paths)?,
        name => find("importer", ALL, name)?,
    };
    let paths = expand(input.paths, entry.extensions)?;
    let others = others(input.paths, &paths)?;
    let input = Input { paths: &paths, ..input };
    let (mut builder, digests) = digest::alongside(&paths, || (entry.read)(input))?;
    builder.header_mut().inputs = digests;
    if !others.is_empty() {
        let remark = format!("left out, being no {}: {}", entry.name, others.join(", "));
        builder.header_mut().remarks.push(remark);
    }
    Ok((builder, shown(&paths[0])))
}

/// The first importer that recognises the first file that any of them recognises.
fn recognise(paths: &[PathBuf]) -> Result<&'static Entry> {
    let mut extensions: Vec<&str> =
        ALL.iter().flat_map(|entry| entry.extensions).copied().collect();
    extensions.sort_unstable();
    let paths = expand(paths, &extensions)?;
    for path in &paths {
        let mut head = Vec::new();
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        file.take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| Error::io(path, error))?;
        if crate::format::recognise(&head) {
            let expected = "a foreign recording: this one needs no import";
            return Err(Error::invalid(
                shown(path),
                "start of the file",
                "a moecast trace",
                expected,
            ));
        }
        if let Some(entry) = ALL.iter().find(|entry| (entry.recognise)(path, &head)) {
            return Ok(entry);
        }
    }
    let valid: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
    Err(Error::Unrecognised { path: shown(&paths[0]), valid: valid.join(", ") })
}

/// Whether `needle` occurs in `head`.
fn contains(head: &[u8], needle: &[u8]) -> bool {
    head.windows(needle.len()).any(|window| window == needle)
}

/// `paths` with every folder replaced by its files that have one of `extensions`.
fn expand(paths: &[PathBuf], extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        files.extend(files_in(path)?.into_iter().filter(|file| {
            let ending = file.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| extensions.contains(&ending))
        }));
        if files.len() == before {
            let mut endings = extensions.to_vec();
            endings.sort_unstable();
            endings.dedup();
            let expected = format!("files that end in .{}", endings.join(", ."));
            return Err(Error::invalid(shown(path), "folder", "no recording", expected));
        }
    }
    if files.is_empty() {
        return Err(Error::invalid("input", "list of files", "no file", "at least one file"));
    }
    Ok(files)
}

/// The files of `folder`, sorted, without folders inside it.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for found in std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let file = found.map_err(|error| Error::io(folder, error))?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Names of the files in folders among `paths` that are none of `files`, sorted.
fn others(paths: &[PathBuf], files: &[PathBuf]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in paths.iter().filter(|path| path.is_dir()) {
        let left = files_in(path)?.into_iter().filter(|file| !files.contains(file));
        names.extend(left.map(|file| file_name(&file)).filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

/// A path as errors name it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A path without its folder, as remarks name it: a trace is the same wherever it was made.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Bytes read so far; tells the user every mebibyte.
struct Progress<'a> {
    tell: &'a dyn Fn(u64),
    read: Cell<u64>,
    told: Cell<u64>,
}

impl<'a> Progress<'a> {
    fn new(input: &Input<'a>) -> Self {
        Self { tell: input.progress, read: Cell::new(0), told: Cell::new(0) }
    }

    fn add(&self, bytes: u64) {
        self.read.set(self.read.get() + bytes);
        if self.read.get() - self.told.get() >= 1 << 20 {
            self.told.set(self.read.get());
            (self.tell)(self.read.get());
        }
    }

    /// Starts again, for an importer that must read its input a second time.
    fn restart(&self) {
        self.read.set(0);
        self.told.set(0);
    }
}

/// A file whose bytes are told as they are read; those that are read twice count once.
struct Metered<'a> {
    file: File,
    left: u64,
    progress: &'a Progress<'a>,
}

impl<'a> Metered<'a> {
    /// The file at `path` and its size.
    fn open(path: &Path, progress: &'a Progress<'a>) -> Result<(Self, u64)> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let bytes = file.metadata().map_err(|error| Error::io(path, error))?.len();
        Ok((Self { file, left: bytes, progress }, bytes))
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(into)?;
        let new = self.left.min(count as u64);
        self.left -= new;
        self.progress.add(new);
        Ok(count)
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        (self.tell)(self.read.get());
    }
}

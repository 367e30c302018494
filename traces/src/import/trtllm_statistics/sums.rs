//! Adds the counts of all ranks, tensor by tensor, and pushes each pass as it is complete.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use safetensors::tensor::Dtype;

use super::super::Progress;
use super::names;
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

/// A tensor as it is sorted: pass, layer, file, where its bytes begin and how wide an element is.
pub(super) type Sortable = [u64; 5];

/// The element types, in the order of their numbers in a [`Sortable`].
pub(super) const INTEGERS: [Dtype; 8] =
    [Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::U32, Dtype::I32, Dtype::U64, Dtype::I64];

/// Adds tensors, which come in order, pass by pass.
pub(super) struct Sums<'a> {
    files: Vec<(File, String)>,
    pub(super) header: Header,
    progress: &'a Progress<'a>,
    /// `[M, E]` sums of this pass.
    pub(super) table: Vec<u32>,
    bytes: Vec<u8>,
    /// The tensor that was looked at last.
    last: Option<Sortable>,
    /// Pass and layer that are being added, and the ranks that recorded them.
    pair: Option<[u64; 2]>,
    ranks: usize,
    pub(super) passes: u64,
    /// (pass, layer) pairs that any rank recorded, and those that only some did.
    pub(super) pairs: u64,
    pub(super) fewer: u64,
}

impl<'a> Sums<'a> {
    pub(super) fn new(
        files: Vec<(File, String)>,
        header: Header,
        progress: &'a Progress<'a>,
    ) -> Self {
        let table = vec![0; header.moe_layers() * usize::from(header.experts)];
        let (bytes, last, pair, ranks) = (Vec::new(), None, None, 0);
        let [passes, pairs, fewer] = [0; 3];
        Self { files, header, progress, table, bytes, last, pair, ranks, passes, pairs, fewer }
    }

    /// Adds one tensor to the table of its pass, and pushes the table of the pass before.
    pub(super) fn add(&mut self, tensor: &Sortable, builder: &mut TraceBuilder) -> Result<()> {
        let [pass, layer, file, start, kind] = *tensor;
        let name = format!("{pass}_{layer}");
        if self.last.replace(*tensor).is_some_and(|last| last[..3] == tensor[..3]) {
            return Err(names::twice(&self.files[file as usize].1, &name));
        }
        let ordinal = self.header.layers.partition_point(|&other| u64::from(other) < layer);
        if self.header.layers.get(ordinal).is_none_or(|&other| u64::from(other) != layer) {
            return Ok(());
        }
        if self.pair != Some([pass, layer]) {
            self.end_pair();
            if self.pair.is_none_or(|before| before[0] != pass) {
                if self.passes > 0 {
                    builder.push_counts(&self.table);
                    self.table.fill(0);
                }
                self.passes += 1;
            }
            self.pairs += 1;
            self.pair = Some([pass, layer]);
        }
        self.ranks += 1;
        let (file, path) = &mut self.files[file as usize];
        let kind = INTEGERS[kind as usize];
        let experts = usize::from(self.header.experts);
        self.bytes.resize(experts * kind.bitsize() / 8, 0);
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut self.bytes))
            .map_err(|error| Error::io(&*path, error))?;
        self.progress.add(self.bytes.len() as u64);
        let sums = &mut self.table[ordinal * experts..(ordinal + 1) * experts];
        add(kind, &self.bytes, sums).map_err(|(expert, found)| {
            let place = format!("tensor `{name}`, expert {expert}");
            Error::invalid(&*path, place, found, "a sum from 0 to 4294967295")
        })
    }

    /// All ranks that recorded a pass and layer were added.
    pub(super) fn end_pair(&mut self) {
        self.fewer += u64::from((1..self.files.len()).contains(&self.ranks));
        self.ranks = 0;
    }
}

/// The expert whose sum is no count, and what was added.
type Fault = (usize, String);

fn add(kind: Dtype, bytes: &[u8], sums: &mut [u32]) -> std::result::Result<(), Fault> {
    match kind {
        Dtype::U8 => add_all(bytes, sums, |b: [u8; 1]| u8::from_le_bytes(b).into()),
        Dtype::I8 => add_all(bytes, sums, |b| i8::from_le_bytes(b).into()),
        Dtype::I16 => add_all(bytes, sums, |b| i16::from_le_bytes(b).into()),
        Dtype::U16 => add_all(bytes, sums, |b| u16::from_le_bytes(b).into()),
        Dtype::I32 => add_all(bytes, sums, |b| i32::from_le_bytes(b).into()),
        Dtype::U32 => add_all(bytes, sums, |b| u32::from_le_bytes(b).into()),
        Dtype::I64 => add_all(bytes, sums, |b| i64::from_le_bytes(b).into()),
        _ => add_all(bytes, sums, |b| u64::from_le_bytes(b).into()),
    }
}

fn add_all<const N: usize>(
    bytes: &[u8],
    sums: &mut [u32],
    parse: impl Fn([u8; N]) -> i128,
) -> std::result::Result<(), Fault> {
    let (elements, _) = bytes.as_chunks::<N>();
    for (expert, (&element, sum)) in elements.iter().zip(sums).enumerate() {
        let value = parse(element);
        let added = u32::try_from(value).ok().and_then(|value| sum.checked_add(value));
        *sum = added.ok_or_else(|| match *sum {
            0 => (expert, value.to_string()),
            before => (expert, format!("{before} + {value}")),
        })?;
    }
    Ok(())
}

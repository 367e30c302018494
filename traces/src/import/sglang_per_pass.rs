//! Reads what SGLang's expert distribution recorder dumps in mode `per_pass`
//! (`expert_distribution_recorder_{time}_{rank}.pt`, written against
//! `srt/eplb/expert_distribution.py` of SGLang 0.5): `{"records": [{"forward_pass_id", "rank",
//! "gatherer_key", "global_physical_count": int [L, P]}, ...], "last_physical_to_logical_map":
//! int [L, P]}`, one file a rank.
//!
//! A pass is the sum over ranks and gatherers, as the engine sums in mode `stat`; passes are
//! ordered by id, one step each. Physical experts are mapped back with the map that was in force
//! at the end. The keys of mode `per_token` are left out with a remark.
//! Refused: other keys, a (pass, rank, gatherer) that occurs twice, maps or shapes that differ
//! between files, an expert beyond the model's, negative counts; everything that the restricted
//! reader of `.pt` refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::steps::{Table, collect};
use super::torch::{Archive, Item, Key, Tensor};
use super::{Entry, Input, Progress, contains};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "sglang-per-pass",
    about: "SGLang expert distribution, mode per_pass: one .pt a rank, summed per pass",
    extensions: &["pt"],
    recognise,
    read,
};

const COUNTS: &str = "global_physical_count";
const MAP: &str = "last_physical_to_logical_map";

/// What mode `per_token` adds to a record.
const PER_TOKEN: [&str; 6] = [
    "extend_seq_lens",
    "forward_mode",
    "input_ids",
    "misc_objects",
    "positions",
    "topk_ids_of_layer",
];

fn recognise(_: &Path, head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
        && contains(head, b"forward_pass_id")
        && contains(head, b"gatherer_key")
        && !contains(head, b"input_ids")
}

/// What tells records apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RecordId {
    pass: u64,
    rank: u64,
    gatherer: String,
}

/// Where a record's counts are.
struct Record {
    file: usize,
    tensor: Tensor,
}

/// All files, before any count is read.
#[derive(Default)]
struct Recording {
    records: BTreeMap<RecordId, Record>,
    /// Layers and slots.
    shape: Vec<u64>,
    /// `[L, P]` logical experts.
    map: Vec<u32>,
    per_token: bool,
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut recording = Recording::default();
    let add = |archive: &mut Archive<'_>, file| recording.add_file(archive, file);
    let mut archives = Archive::open_all(input.paths, &progress, add)?;
    let path = super::shown(&input.paths[0]);
    let passes: BTreeSet<u64> = recording.records.keys().map(|id| id.pass).collect();
    recording.check_total(&path, &archives)?;
    let [layers, slots, experts] = recording.sizes(&path, &input)?;
    let table = Table {
        importer: ENTRY.name,
        input,
        path: &path,
        tensor: COUNTS,
        shape: [passes.len(), layers, experts],
        padded: false,
    };
    let mut physical = vec![0; layers * slots];
    let mut logical = vec![0; layers * experts];
    let mut builder = collect(&table, &mut |visit| {
        progress.restart();
        let mut records = recording.records.iter().peekable();
        while let Some((id, record)) = records.next() {
            let mut counts = archives[record.file].counts(&record.tensor, COUNTS)?;
            counts.add_to(&mut physical)?;
            counts.finish()?;
            if records.peek().is_some_and(|(next, _)| next.pass == id.pass) {
                continue;
            }
            let experts_of = |slot: usize| (slot / slots, recording.map[slot] as usize);
            for (slot, count) in physical.iter_mut().enumerate() {
                let (layer, expert) = experts_of(slot);
                let sum: &mut u32 = &mut logical[layer * experts + expert];
                *sum = sum.checked_add(std::mem::take(count)).ok_or_else(|| {
                    let place = format!("forward pass {}, layer {layer}", id.pass);
                    let found = format!("more than 2^32 tokens for expert {expert}");
                    Error::invalid(&path, place, found, "a count below 2^32")
                })?;
            }
            visit(&logical)?;
            logical.fill(0);
        }
        Ok(())
    })?;
    builder.header_mut().remarks.extend(recording.remarks(experts, slots));
    Ok(builder)
}

impl Recording {
    fn add_file(&mut self, archive: &mut Archive<'_>, file: usize) -> Result<()> {
        let path = archive.path().to_owned();
        let (mut map, mut records) = (None, None);
        for (key, item) in archive.root().dict("root")? {
            match key {
                Key::Text(name) if &**name == MAP => map = Some(item.tensor(MAP)?.clone()),
                Key::Text(name) if &**name == "records" => records = Some(item),
                other => {
                    let expected = format!("the keys records, {MAP}");
                    return Err(Error::invalid(path, "root", other.found(), expected));
                }
            }
        }
        let (Some(map), Some(records)) = (map, records) else {
            let expected = format!("the keys records, {MAP}");
            return Err(Error::invalid(path, "root", "a key is absent", expected));
        };
        for (number, record) in records.list("key `records`")?.enumerate() {
            self.add_record(&path, &format!("record {number}"), record, (file, &map))?;
        }
        let experts = archive.read_counts(&map, MAP)?;
        if file > 0 && (&self.shape, &self.map) != (&map.shape, &experts) {
            let place = format!("tensor `{MAP}`");
            return Err(Error::invalid(path, place, "another map", "that of the first file"));
        }
        (self.shape, self.map) = (map.shape, experts);
        Ok(())
    }

    fn add_record(
        &mut self,
        path: &str,
        place: &str,
        item: Item<'_>,
        (file, map): (usize, &Tensor),
    ) -> Result<()> {
        let (mut pass, mut rank, mut gatherer, mut tensor) = (None, None, None, None);
        for (key, item) in item.dict(place)? {
            let Key::Text(name) = key else {
                return Err(Error::invalid(path, place, key.found(), "string keys"));
            };
            let inner = format!("{place}, key `{name}`");
            match &**name {
                "forward_pass_id" => pass = Some(item.count(&inner)?),
                "rank" => rank = Some(item.count(&inner)?),
                "gatherer_key" => gatherer = Some(item.text(&inner)?.to_owned()),
                COUNTS => tensor = Some(item.tensor(&inner)?),
                name if PER_TOKEN.contains(&name) => self.per_token = true,
                _ => return Err(Error::invalid(path, place, key.found(), "keys of SGLang 0.5")),
            }
        }
        let (Some(pass), Some(rank), Some(gatherer), Some(tensor)) = (pass, rank, gatherer, tensor)
        else {
            let expected = format!("forward_pass_id, rank, gatherer_key, {COUNTS}");
            return Err(Error::invalid(path, place, "a key is absent", expected));
        };
        if tensor.shape != map.shape {
            let expected = format!("{:?} as the map has", map.shape);
            return Err(Error::invalid(path, place, format!("{:?}", tensor.shape), expected));
        }
        let found = format!("pass {pass} of rank {rank}, gatherer `{gatherer}`, a second time");
        let record = Record { file, tensor: tensor.clone() };
        if self.records.insert(RecordId { pass, rank, gatherer }, record).is_some() {
            return Err(Error::invalid(path, place, found, "each pass once per rank"));
        }
        Ok(())
    }

    /// Records that share one storage could claim more than the files hold.
    fn check_total(&self, path: &str, archives: &[Archive<'_>]) -> Result<()> {
        let held: u64 = archives.iter().map(Archive::bytes).sum();
        let bytes = self.records.values().map(|record| record.tensor.bytes());
        let total = bytes.fold(0, u64::saturating_add);
        if total <= held {
            return Ok(());
        }
        let found = format!("{total} bytes of counts in files of {held} bytes");
        Err(Error::invalid(path, "key `records`", found, "one storage for each record"))
    }

    /// Layers, slots and logical experts.
    fn sizes(&self, path: &str, input: &Input<'_>) -> Result<[usize; 3]> {
        let refuse = |found: String, expected: String| {
            Err(Error::invalid(path, format!("tensor `{MAP}`"), found, expected))
        };
        if self.records.is_empty() {
            return Err(Error::invalid(path, "key `records`", "an empty list", "forward passes"));
        }
        let sizes: Vec<usize> =
            self.shape.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
        let &[layers, slots] = sizes.as_slice() else {
            return refuse(format!("shape {:?}", self.shape), "[layers, slots]".to_owned());
        };
        let last = self.map.iter().copied().max().unwrap_or(0) as usize;
        if last >= slots {
            return refuse(format!("expert {last}"), format!("experts below {slots}, the slots"));
        }
        match input.model.map(|model| (model, usize::from(model.experts))) {
            Some((model, experts)) if last >= experts => {
                let expected = format!("an expert of {}: 0 to {}", model.name, experts - 1);
                refuse(format!("expert {last}"), expected)
            }
            Some((model, experts)) if slots < experts => {
                let expected = format!("at least {experts}, the experts of {}", model.name);
                refuse(format!("{slots} slots"), expected)
            }
            Some((_, experts)) => Ok([layers, slots, experts]),
            None => Ok([layers, slots, last + 1]),
        }
    }

    fn remarks(&self, experts: usize, slots: usize) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
        for id in self.records.keys() {
            *sizes.entry(id.pass).or_default() += 1;
        }
        let most = sizes.values().copied().max().unwrap_or(0);
        let fewer = sizes.values().filter(|&&size| size < most).count();
        if fewer > 0 {
            remarks.push(format!("{fewer} passes have fewer records than the {most} of others"));
        }
        let identity =
            self.map.iter().enumerate().all(|(at, &expert)| expert as usize == at % slots);
        if !identity || slots != experts {
            remarks.push(format!(
                "counts of {slots} slots were mapped to {experts} experts with the map in force \
                 at the end of the recording; passes before a rebalance are misattributed"
            ));
        }
        if self.per_token {
            remarks.push("keys of mode per_token are not kept: counts only".to_owned());
        }
        remarks
    }
}

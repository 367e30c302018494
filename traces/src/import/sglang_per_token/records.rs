//! The structure of the files: records, their batches and the map, before any id is read.

use std::collections::BTreeMap;

use moecast_profiles::model::ModelShape;

use super::super::shape::EXPERT_MAX;
use super::super::torch::{Archive, Item, Key, Tensor};
use super::IDS;
use super::identity::Sequence;
use crate::error::{Error, Result};

const MAP: &str = "last_physical_to_logical_map";

/// `ForwardMode` of SGLang 0.5; the others belong to speculative decoding and the like.
const EXTEND: u64 = 1;
const DECODE: u64 = 2;
const MIXED: u64 = 3;
const IDLE: u64 = 4;

/// Most layers, and most ids per token and layer.
const LAYERS_MAX: usize = 4096;
const IDS_MAX: usize = 512;

/// Most ids of one record: 130,000 tokens of 61 layers with 8 experts.
const RECORD_IDS_MAX: u64 = 1 << 26;

/// What tells records apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordId {
    pub(super) pass: u64,
    pub(super) rank: u64,
    gatherer: String,
}

/// One rank's batch in one pass.
pub(super) struct Record {
    pub(super) file: usize,
    /// What errors call it.
    pub(super) place: String,
    pub(super) inputs: Vec<u64>,
    pub(super) positions: Vec<u32>,
    /// Tokens of each sequence where the pass extends prompts.
    lengths: Option<Vec<u64>>,
    mode: u64,
    pub(super) tensor: Tensor,
    /// Layers, tokens, ids per token and layer.
    pub(super) shape: [usize; 3],
}

impl Record {
    /// Tokens that belong to a sequence; the engine may pad a batch behind them.
    pub(super) fn tokens(&self) -> usize {
        let Some(lengths) = &self.lengths else { return self.positions.len() };
        let sum = lengths.iter().copied().fold(0, u64::saturating_add);
        usize::try_from(sum).map_or(self.positions.len(), |sum| sum.min(self.positions.len()))
    }

    pub(super) fn decodes_only(&self) -> bool {
        self.mode == DECODE
    }

    /// The sequences of the batch, in order.
    pub(super) fn sequences(&self, path: &str) -> Result<Vec<Sequence>> {
        let Some(lengths) = &self.lengths else {
            let one = |&start| Sequence { start, length: 1, decode: true };
            return Ok(self.positions.iter().map(one).collect());
        };
        let mut sequences = Vec::new();
        let mut rest = self.positions.as_slice();
        for (number, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let taken =
                usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let Some((positions, behind)) = taken else {
                let place = format!("{}, key `extend_seq_lens`", self.place);
                let found = format!("{length} tokens in sequence {number}, {} left", rest.len());
                return Err(Error::invalid(path, place, found, "no more tokens than the batch"));
            };
            rest = behind;
            let start = positions[0];
            let follow = positions.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
            if !follow {
                let place = format!("{}, key `positions`", self.place);
                let found = format!("gaps in sequence {number}, which begins at {start}");
                return Err(Error::invalid(path, place, found, "positions that grow by 1"));
            }
            let decode = self.mode == MIXED && length == 1 && start > 0;
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            sequences.push(Sequence { start, length, decode });
        }
        Ok(sequences)
    }
}

/// All files, before any id is read.
#[derive(Default)]
pub(super) struct Recording {
    pub(super) records: BTreeMap<RecordId, Record>,
    /// Layers and slots.
    pub(super) shape: [usize; 2],
    /// `[L, P]` logical experts.
    pub(super) map: Vec<u16>,
}

impl Recording {
    pub(super) fn add_file(&mut self, archive: &mut Archive<'_>, file: usize) -> Result<()> {
        let path = archive.path().to_owned();
        let expected = format!("the keys records, {MAP}");
        let (mut map, mut records) = (None, None);
        for (key, item) in archive.root().dict("root")? {
            match key {
                Key::Text(name) if &**name == MAP => map = Some(item.tensor(MAP)?.clone()),
                Key::Text(name) if &**name == "records" => records = Some(item),
                other => return Err(Error::invalid(path, "root", other.found(), expected)),
            }
        }
        let (Some(map), Some(records)) = (map, records) else {
            return Err(Error::invalid(path, "root", "a key is absent", expected));
        };
        let shape = sizes(&map);
        let &[layers @ 1..=LAYERS_MAX, slots @ 1..=usize::MAX] = shape.as_slice() else {
            let found = format!("shape {:?}", map.shape);
            let place = format!("tensor `{MAP}`");
            let expected = format!("[layers, slots] with 1 to {LAYERS_MAX} layers");
            return Err(Error::invalid(path, place, found, expected));
        };
        let mut claimed: u64 = 0;
        for (number, item) in records.list("key `records`")?.enumerate() {
            let (id, record) = record(&path, format!("record {number}"), item, (file, layers))?;
            let RecordId { pass, rank, gatherer } = &id;
            let found = format!("pass {pass} of rank {rank}, gatherer `{gatherer}`, a second time");
            let place = record.place.clone();
            claimed = claimed.saturating_add(record.tensor.bytes());
            if claimed > archive.bytes() {
                let found = format!("{claimed} bytes of ids in a file of {}", archive.bytes());
                let expected = "one storage for each record";
                return Err(Error::invalid(path, place, found, expected));
            }
            if self.records.insert(id, record).is_some() {
                return Err(Error::invalid(path, place, found, "each pass once per rank"));
            }
        }
        let experts = self.read_map(archive, &map, slots)?;
        if file > 0 && (self.shape, &self.map) != ([layers, slots], &experts) {
            let place = format!("tensor `{MAP}`");
            return Err(Error::invalid(path, place, "another map", "that of the first file"));
        }
        (self.shape, self.map) = ([layers, slots], experts);
        Ok(())
    }

    fn read_map(&self, archive: &mut Archive<'_>, map: &Tensor, slots: usize) -> Result<Vec<u16>> {
        let last = slots.saturating_sub(1).min(usize::from(EXPERT_MAX));
        let experts = archive.read_ids(map, MAP)?;
        let wrong = experts.iter().find(|&&expert| !(0..=last as i64).contains(&expert));
        match wrong {
            None => Ok(experts.iter().filter_map(|&expert| expert.try_into().ok()).collect()),
            Some(expert) => {
                let place = format!("tensor `{MAP}`");
                let expected = format!("experts from 0 to {last}");
                Err(Error::invalid(archive.path(), place, format!("expert {expert}"), expected))
            }
        }
    }

    /// Logical experts: those of the model, or of the map.
    pub(super) fn experts(&self, path: &str, model: Option<&ModelShape>) -> Result<u16> {
        let last = self.map.iter().copied().max().unwrap_or(0);
        match model {
            Some(model) if last >= model.experts || self.shape[1] < model.experts.into() => {
                let found = format!("experts to {last} in {} slots", self.shape[1]);
                let expected = format!("the {} experts of {}", model.experts, model.name);
                Err(Error::invalid(path, format!("tensor `{MAP}`"), found, expected))
            }
            Some(model) => Ok(model.experts),
            None => Ok(last + 1),
        }
    }

    /// Whether slot `s` holds expert `s` in every layer.
    pub(super) fn is_identity(&self) -> bool {
        let slots = self.shape[1].max(1);
        self.map.iter().enumerate().all(|(at, &expert)| usize::from(expert) == at % slots)
    }
}

fn sizes(tensor: &Tensor) -> Vec<usize> {
    tensor.shape.iter().filter_map(|&size| usize::try_from(size).ok()).collect()
}

/// The values of a record's keys, before they are compared with each other.
#[derive(Default)]
struct Keys<'a> {
    pass: Option<u64>,
    rank: Option<u64>,
    gatherer: Option<String>,
    mode: Option<u64>,
    inputs: Option<Item<'a>>,
    positions: Option<Item<'a>>,
    lengths: Option<Item<'a>>,
    tensor: Option<&'a Tensor>,
}

fn keys<'a>(path: &str, place: &str, item: Item<'a>) -> Result<Keys<'a>> {
    let mut keys = Keys::default();
    for (key, item) in item.dict(place)? {
        let Key::Text(name) = key else {
            return Err(Error::invalid(path, place, key.found(), "string keys"));
        };
        let inner = format!("{place}, key `{name}`");
        match &**name {
            "forward_pass_id" => keys.pass = Some(item.count(&inner)?),
            "rank" => keys.rank = Some(item.count(&inner)?),
            "gatherer_key" => keys.gatherer = Some(item.text(&inner)?.to_owned()),
            "forward_mode" => keys.mode = Some(item.count(&inner)?),
            "input_ids" => keys.inputs = Some(item),
            "positions" => keys.positions = Some(item),
            "extend_seq_lens" => keys.lengths = Some(item).filter(|item| !item.is_none()),
            IDS => keys.tensor = Some(item.tensor(&inner)?),
            "global_physical_count" | "misc_objects" => {}
            _ => return Err(Error::invalid(path, place, key.found(), "keys of SGLang 0.5")),
        }
    }
    Ok(keys)
}

fn record(
    path: &str,
    place: String,
    item: Item<'_>,
    (file, layers): (usize, usize),
) -> Result<(RecordId, Record)> {
    let keys = keys(path, &place, item)?;
    let invalid =
        |found: String, expected: &str| Err(Error::invalid(path, &place, found, expected));
    let (Some(pass), Some(rank), Some(gatherer), Some(mode)) =
        (keys.pass, keys.rank, keys.gatherer, keys.mode)
    else {
        let names = "forward_pass_id, rank, gatherer_key, forward_mode";
        return invalid("a key is absent".to_owned(), names);
    };
    let (Some(inputs), Some(positions), Some(tensor)) = (keys.inputs, keys.positions, keys.tensor)
    else {
        return invalid("a key is absent".to_owned(), "input_ids, positions, topk_ids_of_layer");
    };
    if ![EXTEND, DECODE, MIXED, IDLE].contains(&mode) {
        let expected = "1 (extend), 2 (decode), 3 (mixed) or 4 (idle)";
        return invalid(format!("forward_mode {mode}"), expected);
    }
    let shape = match *sizes(tensor).as_slice() {
        [found, tokens, ids @ 1..=IDS_MAX] if found == layers => [layers, tokens, ids],
        _ => {
            let expected = format!("[{layers}, tokens, 8], the layers being those of the map");
            return invalid(format!("shape {:?}", tensor.shape), &expected);
        }
    };
    if tensor.elements() > RECORD_IDS_MAX {
        let found = format!("{} ids", tensor.elements());
        return invalid(found, &format!("{RECORD_IDS_MAX} in one record at most"));
    }
    let tokens = shape[1];
    let integers = |item, name: &str| integers(item, &format!("{place}, key `{name}`"), tokens);
    let inputs = integers(inputs, "input_ids")?;
    let positions: Vec<u32> =
        integers(positions, "positions")?.iter().filter_map(|&at| at.try_into().ok()).collect();
    if (inputs.len(), positions.len()) != (tokens, tokens) {
        let found = format!("{} input_ids, {} positions", inputs.len(), positions.len());
        return invalid(found, &format!("{tokens} of both, the tokens of topk_ids_of_layer"));
    }
    let lengths = keys.lengths.map(|item| integers(item, "extend_seq_lens")).transpose()?;
    if lengths.is_none() == [EXTEND, MIXED].contains(&mode) && tokens > 0 {
        let found = format!("forward_mode {mode}");
        return invalid(found, "extend_seq_lens where prompts are extended, and only there");
    }
    let tensor = tensor.clone();
    let record = Record { file, place, inputs, positions, lengths, mode, tensor, shape };
    Ok((RecordId { pass, rank, gatherer }, record))
}

/// A list of ints, of which one more than `most` are read at most: a list may be shared by any
/// number of records.
fn integers(item: Item<'_>, place: &str, most: usize) -> Result<Vec<u64>> {
    item.list(place)?.take(most.saturating_add(1)).map(|item| item.count(place)).collect()
}

//! Reads what SGLang's expert distribution recorder dumps in mode `per_token` (written against
//! `srt/eplb/expert_distribution.py` of SGLang 0.5): the files of mode `per_pass`, one a rank,
//! whose records also hold `input_ids`, `positions`, `extend_seq_lens`, `forward_mode` and
//! `topk_ids_of_layer` `[L, tokens, 8]`: slots, -1 where unset.
//!
//! A pass is one step with the tokens of all ranks; gate weights are not recorded. Slots are
//! mapped back to experts with the map in force at the end. The recorder does not tell requests:
//! they are derived from ranks, positions and `extend_seq_lens` by the rules of `identity.rs`, and
//! what they leave open is counted. Tensor-parallel ranks record the same tokens: a record whose
//! tokens and experts equal those of another rank in the pass is left out and counted.
//! Refused: other keys, other forward modes than extend, decode, mixed and idle, a record twice,
//! maps or shapes that differ, slots out of range, one expert twice in a cell (the map changed
//! during the recording), tokens in a dense layer of the model, records of more than 2^26 ids. One
//! record is held at a time: its layers lie one after the other, and a trace wants its tokens so.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use self::identity::{Requests, Sequence};
use self::records::{Record, Recording};
use super::shape::{model_name, span};
use super::torch::Archive;
use super::{Entry, Input, Progress, contains, shown};
use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::trace::{NO_EXPERT, Phase};

mod identity;
mod records;

pub(super) const ENTRY: Entry = Entry {
    name: "sglang-per-token",
    about: "SGLang expert distribution, mode per_token: one .pt a rank, tokens of every pass",
    extensions: &["pt"],
    recognise,
    read,
};

const IDS: &str = "topk_ids_of_layer";

fn recognise(_: &Path, head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
        && contains(head, b"forward_pass_id")
        && contains(head, b"gatherer_key")
        && contains(head, b"input_ids")
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut recording = Recording::default();
    let add = |archive: &mut Archive<'_>, file| recording.add_file(archive, file);
    let mut archives = Archive::open_all(input.paths, &progress, add)?;
    if recording.records.is_empty() {
        let path = shown(&input.paths[0]);
        return Err(Error::invalid(path, "key `records`", "an empty list", "forward passes"));
    }
    let survey = survey(&recording, &mut archives)?;
    let header = header(&input, &recording, &survey)?;
    progress.restart();
    fill(input.builder(header), &recording, &mut archives)
}

/// What is known after all ids were looked at once.
struct Survey {
    /// `[L]` whether the layer holds any id.
    used: Vec<bool>,
    /// Ids of the token that has most in one layer.
    top_k: usize,
}

fn survey(recording: &Recording, archives: &mut [Archive<'_>]) -> Result<Survey> {
    let [layers, slots] = recording.shape;
    let mut survey = Survey { used: vec![false; layers], top_k: 0 };
    for record in recording.records.values() {
        let [_, tokens, columns] = record.shape;
        let archive = &mut archives[record.file];
        let path = archive.path().to_owned();
        let mut cell = 0;
        archive.each_ids(&record.tensor, IDS, columns, |ids| {
            for ids in ids.chunks_exact(columns) {
                let (layer, token) = (cell / tokens, cell % tokens);
                cell += 1;
                if let Some(id) = ids.iter().find(|&&id| id < -1 || id >= slots as i64) {
                    let place = format!("{}, layer {layer}, token {token}", record.place);
                    let expected = format!("-1 to {}, the slots", slots - 1);
                    return Err(Error::invalid(&path, place, format!("slot {id}"), expected));
                }
                let chosen = ids.iter().filter(|&&id| id >= 0).count();
                if chosen > 0 && token < record.tokens() {
                    survey.used[layer] = true;
                    survey.top_k = survey.top_k.max(chosen);
                }
            }
            Ok(())
        })?;
    }
    Ok(survey)
}

fn header(input: &Input<'_>, recording: &Recording, survey: &Survey) -> Result<Header> {
    let path = shown(&input.paths[0]);
    let [layers, slots] = recording.shape;
    let used: Vec<u16> = (0..).zip(&survey.used).filter(|(_, used)| **used).map(|u| u.0).collect();
    let refuse = |found: String, expected: String| {
        Err(Error::invalid(&path, format!("tensor `{IDS}`"), found, expected))
    };
    if used.is_empty() {
        return refuse("no id".to_owned(), "routed tokens".to_owned());
    }
    let experts = recording.experts(&path, input.model)?;
    let top_k = u16::try_from(survey.top_k).unwrap_or(u16::MAX);
    let mut remarks = Vec::new();
    let kept = match input.model {
        Some(model) if usize::from(model.hidden_layers) != layers => {
            let expected = format!("{} layers as {} has", model.hidden_layers, model.name);
            return refuse(format!("{layers} layers"), expected);
        }
        Some(model) => {
            if let Some(layer) = used.iter().find(|&&layer| model.ordinal(layer).is_none()) {
                let layers = span(&model.moe_layers);
                let expected = format!("ids in the MoE layers of {}: {layers}", model.name);
                return refuse(format!("ids in layer {layer}"), expected);
            }
            if model.top_k != top_k {
                let (name, k) = (&model.name, model.top_k);
                remarks.push(format!("top-k is {top_k} as recorded; {name} has {k}"));
            }
            model.moe_layers.clone()
        }
        None => {
            let dense: Vec<u16> =
                (0..).zip(&survey.used).filter(|(_, used)| !**used).map(|u| u.0).collect();
            if !dense.is_empty() {
                let dense = span(&dense);
                remarks.push(format!(
                    "layers without a token are taken for dense and left out: {dense}"
                ));
            }
            remarks.push(format!("no model was named: experts are the {experts} of the map"));
            used
        }
    };
    if !recording.is_identity() || slots != usize::from(experts) {
        remarks.push(format!(
            "ids of {slots} slots were mapped to {experts} experts with the map in force at the \
             end of the recording; passes before a rebalance are misattributed"
        ));
    }
    let mut header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, kept);
    header.remarks = remarks;
    Ok(header)
}

#[derive(Default)]
struct Counts {
    twins: u64,
    padding: u64,
    /// (token, layer) pairs without an expert.
    holes: u64,
}

fn fill(
    mut builder: TraceBuilder,
    recording: &Recording,
    archives: &mut [Archive<'_>],
) -> Result<TraceBuilder> {
    let header = builder.header_mut().clone();
    let width = header.moe_layers() * usize::from(header.top_k);
    let mut requests = Requests::default();
    let mut counts = Counts::default();
    let records: Vec<_> = recording.records.iter().collect();
    let passes = records.chunk_by(|a, b| a.0.pass == b.0.pass);
    for (step, pass) in (0..).zip(passes) {
        let mut before = BTreeSet::new();
        for (id, record) in pass {
            let rows = rows(&header, recording, record, &mut archives[record.file])?;
            if record.tokens() > 0 && pass.len() > 1 && !before.insert(digest(record, &rows)) {
                counts.twins += 1;
                continue;
            }
            counts.padding += (record.positions.len() - record.tokens()) as u64;
            let sequences = record.sequences(archives[record.file].path())?;
            let ids = requests.assign(id.rank, record.decodes_only(), &sequences);
            let each = ids.iter().zip(&sequences).flat_map(|(&request, sequence)| {
                (0..sequence.length).map(move |at| (request, sequence, at))
            });
            for ((request, sequence, at), experts) in each.zip(rows.chunks_exact(width)) {
                let (position, phase) = (sequence.start + at, phase(sequence));
                let row = TokenRow { request, position, step, phase, experts, weights: None };
                builder.push_token(row);
                let cells = experts.chunks_exact(usize::from(header.top_k));
                counts.holes +=
                    cells.filter(|cell| cell.iter().all(|&id| id == NO_EXPERT)).count() as u64;
            }
        }
    }
    let remarks = remarks(&counts, &requests, &records_per_pass(recording));
    builder.header_mut().remarks.extend(remarks);
    Ok(builder)
}

fn phase(sequence: &Sequence) -> Phase {
    if sequence.decode { Phase::Decode } else { Phase::Prefill }
}

/// Number of records of every pass.
fn records_per_pass(recording: &Recording) -> Vec<usize> {
    let ids: Vec<_> = recording.records.keys().collect();
    ids.chunk_by(|a, b| a.pass == b.pass).map(<[_]>::len).collect()
}

/// The experts `[tokens, M, k]` of one record, the unset ids last in every cell.
fn rows(
    header: &Header,
    recording: &Recording,
    record: &Record,
    archive: &mut Archive<'_>,
) -> Result<Vec<u16>> {
    let [_, tokens, columns] = record.shape;
    let [layers, slots] = recording.shape;
    let k = usize::from(header.top_k);
    let ordinals: Vec<Option<usize>> = (0..layers)
        .map(|layer| header.layers.iter().position(|&kept| usize::from(kept) == layer))
        .collect();
    let mut rows = vec![NO_EXPERT; record.tokens() * header.moe_layers() * k];
    let path = archive.path().to_owned();
    let mut cell = 0;
    archive.each_ids(&record.tensor, IDS, columns, |ids| {
        for ids in ids.chunks_exact(columns) {
            let (layer, token) = (cell / tokens, cell % tokens);
            cell += 1;
            let Some(ordinal) = ordinals[layer].filter(|_| token < record.tokens()) else {
                continue;
            };
            let start = (token * header.moe_layers() + ordinal) * k;
            let into = &mut rows[start..start + k];
            let chosen = ids.iter().filter_map(|&id| usize::try_from(id).ok());
            for (at, slot) in chosen.enumerate() {
                let expert = recording.map[layer * slots + slot];
                if into[..at].contains(&expert) {
                    let place = format!("{}, layer {layer}, token {token}", record.place);
                    let found = format!("expert {expert} twice");
                    let expected =
                        "distinct experts: was the recording stopped before a rebalance?";
                    return Err(Error::invalid(&path, place, found, expected));
                }
                into[at] = expert;
            }
        }
        Ok(())
    })?;
    Ok(rows)
}

/// What tells the tokens of one record from those of another: their digest is kept, because the
/// records of all ranks of a pass together may be large.
fn digest(record: &Record, rows: &[u16]) -> [u8; 32] {
    let tokens = record.tokens();
    let hash = Sha256::new()
        .chain_update(bytemuck::cast_slice::<u64, u8>(&record.inputs[..tokens]))
        .chain_update(bytemuck::cast_slice::<u32, u8>(&record.positions[..tokens]))
        .chain_update(bytemuck::cast_slice::<u16, u8>(rows));
    hash.finalize().into()
}

fn remarks(counts: &Counts, requests: &Requests, passes: &[usize]) -> Vec<String> {
    let mut remarks = vec![
        "requests are not recorded: they are derived from ranks, batches and positions".to_owned(),
    ];
    let mut counted = |count: u64, text: &str| {
        if count > 0 {
            remarks.push(format!("{count} {text}"));
        }
    };
    counted(
        requests.late,
        "sequences begin behind position 0 and continue none that is known (a cached prefix, or \
         begun before the recording): each is a request of its own",
    );
    counted(
        requests.split,
        "sequences might continue several requests: each is a request of its own",
    );
    counted(
        counts.twins,
        "records equal those of another rank in the same pass (tensor-parallel ranks) and are \
         left out",
    );
    counted(counts.padding, "tokens behind the last sequence of a batch are padding and left out");
    counted(counts.holes, "(token, layer) pairs have no id and hold no expert");
    let most = passes.iter().copied().max().unwrap_or(0);
    let fewer = passes.iter().filter(|&&records| records < most).count() as u64;
    counted(fewer, &format!("passes have fewer records than the {most} of others"));
    remarks
}

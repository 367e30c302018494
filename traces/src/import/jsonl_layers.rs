//! Reads JSON lines `{"tok": 1, "layers": [[ids], ...]}`: one line a generated token, one list of
//! logical expert ids per MoE layer, as sqliteai/waste recorded OLMoE-1B-7B in 2026. The schema
//! has no version, no gate weights and no layer numbers.
//!
//! A file is one request and every line one decode step; the position is `tok` less the first
//! `tok`. Top-k is the longest list. With a model its layers and experts rule.
//! Refused: unknown or repeated keys, a line with another number of layers, an id twice in a
//! list or out of range, `tok` that does not grow, a file without lines.

use std::path::Path;

use serde::Deserialize;

use super::shape::{check_padding, model_name};
use super::text::{Lines, Row, line_error, short};
use super::{Entry, Input, Progress, contains, shown};
use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::spill::Pile;
use crate::trace::{NO_EXPERT, Phase};

pub(super) const ENTRY: Entry = Entry {
    name: "jsonl-layers",
    about: "JSON lines {\"tok\": i, \"layers\": [[ids], ...]}, one generated token a line",
    extensions: &["jsonl"],
    recognise,
    read,
};

const SHAPE: &str = "{\"tok\": i, \"layers\": [[ids], ...]}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    tok: u64,
    layers: Vec<Vec<u16>>,
}

/// All tokens of all files. How long the longest list is, and which id is the largest, is known
/// once all were read: until then they lie in piles, which are spilled where they are large.
struct Tokens<'a> {
    input: Input<'a>,
    /// Request and position of every token.
    tokens: Pile<[u32; 2]>,
    /// Length of every list, token by token and layer by layer.
    lengths: Pile<u16>,
    /// The lists, one after the other.
    ids: Pile<u16>,
    length_max: u16,
    id_max: u16,
    /// Lists of every token; 0 before the first.
    layers: usize,
    /// Values of `tok` that no line has.
    gaps: u64,
    /// A list in the order of its ids.
    sorted: Vec<u16>,
}

fn recognise(_: &Path, head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.trim_ascii_start().starts_with(b"{")
        && contains(line, b"\"tok\"")
        && contains(line, b"\"layers\"")
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut all = Tokens {
        input,
        tokens: Pile::default(),
        lengths: Pile::default(),
        ids: Pile::default(),
        length_max: 0,
        id_max: 0,
        layers: 0,
        gaps: 0,
        sorted: Vec::new(),
    };
    let last = input.id_last();
    for (request, path) in (0..).zip(input.paths) {
        read_request(path, request, last, &mut all, &progress)?;
    }
    build(&all)
}

fn read_request(
    path: &Path,
    request: u32,
    last: u16,
    all: &mut Tokens<'_>,
    progress: &Progress,
) -> Result<()> {
    let name = shown(path);
    let mut lines = Lines::open(path, progress)?;
    let mut first = None;
    let mut before: Option<u64> = None;
    while let Some((number, line)) = lines.next()? {
        let row = Row { path: &name, number };
        if !line.starts_with('{') {
            return Err(line_error(&name, number, format!("`{}`", short(line)), SHAPE));
        }
        let token: Token = serde_json::from_str(line).map_err(|error| json_error(row, &error))?;
        if let Some(before) = before.filter(|&before| token.tok <= before) {
            let found = format!("tok {} after {before}", token.tok);
            return Err(line_error(&name, number, found, "tok that grows"));
        }
        all.gaps += before.map_or(0, |before| token.tok - before - 1);
        before = Some(token.tok);
        let position =
            u32::try_from(token.tok - *first.get_or_insert(token.tok)).map_err(|_| {
                line_error(&name, number, format!("tok {}", token.tok), "at most 2^32 tokens")
            })?;
        all.tokens.push(&[[request, position]], all.input.spill)?;
        add_layers(row, &token, last, all)?;
    }
    if first.is_none() {
        return Err(Error::invalid(name, "whole file", "no lines", "at least one token"));
    }
    Ok(())
}

fn add_layers(row: Row<'_>, token: &Token, last: u16, all: &mut Tokens<'_>) -> Result<()> {
    let refuse =
        |found: String, expected: String| Err(line_error(row.path, row.number, found, expected));
    let layers = token.layers.len();
    if layers == 0 || (all.layers != 0 && layers != all.layers) {
        let expected = if all.layers == 0 { "at least 1".into() } else { all.layers.to_string() };
        return refuse(format!("{layers} layers"), format!("{expected} layers"));
    }
    all.layers = layers;
    for (layer, ids) in token.layers.iter().enumerate() {
        if let Some(id) = ids.iter().find(|&&id| id > last) {
            return refuse(format!("expert {id} in layer {layer}"), format!("0 to {last}"));
        }
        all.sorted.clone_from(ids);
        all.sorted.sort_unstable();
        if let Some(pair) = all.sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let found = format!("expert {} twice in layer {layer}", pair[0]);
            return refuse(found, "distinct experts".into());
        }
        let length = u16::try_from(ids.len()).expect("distinct 16-bit ids");
        all.length_max = all.length_max.max(length);
        all.id_max = all.id_max.max(all.sorted.last().copied().unwrap_or(0));
        all.lengths.push(&[length], all.input.spill)?;
        all.ids.push(ids, all.input.spill)?;
    }
    Ok(())
}

/// serde counts lines within the one line that it is given; the line of the file is known better.
fn json_error(row: Row<'_>, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let found = text.split(" at line ").next().unwrap_or(&text);
    let place = format!("line {}, column {}", row.number, error.column());
    Error::invalid(row.path, place, found, SHAPE)
}

fn build(all: &Tokens<'_>) -> Result<TraceBuilder> {
    let input = &all.input;
    let path = shown(&input.paths[0]);
    let top_k = all.length_max;
    if top_k == 0 {
        return Err(Error::invalid(path, "whole recording", "no expert", "at least one expert"));
    }
    check_padding(&path, [all.tokens.len(), all.layers as u64, top_k.into()], all.ids.len())?;
    let mut remarks = Vec::new();
    let (layers, experts) = match input.model {
        Some(model) if model.moe_layers.len() == all.layers => {
            if model.top_k != top_k {
                let name = &model.name;
                let k = model.top_k;
                remarks.push(format!("top-k is {top_k} as recorded; {name} has {k}"));
            }
            (model.moe_layers.clone(), model.experts)
        }
        Some(model) => {
            let expected = format!("{} as {} has MoE layers", model.moe_layers.len(), model.name);
            return Err(Error::invalid(path, "line 1", format!("{} layers", all.layers), expected));
        }
        None => {
            let last = all.id_max;
            remarks.push(format!(
                "no model was named: experts reach to the largest id, {last}, and layers are \
                 numbered from 0"
            ));
            let layers = u16::try_from(all.layers).map_err(|_| {
                let found = format!("{} layers", all.layers);
                Error::invalid(&path, "line 1", found, "at most 65535 layers")
            })?;
            ((0..layers).collect(), last + 1)
        }
    };
    if all.gaps > 0 {
        remarks.push(format!("{} tokens are absent: `tok` skips them", all.gaps));
    }
    let mut header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
    header.remarks = remarks;
    fill(header, all)
}

fn fill(header: Header, all: &Tokens<'_>) -> Result<TraceBuilder> {
    let k = usize::from(header.top_k);
    let mut builder = all.input.builder(header);
    let mut row = builder.empty_row();
    let (mut tokens, mut lengths, mut ids) =
        (all.tokens.reader(), all.lengths.reader(), all.ids.reader());
    for step in (0..).take(usize::try_from(all.tokens.len()).unwrap_or(usize::MAX)) {
        let [request, position] = tokens.take(1)?[0];
        row.fill(NO_EXPERT);
        for (cell, &length) in row.chunks_exact_mut(k).zip(lengths.take(all.layers)?) {
            let length = usize::from(length);
            cell[..length].copy_from_slice(ids.take(length)?);
        }
        let phase = Phase::Decode;
        let row = TokenRow { request, position, step, phase, experts: &row, weights: None };
        builder.push_token(row);
    }
    Ok(builder)
}

//! Reads responses of SGLang's `/generate` with `return_routed_experts` (written against SGLang
//! 0.5.6): JSON objects whose `meta_info.routed_experts` is base64 of 32-bit integers
//! `[tokens, layers, k]`, little-endian, logical ids. A file is one response, a list of them, or
//! one a line; each response is one request, in the order of the files.
//!
//! The ids carry no shape, so a model must be named: layers are all its hidden layers, as SGLang
//! writes them, or those with experts. `meta_info.prompt_tokens` tells prefill from decode; the
//! last token of a response is not computed and has no row. Batches are not recorded: a prompt is
//! one step, and the n-th generated tokens of all responses are one. Other keys are not kept.
//! Refused: no model, other JSON, other base64, ids that fill no whole token, ids out of range or
//! twice in a cell, a prompt that is longer than the tokens. One response is held at a time.

use std::borrow::Cow;
use std::path::Path;

use moecast_profiles::model::ModelShape;
use serde::Deserialize;

use super::base64::decode;
use super::json_values::Values;
use super::npy::Source;
use super::routed::Requests;
use super::text::short;
use super::{Entry, Input, Progress, contains, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "sglang-routed-experts",
    about: "SGLang responses with meta_info.routed_experts, JSON or JSON lines; needs a model",
    extensions: &["json", "jsonl"],
    recognise,
    read,
};

/// Largest response; one of 10,000 tokens, 61 layers and 8 experts has 26 MB.
const RESPONSE_BYTES_MAX: usize = 128 << 20;

const SHAPE: &str = "{\"meta_info\": {\"routed_experts\": \"base64\", \"prompt_tokens\": n}}";

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    meta_info: Option<MetaInfo<'a>>,
}

#[derive(Deserialize)]
struct MetaInfo<'a> {
    #[serde(borrow)]
    routed_experts: Option<Text<'a>>,
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

/// A string that is not copied, even where it may be absent.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Responses that were left out or are odd.
#[derive(Default)]
struct Oddities {
    without: usize,
    other_lengths: usize,
}

fn recognise(_: &Path, head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    (head.starts_with(b"{") || head.starts_with(b"["))
        && contains(head, b"\"meta_info\"")
        && !contains(head, b"\"num_experts_per_token\"")
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let Some(model) = input.model else {
        let path = shown(&input.paths[0]);
        let expected = "--model: the ids carry no shape, so the model must tell layers and top-k";
        return Err(Error::invalid(path, "model", "none is named", expected));
    };
    let mut requests = Requests::new(ENTRY.name, input);
    let mut odd = Oddities::default();
    for path in input.paths {
        each_response(path, &progress, |place, response| {
            let source = Source { path: &shown(path), part: Some(place) };
            add(source, response, model, &mut requests, &mut odd)
        })?;
    }
    let mut builder = requests.finish()?;
    let remarks = &mut builder.header_mut().remarks;
    if odd.without > 0 {
        remarks.push(format!(
            "{} responses have no meta_info.routed_experts and are left out",
            odd.without
        ));
    }
    if odd.other_lengths > 0 {
        remarks.push(format!(
            "{} responses hold another number of tokens than prompt_tokens + completion_tokens - 1",
            odd.other_lengths
        ));
    }
    Ok(builder)
}

/// Hands out the responses of one file: a list, or any number of objects one after the other.
fn each_response(
    path: &Path,
    progress: &Progress,
    mut each: impl FnMut(&str, Response<'_>) -> Result<()>,
) -> Result<()> {
    let mut values = Values::open(path, RESPONSE_BYTES_MAX, progress)?;
    let list = values.is_list();
    let mut number = 0;
    while let Some(value) = values.next()? {
        let place = format!("response {number}");
        let response = serde_json::from_slice(value.bytes).map_err(|error| {
            let (found, line) = value.fault(&error);
            let place = if list { "list" } else { &place };
            Error::invalid(shown(path), format!("{place}, {line}"), found, SHAPE)
        })?;
        each(&place, response)?;
        number += 1;
    }
    Ok(())
}

fn add(
    source: Source<'_>,
    response: Response<'_>,
    model: &ModelShape,
    requests: &mut Requests<'_>,
    odd: &mut Oddities,
) -> Result<()> {
    let Some(MetaInfo { routed_experts: Some(text), prompt_tokens, completion_tokens }) =
        response.meta_info
    else {
        odd.without += 1;
        return Ok(());
    };
    let Text(text) = text;
    let bytes = decode(&text).map_err(|at| {
        let rest = text.get(at..).unwrap_or_default();
        let found = format!("`{}` at character {at} of {}", short(rest), text.len());
        source.invalid("routed_experts", found, "base64 with its padding")
    })?;
    let (ids, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        let found = format!("{} bytes", bytes.len());
        return Err(source.invalid("routed_experts", found, "32-bit integers"));
    }
    let told = prompt_tokens
        .zip(completion_tokens)
        .map(|(prompt, completion)| (u64::from(prompt) + u64::from(completion)).saturating_sub(1));
    let shape = shape(ids.len(), model, told).ok_or_else(|| {
        let (layers, moe) = (model.hidden_layers, model.moe_layers.len());
        let expected = format!(
            "a multiple of {layers} layers (or {moe}) x top-k {} as {} has",
            model.top_k, model.name
        );
        source.invalid("routed_experts", format!("{} ids", ids.len()), expected)
    })?;
    let [tokens, layers, k] = shape;
    odd.other_lengths += usize::from(told.is_some_and(|told| told != tokens as u64));
    if let Some(prompt) = prompt_tokens.filter(|&prompt| u64::from(prompt) > tokens as u64) {
        let expected = format!("{tokens} at most, the tokens that have ids");
        return Err(source.invalid("prompt_tokens", prompt.to_string(), expected));
    }
    requests.open(source, shape, prompt_tokens)?;
    let mut row = vec![0; layers * k];
    for token in ids.chunks_exact(row.len()) {
        for (id, &bytes) in row.iter_mut().zip(token) {
            *id = i32::from_le_bytes(bytes).into();
        }
        requests.token(source, &row)?;
    }
    Ok(())
}

/// `[tokens, layers, k]` of so many ids: best the number of tokens that the response tells, with a
/// row for every hidden layer.
fn shape(ids: usize, model: &ModelShape, told: Option<u64>) -> Option<[usize; 3]> {
    let k = usize::from(model.top_k);
    let shapes: Vec<[usize; 3]> = [usize::from(model.hidden_layers), model.moe_layers.len()]
        .into_iter()
        .filter(|&layers| layers * k > 0 && ids.is_multiple_of(layers * k))
        .map(|layers| [ids / (layers * k), layers, k])
        .collect();
    let told = shapes.iter().find(|shape| Some(shape[0] as u64) == told);
    told.or(shapes.first()).copied()
}

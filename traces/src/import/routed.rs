//! Turns arrays `[tokens, layers, k]` of logical ids, one a request, into a token trace: what the
//! engines that return the routing of each response have in common.
//!
//! They fill a buffer of zeros, so k zeros (k > 1) are no choice but a cell that was never
//! written: in a dense layer, or of a token that was not computed. Such cells hold no expert, nor
//! do ids of -1; both are counted.
//!
//! Which layers hold experts, and the steps of generated tokens, are known once all requests were
//! read: until then the ids lie in a pile, which is spilled where it is large.

use moecast_profiles::model::ModelShape;

use super::npy::Source;
use super::shape::{model_name, span};
use super::{Input, shown};
use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::spill::Pile;
use crate::trace::check::is_sound;
use crate::trace::{NO_EXPERT, Phase};

/// One request.
struct Request {
    tokens: u32,
    /// Leading tokens that are the prompt, where the source tells.
    prompt: Option<u32>,
    /// Its first row in the pile.
    start: u64,
}

impl Request {
    fn prompt(&self) -> u32 {
        self.prompt.unwrap_or(self.tokens)
    }
}

/// All requests so far.
pub(super) struct Requests<'a> {
    importer: &'static str,
    input: Input<'a>,
    /// Layers and k of every array, once one was opened.
    shape: Option<[usize; 2]>,
    /// Layers of the arrays whose ids are kept: the model's, or all.
    held: Vec<usize>,
    requests: Vec<Request>,
    /// `[tokens, held, k]` ids of all requests, and how many tokens they are.
    ids: Pile<u16>,
    tokens: u64,
    /// `[held, k]` ids of the token that is being added.
    row: Vec<u16>,
    /// Per layer of `held`: cells that hold an expert, and cells of zeros only.
    chosen: Vec<u64>,
    zeros: Vec<u64>,
    /// Ids of -1.
    unset: u64,
    empty: u64,
    expert_max: u16,
}

impl<'a> Requests<'a> {
    pub(super) fn new(importer: &'static str, input: Input<'a>) -> Self {
        Self {
            importer,
            input,
            shape: None,
            held: Vec::new(),
            requests: Vec::new(),
            ids: Pile::default(),
            tokens: 0,
            row: Vec::new(),
            chosen: Vec::new(),
            zeros: Vec::new(),
            unset: 0,
            empty: 0,
            expert_max: 0,
        }
    }

    /// Begins a request with an array of `shape`.
    pub(super) fn open(
        &mut self,
        source: Source<'_>,
        shape: [usize; 3],
        prompt: Option<u32>,
    ) -> Result<()> {
        let [tokens, layers, k] = shape;
        match self.shape {
            Some(first) if first != [layers, k] => {
                let expected = format!("[tokens, {}, {}] as before", first[0], first[1]);
                return Err(source.invalid("shape", format!("{shape:?}"), expected));
            }
            Some(_) => {}
            None => {
                self.held = held(source, layers, self.input.model)?;
                self.chosen = vec![0; self.held.len()];
                self.zeros = vec![0; self.held.len()];
                self.shape = Some([layers, k]);
            }
        }
        let tokens = u32::try_from(tokens)
            .map_err(|_| source.invalid("shape", format!("{tokens} tokens"), "less than 2^32"))?;
        self.requests.push(Request { tokens, prompt, start: self.tokens });
        Ok(())
    }

    /// Adds the ids `[layers, k]` of the next token of the request that was opened last.
    pub(super) fn token(&mut self, source: Source<'_>, ids: &[i64]) -> Result<()> {
        let [_, k] = self.shape.expect("a request is open");
        let last = self.input.id_last();
        self.row.clear();
        for at in 0..self.held.len() {
            let layer = self.held[at];
            let cell = &ids[layer * k..(layer + 1) * k];
            if k > 1 && cell.iter().all(|&id| id == 0) {
                self.row.extend(std::iter::repeat_n(NO_EXPERT, k));
                self.zeros[at] += 1;
                continue;
            }
            let start = self.row.len();
            // Nearly every cell is k experts: the few others are looked at one id at a time.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            self.row.extend(cell.iter().map(|&id| id as u16));
            let picks = &self.row[start..];
            let fits = cell.iter().all(|&id| (0..=i64::from(last)).contains(&id));
            if fits && is_sound(picks, last + 1) {
                self.expert_max = picks.iter().copied().fold(self.expert_max, u16::max);
                self.chosen[at] += 1;
                continue;
            }
            self.row.truncate(start);
            self.other_cell(source, (at, layer), cell, last)?;
        }
        self.tokens += 1;
        self.ids.push(&self.row, self.input.spill)
    }

    /// Adds a cell that holds ids of -1, or names what is wrong with it.
    fn other_cell(
        &mut self,
        source: Source<'_>,
        (at, layer): (usize, usize),
        cell: &[i64],
        last: u16,
    ) -> Result<()> {
        let start = self.row.len();
        for &id in cell {
            let expert = match u16::try_from(id) {
                Ok(id) if id <= last && !self.row[start..].contains(&id) => {
                    self.expert_max = self.expert_max.max(id);
                    id
                }
                Err(_) if id == -1 => {
                    self.unset += 1;
                    NO_EXPERT
                }
                found => {
                    let twice = found.is_ok_and(|id| id <= last);
                    return Err(self.wrong_id(source, layer, id, twice, last));
                }
            };
            self.row.push(expert);
        }
        self.chosen[at] += u64::from(self.row[start..].iter().any(|&id| id != NO_EXPERT));
        Ok(())
    }

    /// An id of the token that is being added is out of range, or there a second time.
    fn wrong_id(&self, source: Source<'_>, layer: usize, id: i64, twice: bool, last: u16) -> Error {
        let request = self.requests.last().expect("a request is open");
        let place = format!("token {}, layer {layer}", self.tokens - request.start);
        if twice {
            return source.invalid(&place, format!("expert {id} twice"), "distinct experts");
        }
        source.invalid(&place, format!("expert {id}"), format!("0 to {last}"))
    }

    /// The trace: each request's prompt, or all of a request whose prompt is not known, is one
    /// step; then the first generated tokens of all requests are one, then the second, and so on.
    pub(super) fn finish(mut self) -> Result<TraceBuilder> {
        let before = self.requests.len();
        self.requests.retain(|request| request.tokens > 0);
        self.empty = (before - self.requests.len()) as u64;
        let kept: Vec<usize> = (0..self.held.len())
            .filter(|&at| self.input.model.is_some() || self.chosen[at] > 0)
            .collect();
        let (Some([_, k]), true) = (self.shape, self.chosen.iter().any(|&cells| cells > 0)) else {
            let path = shown(&self.input.paths[0]);
            return Err(Error::invalid(path, "whole recording", "no expert", "routed tokens"));
        };
        let number = |layer: usize| u16::try_from(layer).expect("checked with the model");
        let (layers, experts) = match self.input.model {
            Some(model) => (model.moe_layers.clone(), model.experts),
            None => {
                let layers = kept.iter().map(|&at| number(self.held[at])).collect();
                (layers, self.expert_max + 1)
            }
        };
        let top_k = u16::try_from(k).expect("checked with the shape");
        let name = model_name(self.input.model);
        let mut header = Header::new(self.importer, name, experts, top_k, layers);
        header.remarks = self.remarks(&kept);
        let mut builder = self.input.builder(header);
        self.fill(&mut builder, &kept)?;
        Ok(builder)
    }

    fn fill(&self, builder: &mut TraceBuilder, kept: &[usize]) -> Result<()> {
        let k = usize::from(builder.header_mut().top_k);
        let width = self.held.len() * k;
        let mut row = builder.empty_row();
        let mut push = |token: &[u16], request, position, step, phase| {
            for (cell, &at) in row.chunks_exact_mut(k).zip(kept) {
                cell.copy_from_slice(&token[at * k..(at + 1) * k]);
            }
            let experts = &row;
            let row = TokenRow { request, position, step, phase, experts, weights: None };
            builder.push_token(row);
        };
        let mut step = 0;
        let mut ids = self.ids.reader();
        for (number, request) in (0..).zip(&self.requests) {
            for position in 0..request.tokens {
                let token = ids.take(width)?;
                if position < request.prompt() {
                    push(token, number, position, step, Phase::Prefill);
                }
            }
            step += u32::from(request.prompt() > 0);
        }
        let generated = |request: &Request| request.tokens - request.prompt();
        let longest = self.requests.iter().map(generated).max().unwrap_or(0);
        let mut token = vec![0; width];
        for index in 0..longest {
            for (number, request) in (0..).zip(&self.requests) {
                if index < generated(request) {
                    let position = request.prompt() + index;
                    let row = request.start + u64::from(position);
                    self.ids.read(row * width as u64, &mut token)?;
                    push(&token, number, position, step, Phase::Decode);
                }
            }
            step += 1;
        }
        Ok(())
    }

    fn remarks(&self, kept: &[usize]) -> Vec<String> {
        let mut remarks = Vec::new();
        let unknown = self.requests.iter().filter(|request| request.prompt.is_none()).count();
        if unknown > 0 {
            remarks.push(format!(
                "where the prompt ends and what was batched is not recorded for {unknown} \
                 requests: the tokens of each are one step, marked as prefill"
            ));
        }
        if unknown < self.requests.len() {
            remarks.push(
                "what was batched is not recorded: each prompt is one step, and the next token \
                 of all requests that still generate is one step"
                    .to_owned(),
            );
        }
        remarks.extend(self.layer_remarks(kept));
        let zeros: u64 = kept.iter().map(|&at| self.zeros[at]).sum();
        if zeros > 0 {
            remarks.push(format!(
                "{zeros} (token, layer) pairs hold zeros only: they were not recorded and hold \
                 no expert"
            ));
        }
        if self.unset > 0 {
            remarks.push(format!("{} ids are -1 and hold no expert", self.unset));
        }
        if self.empty > 0 {
            remarks.push(format!("{} requests hold no token and are left out", self.empty));
        }
        remarks
    }

    /// What became of the layers of the arrays.
    fn layer_remarks(&self, kept: &[usize]) -> Vec<String> {
        let mut remarks = Vec::new();
        let [layers, k] = self.shape.expect("a request was opened");
        let dropped = |kept: &dyn Fn(usize) -> bool| -> Vec<u16> {
            (0..layers).filter(|&layer| !kept(layer)).filter_map(|l| l.try_into().ok()).collect()
        };
        match self.input.model {
            Some(model) => {
                let dense = dropped(&|layer| self.held.contains(&layer));
                if !dense.is_empty() {
                    let dense = span(&dense);
                    remarks.push(format!("rows of the dense layers are left out: {dense}"));
                }
                if usize::from(model.top_k) != k {
                    let name = &model.name;
                    remarks.push(format!("top-k is {k} as recorded; {name} has {}", model.top_k));
                }
            }
            None => {
                let dense = dropped(&|layer| kept.iter().any(|&at| self.held[at] == layer));
                if !dense.is_empty() {
                    remarks.push(format!(
                        "layers without a token are taken for dense and left out: {}",
                        span(&dense)
                    ));
                }
                remarks.push(format!(
                    "no model was named: experts reach to the largest id, {}, and layers are \
                     numbered as in the arrays, from 0",
                    self.expert_max
                ));
            }
        }
        remarks
    }
}

/// The layers of an array that hold experts.
fn held(source: Source<'_>, layers: usize, model: Option<&ModelShape>) -> Result<Vec<usize>> {
    match model {
        None => Ok((0..layers).collect()),
        Some(model) if layers == usize::from(model.hidden_layers) => {
            Ok(model.moe_layers.iter().map(|&layer| layer.into()).collect())
        }
        Some(model) if layers == model.moe_layers.len() => Ok((0..layers).collect()),
        Some(model) => {
            let (hidden, moe) = (model.hidden_layers, model.moe_layers.len());
            let expected = format!("{hidden} layers, or {moe} with experts, as {} has", model.name);
            Err(source.invalid("shape", format!("{layers} layers"), expected))
        }
    }
}

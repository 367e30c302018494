//! Reads `route_trace v1` of BigMoeOnEdge (written against its `core` of October 2026): `#` lines
//! with the model, then one CSV row for each routed expert, `turn,phase,step,layer,slot,expert,
//! weight,residency,expert_bytes,dropped`. Columns are found by name, as the engine asks: later
//! versions append some. `step` is a context position, not a forward pass.
//!
//! A turn of a file is one request. Its prefill (phase 0) is one step and each decoded token
//! (phase 1) another. In prefill the engine computes the last layer for the last prompt token
//! only, so an absent (token, layer) means "no expert". The recording's top-k wins over the
//! model's. Residency describes the recording device's cache and is not kept.
//! Refused: another version, layers or experts that disagree with the preamble or the model, a
//! slot or expert twice in one cell, a negative position, a phase other than 0 and 1.

use std::collections::BTreeMap;
use std::path::Path;

use self::preamble::{Columns, Preamble};
use super::shape::{check_padding, span};
use super::text::{Lines, Row, line_error, short};
use super::{Entry, Input, Progress, shown};
use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::trace::{NO_EXPERT, Phase};

mod preamble;

pub(super) const ENTRY: Entry = Entry {
    name: "route-trace-csv",
    about: "route_trace v1 of BigMoeOnEdge: tokens with gate weights, prefill and decode",
    extensions: &["csv"],
    recognise,
    read,
};

fn recognise(_: &Path, head: &[u8]) -> bool {
    head.starts_with(b"# route_trace ")
}

/// One parsed row.
struct Routed {
    /// File, turn, phase and context position: what tells tokens apart.
    token: Token,
    layer: usize,
    slot: usize,
    expert: u16,
    weight: f32,
    dropped: bool,
}

/// Ordered as the tokens were computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    file: usize,
    turn: u32,
    phase: u8,
    position: u32,
}

/// All tokens of all files.
#[derive(Default)]
struct Cells {
    /// Row of every token in `experts` and `weights`.
    tokens: BTreeMap<Token, usize>,
    /// `[T, M, k]`.
    experts: Vec<u16>,
    /// `[T, M, k]`; 0 where there is no expert.
    weights: Vec<f32>,
    unweighted: u64,
    dropped: u64,
    routed: usize,
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut first: Option<Preamble> = None;
    let mut cells = Cells::default();
    let mut ignored = Vec::new();
    for (file, path) in input.paths.iter().enumerate() {
        let name = shown(path);
        let mut lines = Lines::open(path, &progress)?;
        let (preamble, columns) = preamble::read(&name, &mut lines)?;
        check_model(&name, &preamble, &input)?;
        if first.as_ref().is_some_and(|first| *first != preamble) {
            let expected = format!("the same facts as in {}", shown(&input.paths[0]));
            return Err(Error::invalid(name, "preamble", "another model or shape", expected));
        }
        let before = cells.tokens.len();
        while let Some((number, line)) = lines.next()? {
            let row = Row { path: &name, number };
            let routed = parse(row, line, file, &preamble, &columns)?;
            cells.add(row, &routed, &preamble)?;
        }
        if cells.tokens.len() == before {
            return Err(Error::invalid(name, "whole file", "no rows", "at least one row"));
        }
        first.get_or_insert(preamble);
        ignored = columns.ignored;
    }
    let Some(preamble) = first else { unreachable!("`read` is given at least one file") };
    Ok(build(&input, &preamble, &cells, &ignored))
}

fn check_model(path: &str, preamble: &Preamble, input: &Input<'_>) -> Result<()> {
    let Some(model) = input.model else { return Ok(()) };
    let found = (preamble.hidden_layers, preamble.experts, &preamble.layers);
    if found == (model.hidden_layers, model.experts, &model.moe_layers) {
        return Ok(());
    }
    let describe = |(layers, experts, moe): (u16, u16, &Vec<u16>)| {
        format!("{layers} layers, {experts} experts in layers {}", span(moe))
    };
    let wanted = describe((model.hidden_layers, model.experts, &model.moe_layers));
    let expected = format!("{wanted}, as {} has", model.name);
    Err(Error::invalid(path, "preamble", describe(found), expected))
}

fn parse(
    row: Row<'_>,
    line: &str,
    file: usize,
    preamble: &Preamble,
    columns: &Columns,
) -> Result<Routed> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() != columns.count {
        let found = format!("{} fields in `{}`", fields.len(), short(line));
        return Err(line_error(row.path, row.number, found, format!("{} fields", columns.count)));
    }
    let below = |column: &str, text: &str, limit: u16| -> Result<u16> {
        let expected = format!("an integer below {limit}");
        let value: u16 = row.number(column, text, &expected)?;
        if value < limit {
            return Ok(value);
        }
        Err(line_error(row.path, row.number, format!("{column} {value}"), expected))
    };
    let layer = below("layer", fields[columns.layer], preamble.hidden_layers)?;
    let ordinal = preamble.layers.binary_search(&layer).map_err(|_| {
        let expected = format!("a layer with experts: {}", span(&preamble.layers));
        line_error(row.path, row.number, format!("layer {layer}"), expected)
    })?;
    let phase = u8::try_from(below("phase", fields[columns.phase], 2)?).expect("below 2");
    let weight = match columns.weight.map(|at| fields[at]) {
        Some(text) => row.number::<f32>("weight", text, "a number or nan")?,
        None => f32::NAN,
    };
    if weight.is_infinite() || weight.abs() > 65504.0 {
        let found = format!("weight {weight}");
        return Err(line_error(row.path, row.number, found, "a weight that 16 bits can hold"));
    }
    let dropped = columns.dropped.map_or(Ok(0), |at| below("dropped", fields[at], 2))?;
    Ok(Routed {
        token: Token {
            file,
            turn: row.number("turn", fields[columns.turn], "an integer from 0")?,
            phase,
            position: row.number("step", fields[columns.step], "a position from 0")?,
        },
        layer: ordinal,
        slot: usize::from(below("slot", fields[columns.slot], preamble.top_k)?),
        expert: below("expert", fields[columns.expert], preamble.experts)?,
        weight,
        dropped: dropped == 1,
    })
}

impl Cells {
    fn add(&mut self, row: Row<'_>, routed: &Routed, preamble: &Preamble) -> Result<()> {
        let k = usize::from(preamble.top_k);
        let width = preamble.layers.len() * k;
        let next = self.tokens.len();
        self.routed += 1;
        let token = *self.tokens.entry(routed.token).or_insert(next);
        if token == next {
            check_padding(row.path, [next + 1, preamble.layers.len(), k], self.routed)?;
            self.experts.resize((next + 1) * width, NO_EXPERT);
            self.weights.resize((next + 1) * width, 0.0);
        }
        let start = token * width + routed.layer * k;
        let cell = &mut self.experts[start..start + k];
        if cell[routed.slot] != NO_EXPERT {
            let found = format!("slot {} of one token and layer twice", routed.slot);
            return Err(line_error(row.path, row.number, found, "each slot once"));
        }
        if cell.contains(&routed.expert) {
            let found = format!("expert {} twice in one token and layer", routed.expert);
            return Err(line_error(row.path, row.number, found, "distinct experts"));
        }
        cell[routed.slot] = routed.expert;
        self.weights[start + routed.slot] = routed.weight;
        self.unweighted += u64::from(routed.weight.is_nan());
        self.dropped += u64::from(routed.dropped);
        Ok(())
    }

    /// Cells (token, layer) that hold no expert, and those that hold some but fewer than `k`.
    fn absent_and_partial(&self, k: usize) -> (usize, usize) {
        let filled = |cell: &[u16]| cell.iter().filter(|&&id| id != NO_EXPERT).count();
        let cells = self.experts.chunks_exact(k).map(filled);
        cells.fold((0, 0), |(absent, partial), count| {
            (absent + usize::from(count == 0), partial + usize::from(count > 0 && count < k))
        })
    }
}

fn build(
    input: &Input<'_>,
    preamble: &Preamble,
    cells: &Cells,
    ignored: &[String],
) -> TraceBuilder {
    let (experts, top_k) = (preamble.experts, preamble.top_k);
    let layers = preamble.layers.clone();
    let width = layers.len() * usize::from(top_k);
    let mut builder =
        TraceBuilder::new(Header::new(ENTRY.name, &preamble.model, experts, top_k, layers));
    let (mut request, mut step, mut first) = (0, 0, 0);
    let mut before: Option<Token> = None;
    let mut continued = 0;
    for (&token, &row) in &cells.tokens {
        let same_turn = before.is_some_and(|b| (b.file, b.turn) == (token.file, token.turn));
        if !same_turn {
            first = token.position;
            continued += u64::from(first > 0);
        }
        if before.is_some() {
            request += u32::from(!same_turn);
            let same_pass = same_turn && token.phase == 0;
            step += u32::from(!same_pass);
        }
        before = Some(token);
        let range = row * width..(row + 1) * width;
        builder.push_token(TokenRow {
            request,
            position: token.position.saturating_sub(first),
            step,
            phase: if token.phase == 0 { Phase::Prefill } else { Phase::Decode },
            experts: &cells.experts[range.clone()],
            weights: (cells.unweighted == 0).then(|| &cells.weights[range]),
        });
    }
    builder.header_mut().remarks = remarks(input, preamble, cells, continued, ignored);
    builder
}

fn remarks(
    input: &Input<'_>,
    preamble: &Preamble,
    cells: &Cells,
    continued: u64,
    ignored: &[String],
) -> Vec<String> {
    let k = preamble.top_k;
    let mut remarks = Vec::new();
    if let Some(model) = input.model.filter(|model| model.top_k != k) {
        remarks.push(format!("top-k is {k} as recorded; {} has {}", model.name, model.top_k));
    }
    let (absent, partial) = cells.absent_and_partial(usize::from(k));
    if absent > 0 {
        remarks.push(format!("{absent} (token, layer) pairs are absent and hold no expert"));
    }
    if partial > 0 {
        remarks.push(format!("{partial} (token, layer) pairs hold fewer than {k} experts"));
    }
    if cells.unweighted > 0 {
        let count = cells.unweighted;
        remarks.push(format!("{count} rows have no gate weight, so none is kept"));
    }
    if cells.dropped > 0 {
        let count = cells.dropped;
        remarks.push(format!("{count} rows were routed but dropped by the engine; they are kept"));
    }
    if continued > 0 {
        remarks.push(format!(
            "{continued} turns continue a conversation; positions count from their first new token"
        ));
    }
    if !ignored.is_empty() {
        remarks.push(format!("columns that are not kept: {}", ignored.join(", ")));
    }
    remarks
}

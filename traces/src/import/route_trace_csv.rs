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

use std::path::Path;

use self::preamble::{Columns, Preamble};
use super::shape::{check_padding, span};
use super::sorter::{Sorter, halves, whole};
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
    token: Token,
    layer: u16,
    slot: u16,
    expert: u16,
    weight: f32,
    dropped: bool,
}

/// File, turn, phase and context position: what tells tokens apart, ordered as they were
/// computed.
type Token = [u32; 4];

/// A row as it is sorted: the token; layer and slot; both halves of the line number; expert and
/// whether it was dropped; the bits of the weight.
type Sortable = [u32; 9];

impl Routed {
    fn sortable(&self, line: u64) -> Sortable {
        let [file, turn, phase, position] = self.token;
        let cell = u32::from(self.layer) << 16 | u32::from(self.slot);
        let choice = u32::from(self.expert) << 1 | u32::from(self.dropped);
        let [high, low] = halves(line);
        [file, turn, phase, position, cell, high, low, choice, self.weight.to_bits()]
    }

    /// The row and its line.
    fn from_sortable(row: &Sortable) -> (Self, u64) {
        let &[file, turn, phase, position, cell, high, low, choice, weight] = row;
        let low_half = |bits: u32| (bits & 0xffff) as u16;
        let routed = Self {
            token: [file, turn, phase, position],
            layer: low_half(cell >> 16),
            slot: low_half(cell),
            expert: low_half(choice >> 1),
            weight: f32::from_bits(weight),
            dropped: choice & 1 == 1,
        };
        (routed, whole([high, low]))
    }
}

/// All rows of all files, of which the engine writes those of a prompt layer by layer.
struct Rows<'a> {
    sorter: Sorter<'a, Sortable>,
    unweighted: u64,
    dropped: u64,
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut first: Option<Preamble> = None;
    let mut rows = Rows { sorter: Sorter::new(input.spill), unweighted: 0, dropped: 0 };
    let mut ignored = Vec::new();
    for (file, path) in (0..).zip(input.paths) {
        let name = shown(path);
        let mut lines = Lines::open(path, &progress)?;
        let (preamble, columns) = preamble::read(&name, &mut lines)?;
        check_model(&name, &preamble, &input)?;
        if first.as_ref().is_some_and(|first| *first != preamble) {
            let expected = format!("the same facts as in {}", shown(&input.paths[0]));
            return Err(Error::invalid(name, "preamble", "another model or shape", expected));
        }
        let before = rows.sorter.len();
        while let Some((number, line)) = lines.next()? {
            let row = Row { path: &name, number };
            let routed = parse(row, line, file, &preamble, &columns)?;
            rows.unweighted += u64::from(routed.weight.is_nan());
            rows.dropped += u64::from(routed.dropped);
            rows.sorter.push(routed.sortable(number))?;
        }
        if rows.sorter.len() == before {
            return Err(Error::invalid(name, "whole file", "no rows", "at least one row"));
        }
        first.get_or_insert(preamble);
        ignored = columns.ignored;
    }
    let Some(preamble) = first else { unreachable!("`read` is given at least one file") };
    build(&input, &preamble, rows, &ignored)
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
    file: u32,
    preamble: &Preamble,
    columns: &Columns,
) -> Result<Routed> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() != columns.count {
        let found = format!("{} fields in `{}`", fields.len(), short(line));
        return Err(line_error(row.path, row.number, found, format!("{} fields", columns.count)));
    }
    let below = |column: &str, text: &str, limit: u16| -> Result<u16> {
        let value = text.trim_ascii().parse().ok().filter(|&value: &u16| value < limit);
        if let Some(value) = value {
            return Ok(value);
        }
        let expected = format!("an integer below {limit}");
        let value: u16 = row.number(column, text, &expected)?;
        Err(line_error(row.path, row.number, format!("{column} {value}"), expected))
    };
    let layer = below("layer", fields[columns.layer], preamble.hidden_layers)?;
    let ordinal = preamble.layers.binary_search(&layer).map_err(|_| {
        let expected = format!("a layer with experts: {}", span(&preamble.layers));
        line_error(row.path, row.number, format!("layer {layer}"), expected)
    })?;
    let phase = below("phase", fields[columns.phase], 2)?;
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
        token: [
            file,
            row.number("turn", fields[columns.turn], "an integer from 0")?,
            phase.into(),
            row.number("step", fields[columns.step], "a position from 0")?,
        ],
        layer: u16::try_from(ordinal).expect("fewer than hidden layers"),
        slot: below("slot", fields[columns.slot], preamble.top_k)?,
        expert: below("expert", fields[columns.expert], preamble.experts)?,
        weight,
        dropped: dropped == 1,
    })
}

/// Pushes tokens, whose rows come in order.
struct Fill<'a> {
    input: &'a Input<'a>,
    builder: TraceBuilder,
    top_k: usize,
    weighted: bool,
    /// The token whose rows are being added.
    token: Option<Token>,
    /// `[M, k]` of that token; the line of each is for errors.
    experts: Vec<u16>,
    weights: Vec<f32>,
    lines: Vec<u64>,
    /// Token that was pushed last, its request and step, and the first position of its turn.
    before: Option<Token>,
    request: u32,
    step: u32,
    first: u32,
    tokens: u64,
    /// Turns that do not begin at position 0.
    continued: u64,
    /// (token, layer) pairs that hold no expert, and those that hold some but fewer than `k`.
    absent: u64,
    partial: u64,
}

impl Fill<'_> {
    fn add(&mut self, routed: &Routed, line: u64) -> Result<()> {
        let slot = usize::from(routed.slot);
        let start = usize::from(routed.layer) * self.top_k;
        let cell = &self.experts[start..start + self.top_k];
        let refuse = |line: u64, found: String, expected: &str| {
            let path = shown(&self.input.paths[routed.token[0] as usize]);
            Err(line_error(&path, line, found, expected))
        };
        if cell[slot] != NO_EXPERT {
            let found = format!("slot {slot} of one token and layer twice");
            return refuse(line, found, "each slot once");
        }
        if let Some(other) = cell.iter().position(|&id| id == routed.expert) {
            let found = format!("expert {} twice in one token and layer", routed.expert);
            return refuse(line.max(self.lines[start + other]), found, "distinct experts");
        }
        self.experts[start + slot] = routed.expert;
        self.weights[start + slot] = routed.weight;
        self.lines[start + slot] = line;
        Ok(())
    }

    /// Pushes the token that was added.
    fn end_token(&mut self) {
        let Some(token) = self.token.take() else { return };
        let [_, _, phase, position] = token;
        let same_turn = self.before.is_some_and(|before| before[..2] == token[..2]);
        if !same_turn {
            self.first = position;
            self.continued += u64::from(position > 0);
        }
        if self.before.is_some() {
            self.request += u32::from(!same_turn);
            let same_pass = same_turn && phase == 0;
            self.step += u32::from(!same_pass);
        }
        self.before = Some(token);
        self.builder.push_token(TokenRow {
            request: self.request,
            position: position.saturating_sub(self.first),
            step: self.step,
            phase: if phase == 0 { Phase::Prefill } else { Phase::Decode },
            experts: &self.experts,
            weights: self.weighted.then_some(&self.weights),
        });
        for cell in self.experts.chunks_exact(self.top_k) {
            let filled = cell.iter().filter(|&&id| id != NO_EXPERT).count();
            self.absent += u64::from(filled == 0);
            self.partial += u64::from(filled > 0 && filled < self.top_k);
        }
        self.experts.fill(NO_EXPERT);
        self.weights.fill(0.0);
    }
}

fn build(
    input: &Input<'_>,
    preamble: &Preamble,
    rows: Rows<'_>,
    ignored: &[String],
) -> Result<TraceBuilder> {
    let Preamble { experts, top_k, .. } = *preamble;
    let (path, layers) = (shown(&input.paths[0]), preamble.layers.len());
    let given = rows.sorter.len();
    let padded = |tokens: u64| check_padding(&path, [tokens, layers as u64, top_k.into()], given);
    padded(1)?;
    let layers_of = preamble.layers.clone();
    let mut header = Header::new(ENTRY.name, &preamble.model, experts, top_k, layers_of);
    header.expert_bytes.clone_from(&preamble.expert_bytes);
    let width = layers * usize::from(top_k);
    let mut fill = Fill {
        input,
        builder: input.builder(header),
        top_k: top_k.into(),
        weighted: rows.unweighted == 0,
        token: None,
        experts: vec![NO_EXPERT; width],
        weights: vec![0.0; width],
        lines: vec![0; width],
        before: None,
        request: 0,
        step: 0,
        first: 0,
        tokens: 0,
        continued: 0,
        absent: 0,
        partial: 0,
    };
    let mut sorted = rows.sorter.sorted()?;
    while let Some(row) = sorted.next()? {
        let (routed, line) = Routed::from_sortable(&row);
        if fill.token != Some(routed.token) {
            fill.end_token();
            fill.token = Some(routed.token);
            fill.tokens += 1;
            padded(fill.tokens)?;
        }
        fill.add(&routed, line)?;
    }
    fill.end_token();
    let remarks = remarks(&fill, preamble, (rows.unweighted, rows.dropped), ignored);
    fill.builder.header_mut().remarks = remarks;
    Ok(fill.builder)
}

fn remarks(
    fill: &Fill<'_>,
    preamble: &Preamble,
    (unweighted, dropped): (u64, u64),
    ignored: &[String],
) -> Vec<String> {
    let k = preamble.top_k;
    let mut remarks = Vec::new();
    if let Some(model) = fill.input.model.filter(|model| model.top_k != k) {
        remarks.push(format!("top-k is {k} as recorded; {} has {}", model.name, model.top_k));
    }
    let mut counted = |count: u64, text: &str| {
        if count > 0 {
            remarks.push(format!("{count} {text}"));
        }
    };
    counted(fill.absent, "(token, layer) pairs are absent and hold no expert");
    counted(fill.partial, &format!("(token, layer) pairs hold fewer than {k} experts"));
    counted(unweighted, "rows have no gate weight, so none is kept");
    counted(dropped, "rows were routed but dropped by the engine; they are kept");
    counted(
        fill.continued,
        "turns continue a conversation; positions count from their first new token",
    );
    if !ignored.is_empty() {
        remarks.push(format!("columns that are not kept: {}", ignored.join(", ")));
    }
    remarks
}

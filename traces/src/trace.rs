//! A recording of expert routing: a header and columns.

use std::ops::Range;

use half::f16;
use moecast_profiles::ids::{ExpertId, MoeLayer};
use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::error::{Error, Result};

/// The id that stands for "no expert": this token chose fewer, or skipped this layer.
pub const NO_EXPERT: u16 = u16::MAX;

/// A file that a trace was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDigest {
    /// File name without its folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a trace is a recording of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format; [`crate::format::VERSION`].
    pub version: u32,
    /// Name of the model, as the recorder gave it; empty when it gave none.
    pub model: String,
    /// Name of the importer or generator.
    pub source: String,
    /// Logical experts per MoE layer.
    pub experts: u16,
    /// Most experts that one token chose in one layer.
    pub top_k: u16,
    /// Absolute layer number of every MoE layer, ascending.
    pub layers: Vec<u16>,
    /// True when a generator made it: shown wherever the trace is shown.
    pub synthetic: bool,
    /// What a reader should know: skipped records, assumptions, oddities.
    pub remarks: Vec<String>,
    /// The files it was made from.
    pub inputs: Vec<InputDigest>,
    /// Names of the request groups that the `domain` column points into.
    pub domains: Vec<String>,
}

impl Header {
    /// A header without remarks, inputs and domains.
    #[must_use]
    pub fn new(source: &str, model: &str, experts: u16, top_k: u16, layers: Vec<u16>) -> Self {
        Self {
            version: crate::format::VERSION,
            model: model.to_owned(),
            source: source.to_owned(),
            experts,
            top_k,
            layers,
            synthetic: false,
            remarks: Vec::new(),
            inputs: Vec::new(),
            domains: Vec::new(),
        }
    }

    /// Number of MoE layers.
    #[must_use]
    pub fn moe_layers(&self) -> usize {
        self.layers.len()
    }

    /// Checks the shape. `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the key that is wrong.
    pub fn validate(&self, path: &str) -> Result<()> {
        let invalid = |key: &str, found: String, expected: &str| {
            Err(Error::invalid(path, format!("header key `{key}`"), found, expected))
        };
        if self.version != crate::format::VERSION {
            return invalid(
                "version",
                self.version.to_string(),
                "1: this file was written by a newer moecast, or is damaged",
            );
        }
        if self.experts == 0 || self.experts == NO_EXPERT {
            return invalid("experts", self.experts.to_string(), "between 1 and 65534");
        }
        if self.top_k == 0 || self.top_k > self.experts {
            return invalid("top_k", self.top_k.to_string(), "between 1 and the experts");
        }
        if self.layers.is_empty() || !self.layers.is_sorted_by(|a, b| a < b) {
            return invalid("layers", format!("{:?}", self.layers), "ascending layer numbers");
        }
        Ok(())
    }
}

/// Which part of a request's life a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A token of the prompt.
    Prefill,
    /// A generated token.
    Decode,
}

impl Phase {
    /// The value in the `phase` column.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Prefill => 0,
            Self::Decode => 1,
        }
    }

    /// The phase of a value of the `phase` column.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Prefill),
            1 => Some(Self::Decode),
            _ => None,
        }
    }
}

/// A recording that knows tokens. Rows are ordered by step; `T` rows, `M` MoE layers, `k` experts.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenColumns {
    /// `[T, M, k]` logical experts, [`NO_EXPERT`] where fewer were chosen.
    pub experts: Column<u16>,
    /// `[T, M, k]` gate weights.
    pub weights: Option<Column<f16>>,
    /// `[T]` request of each token.
    pub request: Column<u32>,
    /// `[T]` position of the token in its request, from 0.
    pub position: Column<u32>,
    /// `[T]` forward pass, never decreasing.
    pub step: Column<u32>,
    /// `[T]` [`Phase::code`].
    pub phase: Column<u8>,
    /// `[T]` index into [`Header::domains`].
    pub domain: Option<Column<u16>>,
}

/// A recording that only counted.
#[derive(Clone, Debug, PartialEq)]
pub struct CountColumns {
    /// `[S, M, E]` tokens that chose each expert, per forward pass or recording window.
    pub counts: Column<u32>,
}

/// The two kinds of recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Events {
    /// Which experts every token chose.
    Tokens(TokenColumns),
    /// How many tokens chose each expert.
    Counts(CountColumns),
}

/// The rows of one forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpan {
    /// Number of the step as recorded.
    pub step: u32,
    /// Rows of the token columns, or the one row of the count columns.
    pub rows: Range<usize>,
}

/// A validated recording of expert routing.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingTrace {
    header: Header,
    events: Events,
    steps: Vec<StepSpan>,
}

impl RoutingTrace {
    /// Checks `events` against `header`. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the tensor and the record that is wrong.
    pub fn new(header: Header, events: Events, path: &str) -> Result<Self> {
        header.validate(path)?;
        let steps = match &events {
            Events::Tokens(columns) => check_tokens(&header, columns, path)?,
            Events::Counts(columns) => check_counts(&header, columns, path)?,
        };
        Ok(Self { header, events, steps })
    }

    /// What this is a recording of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The columns.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The forward passes, in the order of recording.
    #[must_use]
    pub fn steps(&self) -> &[StepSpan] {
        &self.steps
    }

    /// The token columns, where the recording knows tokens.
    #[must_use]
    pub fn tokens(&self) -> Option<&TokenColumns> {
        match &self.events {
            Events::Tokens(columns) => Some(columns),
            Events::Counts(_) => None,
        }
    }

    /// Number of (token) rows; for counts, tokens of the busiest layer summed over steps.
    #[must_use]
    pub fn token_count(&self) -> u64 {
        match &self.events {
            Events::Tokens(columns) => columns.step.len() as u64,
            Events::Counts(_) => {
                (0..self.steps.len()).map(|step| u64::from(self.step_tokens(step))).sum()
            }
        }
    }

    /// Number of distinct requests; `None` where the recording does not know requests.
    #[must_use]
    pub fn request_count(&self) -> Option<usize> {
        self.tokens().map(|columns| distinct(&columns.request))
    }

    /// The experts that token row `row` chose in `layer`, without the "none" entries.
    ///
    /// # Panics
    /// When the recording only counted, or the row or layer is out of range.
    pub fn chosen(&self, row: usize, layer: MoeLayer) -> impl Iterator<Item = ExpertId> + '_ {
        let Events::Tokens(columns) = &self.events else { panic!("a count recording has no rows") };
        let k = usize::from(self.header.top_k);
        let start = (row * self.header.moe_layers() + layer.index()) * k;
        columns.experts[start..start + k]
            .iter()
            .filter(|&&id| id != NO_EXPERT)
            .map(|&id| ExpertId(id))
    }

    /// Tokens of step number `index` of [`Self::steps`]. For counts: those of the busiest layer.
    #[must_use]
    pub fn step_tokens(&self, index: usize) -> u32 {
        match &self.events {
            Events::Tokens(_) => narrow(self.steps[index].rows.len()),
            Events::Counts(columns) => {
                let experts = usize::from(self.header.experts);
                let size = self.header.moe_layers() * experts;
                let row = &columns.counts[index * size..(index + 1) * size];
                let busiest = row
                    .chunks_exact(experts)
                    .map(|layer| layer.iter().map(|&count| u64::from(count)).sum::<u64>())
                    .max();
                let tokens = busiest.unwrap_or(0).div_ceil(u64::from(self.header.top_k));
                u32::try_from(tokens).unwrap_or(u32::MAX)
            }
        }
    }

    /// Adds the tokens that each expert received in step `index`, layer `layer`, to `into` `[E]`.
    pub fn add_step_loads(&self, index: usize, layer: MoeLayer, into: &mut [u32]) {
        let experts = usize::from(self.header.experts);
        match &self.events {
            Events::Tokens(_) => {
                for row in self.steps[index].rows.clone() {
                    for expert in self.chosen(row, layer) {
                        into[expert.index()] += 1;
                    }
                }
            }
            Events::Counts(columns) => {
                let start = (index * self.header.moe_layers() + layer.index()) * experts;
                for (sum, &count) in into.iter_mut().zip(&columns.counts[start..start + experts]) {
                    *sum += count;
                }
            }
        }
    }

    /// Tokens per expert of `layer` over the whole recording, `[E]`.
    #[must_use]
    pub fn layer_loads(&self, layer: MoeLayer) -> Vec<u64> {
        let experts = usize::from(self.header.experts);
        let mut sums = vec![0_u64; experts];
        let mut step_sums = vec![0_u32; experts];
        for index in 0..self.steps.len() {
            step_sums.fill(0);
            self.add_step_loads(index, layer, &mut step_sums);
            for (sum, &count) in sums.iter_mut().zip(&step_sums) {
                *sum += u64::from(count);
            }
        }
        sums
    }

    /// The same recording without the rows that `keep` rejects.
    ///
    /// # Panics
    /// When the recording only counted.
    #[must_use]
    pub fn select_rows(&self, keep: impl Fn(usize) -> bool) -> Self {
        let Events::Tokens(columns) = &self.events else { panic!("a count recording has no rows") };
        let rows: Vec<usize> = (0..columns.step.len()).filter(|&row| keep(row)).collect();
        let width = self.header.moe_layers() * usize::from(self.header.top_k);
        let events = Events::Tokens(TokenColumns {
            experts: gather(&columns.experts, &rows, width),
            weights: columns.weights.as_ref().map(|column| gather(column, &rows, width)),
            request: gather(&columns.request, &rows, 1),
            position: gather(&columns.position, &rows, 1),
            step: gather(&columns.step, &rows, 1),
            phase: gather(&columns.phase, &rows, 1),
            domain: columns.domain.as_ref().map(|column| gather(column, &rows, 1)),
        });
        let Events::Tokens(kept) = &events else { unreachable!("made above") };
        let steps = spans(&kept.step);
        Self { header: self.header.clone(), events, steps }
    }

    /// At most `steps_max` of the steps, evenly spaced; `None` when there are no more than that.
    #[must_use]
    pub fn thinned(&self, steps_max: usize) -> Option<Self> {
        let count = self.steps.len();
        if count <= steps_max {
            return None;
        }
        let kept: Vec<usize> = (0..steps_max).map(|index| index * count / steps_max).collect();
        Some(match &self.events {
            Events::Tokens(_) => {
                let mut wanted = vec![false; self.token_count() as usize];
                for &index in &kept {
                    wanted[self.steps[index].rows.clone()].fill(true);
                }
                self.select_rows(|row| wanted[row])
            }
            Events::Counts(columns) => {
                let size = self.header.moe_layers() * usize::from(self.header.experts);
                let counts = gather(&columns.counts, &kept, size);
                let events = Events::Counts(CountColumns { counts });
                Self { header: self.header.clone(), events, steps: count_spans(steps_max) }
            }
        })
    }

    /// The steps `range` of this recording, without a copy.
    #[must_use]
    pub fn slice_steps(&self, range: Range<usize>) -> Self {
        let events = match &self.events {
            Events::Counts(columns) => {
                let size = self.header.moe_layers() * usize::from(self.header.experts);
                let counts = columns.counts.slice(range.start * size, range.end * size);
                Events::Counts(CountColumns { counts })
            }
            Events::Tokens(columns) => {
                let first = self.steps.get(range.start).map_or(columns.step.len(), |s| s.rows.start);
                let last = self.steps[..range.end].last().map_or(first, |s| s.rows.end);
                let width = self.header.moe_layers() * usize::from(self.header.top_k);
                let wide = (first * width, last * width);
                Events::Tokens(TokenColumns {
                    experts: columns.experts.slice(wide.0, wide.1),
                    weights: columns.weights.as_ref().map(|column| column.slice(wide.0, wide.1)),
                    request: columns.request.slice(first, last),
                    position: columns.position.slice(first, last),
                    step: columns.step.slice(first, last),
                    phase: columns.phase.slice(first, last),
                    domain: columns.domain.as_ref().map(|column| column.slice(first, last)),
                })
            }
        };
        let steps = match &events {
            Events::Tokens(columns) => spans(&columns.step),
            Events::Counts(_) => count_spans(range.len()),
        };
        Self { header: self.header.clone(), events, steps }
    }
}

fn gather<T: bytemuck::Pod>(column: &Column<T>, rows: &[usize], width: usize) -> Column<T> {
    let mut values = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        values.extend_from_slice(&column[row * width..(row + 1) * width]);
    }
    values.into()
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn distinct(values: &[u32]) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

fn spans(steps: &[u32]) -> Vec<StepSpan> {
    let mut start = 0;
    steps
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let rows = start..start + run.len();
            start = rows.end;
            StepSpan { step: run[0], rows }
        })
        .collect()
}

fn count_spans(steps: usize) -> Vec<StepSpan> {
    (0..steps).map(|row| StepSpan { step: narrow(row), rows: row..row + 1 }).collect()
}

fn check_len(path: &str, name: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let place = format!("tensor `{name}`");
    Err(Error::invalid(path, place, format!("{found} values"), format!("{expected} values")))
}

fn check_tokens(header: &Header, columns: &TokenColumns, path: &str) -> Result<Vec<StepSpan>> {
    let tokens = columns.step.len();
    let k = usize::from(header.top_k);
    let wide = tokens * header.moe_layers() * k;
    check_len(path, "experts", columns.experts.len(), wide)?;
    if let Some(weights) = &columns.weights {
        check_len(path, "weights", weights.len(), wide)?;
    }
    check_len(path, "request", columns.request.len(), tokens)?;
    check_len(path, "position", columns.position.len(), tokens)?;
    check_len(path, "phase", columns.phase.len(), tokens)?;
    if let Some(row) = columns.step.windows(2).position(|pair| pair[0] > pair[1]) {
        let found = format!("step {} after {}", columns.step[row + 1], columns.step[row]);
        return Err(Error::invalid(
            path, format!("tensor `step`, row {}", row + 1), found, "steps that never decrease",
        ));
    }
    if let Some(row) = columns.phase.iter().position(|&code| Phase::from_code(code).is_none()) {
        let found = columns.phase[row].to_string();
        let expected = "0 (prefill) or 1 (decode)";
        return Err(Error::invalid(path, format!("tensor `phase`, row {row}"), found, expected));
    }
    if let Some(domain) = &columns.domain {
        check_len(path, "domain", domain.len(), tokens)?;
        let count = header.domains.len();
        if let Some(row) = domain.iter().position(|&index| usize::from(index) >= count) {
            let place = format!("tensor `domain`, row {row}");
            let found = domain[row].to_string();
            return Err(Error::invalid(path, place, found, format!("an index below {count}")));
        }
    }
    check_experts(header, &columns.experts, path)?;
    Ok(spans(&columns.step))
}

/// Every id is an expert or "none", and no token chose one expert twice in a layer.
fn check_experts(header: &Header, experts: &[u16], path: &str) -> Result<()> {
    let k = usize::from(header.top_k);
    for (event, ids) in experts.chunks_exact(k).enumerate() {
        let wrong = ids.iter().find(|&&id| id != NO_EXPERT && id >= header.experts);
        let twice = ids
            .iter()
            .enumerate()
            .find(|(slot, id)| **id != NO_EXPERT && ids[..*slot].contains(id))
            .map(|(_, id)| id);
        let (found, expected) = match (wrong, twice) {
            (Some(id), _) => (format!("expert {id}"), format!("an id below {}", header.experts)),
            (None, Some(id)) => (format!("expert {id} twice"), "distinct experts".to_owned()),
            (None, None) => continue,
        };
        let layer = header.layers[event % header.moe_layers()];
        let place =
            format!("tensor `experts`, token {}, layer {layer}", event / header.moe_layers());
        return Err(Error::invalid(path, place, found, expected));
    }
    Ok(())
}

fn check_counts(header: &Header, columns: &CountColumns, path: &str) -> Result<Vec<StepSpan>> {
    let size = header.moe_layers() * usize::from(header.experts);
    let steps = columns.counts.len() / size;
    check_len(path, "counts", columns.counts.len(), steps * size)?;
    Ok(count_spans(steps))
}

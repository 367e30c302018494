//! A recording of expert routing: a header and columns.

use std::ops::Range;

use half::f16;
use moecast_profiles::ids::{ExpertId, MoeLayer};
use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::error::Result;
use crate::header::Header;

pub(crate) mod check;
mod select;

/// The id that stands for "no expert": this token chose fewer, or skipped this layer.
pub const NO_EXPERT: u16 = u16::MAX;

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
    /// [`crate::Error::Invalid`] names the tensor and the record that is wrong.
    pub fn new(header: Header, events: Events, path: &str) -> Result<Self> {
        header.validate(path)?;
        match &events {
            Events::Tokens(columns) => check::check_tokens(&header, columns, path)?,
            Events::Counts(columns) => check::check_counts(&header, columns, path)?,
        }
        Ok(Self::checked(header, events))
    }

    /// A trace of `events` that are known to hold together.
    pub(crate) fn checked(header: Header, events: Events) -> Self {
        let steps = match &events {
            Events::Tokens(columns) => spans(&columns.step),
            Events::Counts(columns) => {
                let size = header.moe_layers() * usize::from(header.experts);
                count_spans(columns.counts.len() / size)
            }
        };
        Self { header, events, steps }
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

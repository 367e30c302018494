//! Parts of a trace: rows, samples of steps, ranges of steps.

use std::ops::Range;

use super::{CountColumns, Events, RoutingTrace, TokenColumns, count_spans, spans};
use crate::column::Column;

impl RoutingTrace {
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
                let first =
                    self.steps.get(range.start).map_or(columns.step.len(), |s| s.rows.start);
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

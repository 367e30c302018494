//! A part of a recording: some requests, steps, layers, a domain, a phase, the first tokens.

use std::fmt::Debug;
use std::ops::Range;

use crate::column::Column;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::split::domain_index;
use crate::trace::{CountColumns, Events, Phase, RoutingTrace, TokenColumns};

/// What is kept; everything where nothing is said. Ranges end before their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Requests, by their numbers in the recording.
    pub requests: Option<Range<u32>>,
    /// Steps, by their numbers in the recording.
    pub steps: Option<Range<u32>>,
    /// Layers, by the model's own numbers.
    pub layers: Option<Range<u16>>,
    /// Name of a domain.
    pub domain: Option<String>,
    /// Phase.
    pub phase: Option<Phase>,
    /// The first tokens of what is left.
    pub tokens: Option<usize>,
}

impl Selection {
    /// In words, for remarks and errors.
    fn words(&self) -> String {
        fn range<T: Debug>(what: &str, range: Option<&Range<T>>) -> Option<String> {
            range.map(|range| format!("{what} {range:?}"))
        }
        let parts = [
            range("requests", self.requests.as_ref()),
            range("steps", self.steps.as_ref()),
            range("layers", self.layers.as_ref()),
            self.domain.as_ref().map(|name| format!("domain {name}")),
            self.phase.map(|phase| format!("phase {phase:?}").to_lowercase()),
            self.tokens.map(|count| format!("first {count} tokens")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The part of `trace` that `selection` keeps; a remark says what, unless that is all.
///
/// # Errors
/// When nothing is left, the domain is unknown, or counts are to be chosen by what only tokens
/// have.
pub fn slice(trace: &RoutingTrace, selection: &Selection, path: &str) -> Result<RoutingTrace> {
    let rows = match trace.events() {
        Events::Tokens(columns) => token_rows(trace, columns, selection, path)?,
        Events::Counts(columns) => count_rows(trace, columns, selection, path)?,
    };
    let all = match trace.events() {
        Events::Tokens(columns) => columns.step.len(),
        Events::Counts(_) => trace.steps().len(),
    };
    let kind = if trace.tokens().is_some() { "tokens" } else { "steps" };
    let empty = |expected: String| {
        Err(Error::invalid(path, format!("slice {}", selection.words()), "nothing", expected))
    };
    if rows.is_empty() {
        return empty(format!("some {kind} of {}", extent(trace)));
    }
    let header = trace.header();
    let ordinals = ordinals(header, selection.layers.as_ref());
    if ordinals.is_empty() {
        let (low, high) = (header.layers[0], header.layers[header.moe_layers() - 1]);
        return empty(format!("MoE layers, which are from {low} to {high}"));
    }
    if rows.len() == all && ordinals.len() == header.moe_layers() {
        return Ok(trace.clone());
    }
    let mut kept = header.clone();
    kept.layers = header.layers[ordinals.clone()].to_vec();
    if !header.expert_bytes.is_empty() {
        kept.expert_bytes = header.expert_bytes[ordinals.clone()].to_vec();
    }
    let (some, words) = (rows.len(), selection.words());
    kept.remarks.push(format!("a slice: {words} ({some} of {all} {kind})"));
    let events = match trace.events() {
        Events::Tokens(columns) => Events::Tokens(tokens(header, columns, &rows, ordinals)),
        Events::Counts(columns) => {
            let wide = usize::from(header.experts);
            let cells = ordinals.start * wide..ordinals.end * wide;
            let counts = gather(&columns.counts, &rows, header.moe_layers() * wide, cells);
            Events::Counts(CountColumns { counts })
        }
    };
    RoutingTrace::new(kept, events, path)
}

/// What there would be to choose from.
fn extent(trace: &RoutingTrace) -> String {
    let numbers = |numbers: &[u32]| {
        let (low, high) = (numbers.iter().min(), numbers.iter().max());
        low.zip(high).map_or("none".to_owned(), |(low, high)| format!("{low} to {high}"))
    };
    match trace.events() {
        Events::Tokens(columns) => {
            let (requests, steps) = (numbers(&columns.request), numbers(&columns.step));
            format!("requests {requests}, steps {steps}")
        }
        Events::Counts(_) => format!("steps 0 to {}", trace.steps().len().saturating_sub(1)),
    }
}

fn token_rows(
    trace: &RoutingTrace,
    columns: &TokenColumns,
    selection: &Selection,
    path: &str,
) -> Result<Vec<usize>> {
    let domain = match &selection.domain {
        Some(name) => Some(domain_index(&trace.header().domains, name, path)?),
        None => None,
    };
    let within = |range: &Option<Range<u32>>, number: u32| {
        range.as_ref().is_none_or(|range| range.contains(&number))
    };
    let is_of_domain = |row: usize| {
        domain.is_none_or(|index| columns.domain.as_ref().is_some_and(|all| all[row] == index))
    };
    let kept = (0..columns.step.len()).filter(|&row| {
        within(&selection.requests, columns.request[row])
            && within(&selection.steps, columns.step[row])
            && selection.phase.is_none_or(|phase| columns.phase[row] == phase.code())
            && is_of_domain(row)
    });
    Ok(kept.take(selection.tokens.unwrap_or(usize::MAX)).collect())
}

fn count_rows(
    trace: &RoutingTrace,
    columns: &CountColumns,
    selection: &Selection,
    path: &str,
) -> Result<Vec<usize>> {
    let of_tokens =
        Selection { steps: None, layers: None, ..selection.clone() } != Selection::default();
    if of_tokens {
        let found = "a recording that only counted";
        let expected = "a token recording, or --steps and --layers alone";
        return Err(Error::invalid(path, "slice", found, expected));
    }
    let size = trace.header().moe_layers() * usize::from(trace.header().experts);
    debug_assert_eq!(columns.counts.len(), trace.steps().len() * size, "checked when built");
    let kept = trace
        .steps()
        .iter()
        .filter(|span| selection.steps.as_ref().is_none_or(|steps| steps.contains(&span.step)));
    Ok(kept.map(|span| span.rows.start).collect())
}

/// The MoE layers, by ordinal, whose absolute numbers are in `layers`.
fn ordinals(header: &Header, layers: Option<&Range<u16>>) -> Range<usize> {
    let Some(layers) = layers else { return 0..header.moe_layers() };
    let start = header.layers.partition_point(|&layer| layer < layers.start);
    let end = header.layers.partition_point(|&layer| layer < layers.end);
    start..end.max(start)
}

fn tokens(
    header: &Header,
    columns: &TokenColumns,
    rows: &[usize],
    ordinals: Range<usize>,
) -> TokenColumns {
    let k = usize::from(header.top_k);
    let width = header.moe_layers() * k;
    let cells = ordinals.start * k..ordinals.end * k;
    let weights = columns.weights.as_ref();
    TokenColumns {
        experts: gather(&columns.experts, rows, width, cells.clone()),
        weights: weights.map(|weights| gather(weights, rows, width, cells)),
        request: gather(&columns.request, rows, 1, 0..1),
        position: gather(&columns.position, rows, 1, 0..1),
        step: gather(&columns.step, rows, 1, 0..1),
        phase: gather(&columns.phase, rows, 1, 0..1),
        domain: columns.domain.as_ref().map(|domain| gather(domain, rows, 1, 0..1)),
    }
}

/// The cells `cells` of every one of `rows`, which are `width` wide.
fn gather<T: bytemuck::Pod>(
    column: &Column<T>,
    rows: &[usize],
    width: usize,
    cells: Range<usize>,
) -> Column<T> {
    let mut values = Vec::with_capacity(rows.len() * cells.len());
    for &row in rows {
        values.extend_from_slice(&column[row * width + cells.start..row * width + cells.end]);
    }
    values.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{contents, counts, traces};

    fn by(change: impl FnOnce(&mut Selection)) -> Selection {
        let mut selection = Selection::default();
        change(&mut selection);
        selection
    }

    proptest! {
        #[test]
        fn a_slice_of_everything_is_the_identity(trace in traces()) {
            let all = Selection {
                requests: Some(0..u32::MAX),
                steps: Some(0..u32::MAX),
                layers: Some(0..u16::MAX),
                tokens: Some(usize::MAX),
                ..Selection::default()
            };
            prop_assert_eq!(&slice(&trace, &Selection::default(), "t").unwrap(), &trace);
            prop_assert_eq!(&slice(&trace, &all, "t").unwrap(), &trace);
        }

        /// What one phase does not have, the other has.
        #[test]
        fn both_phases_are_the_whole(trace in traces()) {
            let phase = |phase| slice(&trace, &by(|all| all.phase = Some(phase)), "t");
            let parts: Vec<RoutingTrace> =
                [Phase::Prefill, Phase::Decode].into_iter().filter_map(|p| phase(p).ok()).collect();
            let tokens: u64 = parts.iter().map(RoutingTrace::token_count).sum();
            prop_assert_eq!(tokens, trace.token_count());
        }

        #[test]
        fn layers_are_those_of_the_model(trace in traces()) {
            let part = slice(&trace, &by(|all| all.layers = Some(2..5)), "t").unwrap();
            prop_assert_eq!(&part.header().layers, &[2, 4]);
            for (whole, part) in contents(&trace).iter().zip(contents(&part)) {
                prop_assert_eq!(&whole.3[2..], &part.3[..]);
            }
        }
    }

    #[test]
    fn counts_are_sliced_by_steps_and_layers() {
        let trace = counts(&[[1, 2, 3, 4], [5, 6, 7, 8]]);
        let selection = Selection { steps: Some(1..9), layers: Some(4..6), ..Selection::default() };
        let part = slice(&trace, &selection, "t").unwrap();
        let Events::Counts(columns) = part.events() else { panic!("counts stay counts") };
        assert_eq!(&columns.counts[..], [7, 8]);
        assert_eq!(part.header().remarks, ["a slice: steps 1..9, layers 4..6 (1 of 2 steps)"]);
        let error = slice(&trace, &by(|all| all.tokens = Some(3)), "t").unwrap_err().to_string();
        assert!(error.starts_with("t: slice: a recording that only counted"), "{error}");
    }

    #[test]
    fn nothing_is_an_error() {
        let trace = counts(&[[1, 2, 3, 4]]);
        let check = |selection: Selection, expected: &str| {
            assert_eq!(slice(&trace, &selection, "t").unwrap_err().to_string(), expected);
        };
        check(
            by(|all| all.steps = Some(4..9)),
            "t: slice steps 4..9: nothing; expected some steps of steps 0 to 0",
        );
        check(
            by(|all| all.layers = Some(6..9)),
            "t: slice layers 6..9: nothing; expected MoE layers, which are from 3 to 5",
        );
    }
}

//! Builds a trace row by row: what importers and generators push into.

use std::io::Write;

use half::f16;

use self::tally::{Tally, distinct};
use crate::error::{Error, Result};
use crate::format::{self, Tensors};
use crate::header::Header;
use crate::spill::{Pile, Spill};
use crate::trace::check::{Violation, check_counts_len, check_len, experts_in, step_after};
use crate::trace::{CountColumns, Events, NO_EXPERT, Phase, RoutingTrace, TokenColumns};

mod tally;

/// One token of one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct TokenRow<'a> {
    /// Request that the token belongs to.
    pub request: u32,
    /// Position in that request, from 0.
    pub position: u32,
    /// Forward pass.
    pub step: u32,
    /// Prefill or decode.
    pub phase: Phase,
    /// `[M, k]` experts, [`NO_EXPERT`] where none.
    pub experts: &'a [u16],
    /// `[M, k]` gate weights; either every row has them or none.
    pub weights: Option<&'a [f32]>,
}

/// Collects rows and checks each as it comes; what is wrong first is told at the end.
#[derive(Debug)]
pub struct TraceBuilder {
    header: Header,
    spill: Option<Spill>,
    experts: Pile<u16>,
    weights: Pile<f16>,
    request: Pile<u32>,
    position: Pile<u32>,
    step: Pile<u32>,
    phase: Pile<u8>,
    domain: Pile<u16>,
    domain_now: Option<u16>,
    counts: Pile<u32>,
    tally: Tally,
    /// Picks of experts that compute nothing.
    zero_picks: u64,
    /// Room for a row without them.
    row: Vec<u16>,
    fault: Option<Fault>,
}

/// Why rows are no longer kept.
#[derive(Debug)]
enum Fault {
    Row(Violation),
    Spill(Error),
}

/// A trace that was written without being held: its header and its extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What this is a recording of.
    pub header: Header,
    /// As [`RoutingTrace::token_count`].
    pub tokens: u64,
    /// As [`RoutingTrace::request_count`].
    pub requests: Option<usize>,
    /// Number of forward passes.
    pub steps: usize,
}

impl TraceBuilder {
    /// A builder for a trace with `header` that holds everything in memory.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self::spilling(header, None)
    }

    /// A builder for a trace with `header` that writes to temporary files what exceeds the budget
    /// of `spill`.
    #[must_use]
    pub fn spilling(header: Header, spill: Option<&Spill>) -> Self {
        Self {
            header,
            spill: spill.cloned(),
            experts: Pile::default(),
            weights: Pile::default(),
            request: Pile::default(),
            position: Pile::default(),
            step: Pile::default(),
            phase: Pile::default(),
            domain: Pile::default(),
            domain_now: None,
            counts: Pile::default(),
            tally: Tally::default(),
            zero_picks: 0,
            row: Vec::new(),
            fault: None,
        }
    }

    /// The header, to add remarks to.
    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// Says of which of [`Header::domains`] the tokens are that are pushed from now on. Either all
    /// tokens have a domain or none.
    ///
    /// # Panics
    /// When the header names no such domain.
    pub fn set_domain(&mut self, domain: u16) {
        let known = self.header.domains.len();
        assert!(usize::from(domain) < known, "domain {domain} of {known}");
        self.domain_now = Some(domain);
    }

    /// Adds one token. Rows must come in the order of their steps.
    pub fn push_token(&mut self, row: TokenRow<'_>) {
        let width = self.header.moe_layers() * usize::from(self.header.top_k);
        assert_eq!(row.experts.len(), width, "experts of one row are [M, k]");
        if self.fault.is_some() {
            return;
        }
        let mut without = std::mem::take(&mut self.row);
        let experts = self.without_zero_experts(row.experts, &mut without);
        self.push_checked(TokenRow { experts, ..row });
        self.row = without;
    }

    /// The picks of experts that compute: the others are counted and left out.
    fn without_zero_experts<'r>(&mut self, picks: &'r [u16], into: &'r mut Vec<u16>) -> &'r [u16] {
        let Header { experts, zero_experts, .. } = self.header;
        if zero_experts == 0 {
            return picks;
        }
        let zero = experts..experts.saturating_add(zero_experts);
        into.clear();
        into.extend(picks.iter().map(|id| if zero.contains(id) { NO_EXPERT } else { *id }));
        self.zero_picks += picks.iter().filter(|id| zero.contains(id)).count() as u64;
        into
    }

    fn push_checked(&mut self, row: TokenRow<'_>) {
        let width = row.experts.len();
        let (number, before) = (self.step.len(), self.tally.last_step());
        let violation = step_after(number, before, row.step)
            .or_else(|| experts_in(&self.header, number, row.experts));
        if let Some(violation) = violation {
            self.fault = Some(Fault::Row(violation));
            return;
        }
        self.tally.add_token(row.request, row.step);
        self.experts.extend_from_slice(row.experts);
        if let Some(weights) = row.weights {
            assert_eq!(weights.len(), width, "weights of one row are [M, k]");
            self.weights.extend(weights.iter().map(|&weight| f16::from_f32(weight)));
        }
        self.request.extend_from_slice(&[row.request]);
        self.position.extend_from_slice(&[row.position]);
        self.step.extend_from_slice(&[row.step]);
        self.phase.extend_from_slice(&[row.phase.code()]);
        self.domain.extend_from_slice(self.domain_now.as_slice());
        self.keep_budget();
    }

    /// Adds the counts `[M, E]` of one step, or a part of them. A builder takes tokens or counts,
    /// not both.
    pub fn push_counts(&mut self, counts: &[u32]) {
        if self.fault.is_none() {
            self.tally.add_counts(&self.header, counts);
            self.counts.extend_from_slice(counts);
            self.keep_budget();
        }
    }

    /// Makes room for `steps` more steps of counts, so that a large recording is held once.
    pub fn reserve_counts(&mut self, steps: usize) {
        let size = self.header.moe_layers() * usize::from(self.header.experts);
        let bytes = (steps * size).saturating_mul(size_of::<u32>());
        if self.spill.as_ref().is_none_or(|spill| bytes <= spill.budget_bytes) {
            self.counts.reserve(steps * size);
        }
    }

    /// Spills all columns once they are larger than allowed: few long writes are the fastest.
    fn keep_budget(&mut self) {
        let Some(spill) = &self.spill else { return };
        let small = [&self.request, &self.position, &self.step, &self.counts];
        let held = small.iter().map(|column| column.held_bytes()).sum::<usize>()
            + self.experts.held_bytes()
            + self.weights.held_bytes()
            + self.phase.held_bytes()
            + self.domain.held_bytes();
        if held <= spill.budget_bytes {
            return;
        }
        let folder = &spill.folder;
        let small = [&mut self.request, &mut self.position, &mut self.step, &mut self.counts];
        let spilled = small
            .into_iter()
            .try_for_each(|column| column.spill(folder))
            .and_then(|()| self.experts.spill(folder))
            .and_then(|()| self.weights.spill(folder))
            .and_then(|()| self.phase.spill(folder))
            .and_then(|()| self.domain.spill(folder));
        self.fault = spilled.err().map(Fault::Spill);
    }

    /// Whether what was pushed is a trace. `path` is named in errors.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn check(&mut self, path: &str) -> Result<()> {
        self.header.validate(path)?;
        let zero = std::mem::take(&mut self.zero_picks);
        if zero > 0 {
            let (picks, count) = (self.experts.len(), self.header.zero_experts);
            self.header.remarks.push(format!(
                "{zero} of {picks} picks were of the {count} experts that compute nothing"
            ));
        }
        match self.fault.take() {
            Some(Fault::Row(violation)) => return Err(violation.at(path)),
            Some(Fault::Spill(error)) => return Err(error),
            None => {}
        }
        if self.step.len() == 0 {
            return check_counts_len(&self.header, path, self.counts.len());
        }
        assert!(self.counts.len() == 0, "a builder takes tokens or counts, not both");
        if self.weights.len() > 0 {
            check_len(path, "weights", self.weights.len(), self.experts.len())?;
        }
        match self.domain.len() {
            0 => Ok(()),
            found => check_len(path, "domain", found, self.step.len()),
        }
    }

    /// The trace. `path` is named in errors.
    ///
    /// # Errors
    /// When a row holds an expert out of range, twice the same expert, or steps run back, and
    /// when a temporary file could not be written.
    pub fn finish(mut self, path: &str) -> Result<RoutingTrace> {
        self.check(path)?;
        let events = if self.step.len() == 0 {
            Events::Counts(CountColumns { counts: self.counts.column()? })
        } else {
            let (weighted, labelled) = (self.weights.len() > 0, self.domain.len() > 0);
            Events::Tokens(TokenColumns {
                experts: self.experts.column()?,
                weights: weighted.then(|| self.weights.column()).transpose()?,
                request: self.request.column()?,
                position: self.position.column()?,
                step: self.step.column()?,
                phase: self.phase.column()?,
                domain: labelled.then(|| self.domain.column()).transpose()?,
            })
        };
        Ok(RoutingTrace::checked(self.header, events))
    }

    /// Bytes of all columns, which is nearly what [`Self::write_to`] writes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors().bytes()
    }

    /// Writes the trace as [`format::write`] does, without holding or mapping it. `path` is named
    /// in errors.
    ///
    /// # Errors
    /// As [`Self::finish`], and what `into` answers.
    pub fn write_to(mut self, path: &str, into: &mut dyn Write) -> Result<Written> {
        self.check(path)?;
        format::write_tensors(&self.header, self.tensors(), path, into)?;
        let tokens = self.step.len();
        if tokens == 0 {
            let (tokens, steps) = self.tally.counted();
            return Ok(Written { header: self.header, tokens, requests: None, steps });
        }
        let requests = Some(distinct(&self.request, self.tally.request_max())?);
        Ok(Written { header: self.header, tokens, requests, steps: self.tally.steps() })
    }

    fn tensors(&self) -> Tensors<'_> {
        if self.step.len() == 0 {
            return Tensors::Counts(self.counts.bytes());
        }
        Tensors::Tokens {
            experts: self.experts.bytes(),
            weights: (self.weights.len() > 0).then(|| self.weights.bytes()),
            request: self.request.bytes(),
            position: self.position.bytes(),
            step: self.step.bytes(),
            phase: self.phase.bytes(),
            domain: (self.domain.len() > 0).then(|| self.domain.bytes()),
        }
    }

    /// A row of [`NO_EXPERT`] of the right width, to fill in and push.
    #[must_use]
    pub fn empty_row(&self) -> Vec<u16> {
        vec![NO_EXPERT; self.header.moe_layers() * usize::from(self.header.top_k)]
    }
}

#[cfg(test)]
mod tests;

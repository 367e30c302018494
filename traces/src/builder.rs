//! Builds a trace row by row: what importers and generators push into.

use half::f16;

use crate::error::Result;
use crate::header::Header;
use crate::trace::{CountColumns, Events, NO_EXPERT, Phase, RoutingTrace, TokenColumns};

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

/// Collects rows and checks them once, at the end.
#[derive(Debug)]
pub struct TraceBuilder {
    header: Header,
    experts: Vec<u16>,
    weights: Vec<f16>,
    request: Vec<u32>,
    position: Vec<u32>,
    step: Vec<u32>,
    phase: Vec<u8>,
    domain: Vec<u16>,
    domain_now: Option<u16>,
    counts: Vec<u32>,
}

impl TraceBuilder {
    /// A builder for a trace with `header`.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self {
            header,
            experts: Vec::new(),
            weights: Vec::new(),
            request: Vec::new(),
            position: Vec::new(),
            step: Vec::new(),
            phase: Vec::new(),
            domain: Vec::new(),
            domain_now: None,
            counts: Vec::new(),
        }
    }

    /// The header, to add remarks to.
    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// Says of which of [`Header::domains`] the tokens are that are pushed from now on. Either all
    /// tokens have a domain or none.
    pub fn set_domain(&mut self, domain: u16) {
        self.domain_now = Some(domain);
    }

    /// Adds one token. Rows must come in the order of their steps.
    pub fn push_token(&mut self, row: TokenRow<'_>) {
        let width = self.header.moe_layers() * usize::from(self.header.top_k);
        assert_eq!(row.experts.len(), width, "experts of one row are [M, k]");
        self.experts.extend_from_slice(row.experts);
        if let Some(weights) = row.weights {
            assert_eq!(weights.len(), width, "weights of one row are [M, k]");
            self.weights.extend(weights.iter().map(|&weight| f16::from_f32(weight)));
        }
        self.request.push(row.request);
        self.position.push(row.position);
        self.step.push(row.step);
        self.phase.push(row.phase.code());
        self.domain.extend(self.domain_now);
    }

    /// Adds the counts `[M, E]` of one step. A builder takes tokens or counts, not both.
    pub fn push_counts(&mut self, counts: &[u32]) {
        self.counts.extend_from_slice(counts);
    }

    /// Makes room for `steps` more steps of counts, so that a large recording is held once.
    pub fn reserve_counts(&mut self, steps: usize) {
        let size = self.header.moe_layers() * usize::from(self.header.experts);
        self.counts.reserve_exact(steps * size);
    }

    /// Checks what was pushed. `path` is named in errors.
    ///
    /// # Errors
    /// When a row holds an expert out of range, twice the same expert, or steps run back.
    pub fn finish(self, path: &str) -> Result<RoutingTrace> {
        let events = if self.step.is_empty() {
            Events::Counts(CountColumns { counts: self.counts.into() })
        } else {
            assert!(self.counts.is_empty(), "a builder takes tokens or counts, not both");
            let weights = (!self.weights.is_empty()).then(|| self.weights.into());
            Events::Tokens(TokenColumns {
                experts: self.experts.into(),
                weights,
                request: self.request.into(),
                position: self.position.into(),
                step: self.step.into(),
                phase: self.phase.into(),
                domain: (!self.domain.is_empty()).then(|| self.domain.into()),
            })
        };
        RoutingTrace::new(self.header, events, path)
    }

    /// A row of [`NO_EXPERT`] of the right width, to fill in and push.
    #[must_use]
    pub fn empty_row(&self) -> Vec<u16> {
        vec![NO_EXPERT; self.header.moe_layers() * usize::from(self.header.top_k)]
    }
}

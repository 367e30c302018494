//! From the work of a pass to a program: what waits for what, and what may run beside it.
//!
//! Three independent choices make the known schemes: micro-batches that take turns (two-batch
//! overlap), shared experts beside the dispatch (single-batch overlap), and chunks of a layer's
//! exchange (Tutel's and FSMoE's pipelining). Without any, every operation waits for the one
//! before it. Micro-batches give way to each other at the exchanges, as SGLang and DeepSeek issue
//! them: attention of one, attention of the next, then the experts of each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::backward::{Gradients, backward};
use super::{Kind, Operation, Program, Transfer, Work};
use crate::error::{Error, Result};

/// What may run beside what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overlap {
    /// Micro-batches that a batch is cut into; one computes while another communicates.
    pub micro_batches: u8,
    /// Whether shared experts run beside the dispatch instead of before it.
    pub shared_beside: bool,
    /// Parts of an exchange that experts follow one by one.
    pub chunks: u16,
}

impl Default for Overlap {
    fn default() -> Self {
        Self::NONE
    }
}

impl Overlap {
    /// One after the other.
    pub const NONE: Self = Self { micro_batches: 1, shared_beside: false, chunks: 1 };
    /// Shared experts beside the dispatch.
    pub const SINGLE_BATCH: Self = Self { micro_batches: 1, shared_beside: true, chunks: 1 };
    /// Two micro-batches, and shared experts beside the dispatch.
    pub const TWO_BATCH: Self = Self { micro_batches: 2, shared_beside: true, chunks: 1 };

    /// Schemes by name.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("none", Self::NONE),
        ("single-batch", Self::SINGLE_BATCH),
        ("two-batch", Self::TWO_BATCH),
    ];

    /// Whether transfers run while something computes: their multiprocessors are then missing.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::NONE
    }

    /// Whether its figures make sense.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the figure.
    pub fn check(&self) -> Result<()> {
        if !(1..=8).contains(&self.micro_batches) {
            let found = self.micro_batches.to_string();
            return Err(Error::scenario("overlap.micro_batches", found, "1 to 8"));
        }
        if !(1..=256).contains(&self.chunks) {
            let found = self.chunks.to_string();
            return Err(Error::scenario("overlap.chunks", found, "1 to 256"));
        }
        Ok(())
    }
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((name, _)) = Self::NAMED.iter().find(|(_, own)| own == self) {
            return f.write_str(name);
        }
        let Self { micro_batches, chunks, .. } = self;
        let beside = if self.shared_beside { ", shared experts beside dispatch" } else { "" };
        write!(f, "{micro_batches} micro-batches, {chunks} chunks{beside}")
    }
}

/// `[R]` nanoseconds on every rank.
pub type Times = Arc<[f64]>;

/// The work of one layer over one micro-batch.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Attention; `None` where the layer shares that of the one before it.
    pub attention: Option<Times>,
    /// Weights that its experts wait for, and that travel beside its attention.
    pub weights: Option<Arc<Transfer>>,
    /// Its feed-forward part.
    pub feed_forward: FeedForward,
}

/// The feed-forward part of a layer.
#[derive(Clone, Debug)]
pub enum FeedForward {
    /// One network for all tokens.
    Dense(Times),
    /// Experts.
    Experts(Experts),
}

/// The experts of one layer over one micro-batch.
#[derive(Clone, Debug)]
pub struct Experts {
    /// Router.
    pub gate: Times,
    /// Shared experts, where there are any.
    pub shared: Option<Times>,
    /// Routed experts, of one chunk: all chunks are alike.
    pub routed: Times,
    /// To the experts and back, of one chunk; nothing where all ranks hold all tokens.
    pub exchange: Option<[Arc<Transfer>; 2]>,
}

/// Layers of a micro-batch and its head, where that is run.
pub type Batch = (Vec<Layer>, Option<Times>);

/// Puts micro-batches together.
///
/// # Panics
/// When micro-batches have different numbers of layers, or times of other ranks.
#[must_use]
pub fn program(ranks: usize, batches: &[Batch], overlap: &Overlap) -> Program {
    let mut program = Program::new(ranks);
    let mut chains: Vec<Chain> =
        (0..).zip(batches).map(|(batch, _)| Chain { batch, ..Chain::default() }).collect();
    let layers = batches.first().map_or(0, |(layers, _)| layers.len());
    for layer in 0..layers {
        for (chain, (layers, _)) in chains.iter_mut().zip(batches) {
            chain.open(&mut program, layer as u16, &layers[layer], overlap);
        }
        for (chain, (layers, _)) in chains.iter_mut().zip(batches) {
            chain.close(&mut program, layer as u16, &layers[layer], overlap);
        }
    }
    for (chain, (_, head)) in chains.iter_mut().zip(batches) {
        if let Some(head) = head {
            chain.next(&mut program, Kind::Head, layers as u16, head);
        }
    }
    program
}

/// The operations of one micro-batch so far: what its next one waits for.
#[derive(Default)]
struct Chain {
    batch: u8,
    after: Vec<u32>,
    /// Of the layer that is open: dispatches, shared experts beside them, and weights that come.
    sent: Vec<u32>,
    beside: Option<u32>,
    weights: Option<u32>,
}

impl Chain {
    fn add(
        &self,
        program: &mut Program,
        kind: Kind,
        place: (u16, u16),
        work: Work,
        after: &[u32],
    ) -> u32 {
        let (layer, chunk) = place;
        let after = after.to_vec();
        program.add(Operation { kind, layer, batch: self.batch, chunk, work, after })
    }

    /// The next operation of a chain without branches.
    fn next(&mut self, program: &mut Program, kind: Kind, layer: u16, times: &Times) {
        let work = Work::Compute(Arc::clone(times));
        self.after = vec![self.add(program, kind, (layer, 0), work, &self.after)];
    }

    /// Attention up to the dispatch of `layer`: here a micro-batch gives way to the next one.
    fn open(&mut self, program: &mut Program, number: u16, layer: &Layer, overlap: &Overlap) {
        let weights = layer.weights.as_ref().map(|weights| {
            let work = Work::Transfer(Arc::clone(weights));
            self.add(program, Kind::Weights, (number, 0), work, &self.after)
        });
        if let Some(attention) = &layer.attention {
            self.next(program, Kind::Attention, number, attention);
        }
        let experts = match &layer.feed_forward {
            FeedForward::Dense(times) => return self.next(program, Kind::Dense, number, times),
            FeedForward::Experts(experts) => experts,
        };
        self.next(program, Kind::Gate, number, &experts.gate);
        if let (Some(shared), false) = (&experts.shared, overlap.shared_beside) {
            self.next(program, Kind::Shared, number, shared);
        }
        self.sent.clear();
        self.weights = weights;
        for chunk in 0..overlap.chunks {
            if let Some([dispatch, _]) = &experts.exchange {
                let work = Work::Transfer(Arc::clone(dispatch));
                let place = (number, chunk);
                self.sent.push(self.add(program, Kind::Dispatch, place, work, &self.after));
            }
        }
        self.beside = match &experts.shared {
            Some(shared) if overlap.shared_beside => {
                let work = Work::Compute(Arc::clone(shared));
                Some(self.add(program, Kind::Shared, (number, 0), work, &self.after))
            }
            _ => None,
        };
    }

    /// Experts and combine of what was opened.
    fn close(&mut self, program: &mut Program, number: u16, layer: &Layer, overlap: &Overlap) {
        let FeedForward::Experts(experts) = &layer.feed_forward else { return };
        let mut ends: Vec<u32> = self.beside.take().into_iter().collect();
        for chunk in 0..overlap.chunks {
            let sent = self.sent.get(usize::from(chunk));
            let mut after = sent.map_or_else(|| self.after.clone(), |sent| vec![*sent]);
            after.extend(self.weights);
            let work = Work::Compute(Arc::clone(&experts.routed));
            let place = (number, chunk);
            let mut end = self.add(program, Kind::Experts, place, work, &after);
            if let Some([_, combine]) = &experts.exchange {
                let work = Work::Transfer(Arc::clone(combine));
                end = self.add(program, Kind::Combine, place, work, &[end]);
            }
            ends.push(end);
        }
        self.after = ends;
    }
}

//! From the work of a pass to a program: what waits for what, and what may run beside it.
//!
//! Three independent choices make the known schemes: micro-batches that take turns (two-batch
//! overlap), shared experts beside the dispatch (single-batch overlap), and chunks of a layer's
//! exchange (Tutel's and FSMoE's pipelining). Without any, every operation waits for the one
//! before it. Micro-batches are two streams without priorities: a lane takes what has been ready
//! longest. Engines that issue their stages in a fixed order keep lanes busier than that, and lose
//! it again to what nobody has measured here (kernels that slow each other down, waits of the
//! host): with stages in ideal order the published systems are overrated by a fifth to a half.

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
        (0..).zip(batches).map(|(batch, _)| Chain { batch, after: Vec::new() }).collect();
    let layers = batches.first().map_or(0, |(layers, _)| layers.len());
    for layer in 0..layers {
        for (chain, (layers, _)) in chains.iter_mut().zip(batches) {
            chain.layer(&mut program, layer as u16, &layers[layer], overlap);
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
struct Chain {
    batch: u8,
    after: Vec<u32>,
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

    fn layer(&mut self, program: &mut Program, number: u16, layer: &Layer, overlap: &Overlap) {
        let weights = layer.weights.as_ref().map(|weights| {
            let work = Work::Transfer(Arc::clone(weights));
            self.add(program, Kind::Weights, (number, 0), work, &self.after)
        });
        if let Some(attention) = &layer.attention {
            self.next(program, Kind::Attention, number, attention);
        }
        match &layer.feed_forward {
            FeedForward::Dense(times) => self.next(program, Kind::Dense, number, times),
            FeedForward::Experts(experts) => {
                self.experts(program, number, (experts, weights), overlap);
            }
        }
    }

    fn experts(
        &mut self,
        program: &mut Program,
        layer: u16,
        (experts, weights): (&Experts, Option<u32>),
        overlap: &Overlap,
    ) {
        self.next(program, Kind::Gate, layer, &experts.gate);
        if let (Some(shared), false) = (&experts.shared, overlap.shared_beside) {
            self.next(program, Kind::Shared, layer, shared);
        }
        let before = self.after.clone();
        let mut ends = Vec::new();
        let chunks = 0..overlap.chunks;
        let send = |program: &mut Program, chunk, way: usize, after: &[u32]| {
            let [dispatch, combine] = experts.exchange.as_ref()?;
            let (kind, transfer) =
                if way == 0 { (Kind::Dispatch, dispatch) } else { (Kind::Combine, combine) };
            let work = Work::Transfer(Arc::clone(transfer));
            Some(self.add(program, kind, (layer, chunk), work, after))
        };
        let mut sent: Vec<Option<u32>> = Vec::new();
        for chunk in chunks.clone() {
            // One stream sends: a chunk follows the one before it.
            let after = sent.last().copied().flatten().map_or(before.clone(), |last| vec![last]);
            sent.push(send(program, chunk, 0, &after));
        }
        if let (Some(shared), true) = (&experts.shared, overlap.shared_beside) {
            let work = Work::Compute(Arc::clone(shared));
            ends.push(self.add(program, Kind::Shared, (layer, 0), work, &before));
        }
        for (chunk, sent) in chunks.zip(sent) {
            let mut after = sent.map_or_else(|| before.clone(), |sent| vec![sent]);
            after.extend(weights);
            let work = Work::Compute(Arc::clone(&experts.routed));
            let routed = self.add(program, Kind::Experts, (layer, chunk), work, &after);
            ends.push(send(program, chunk, 1, &[routed]).unwrap_or(routed));
        }
        self.after = ends;
    }
}

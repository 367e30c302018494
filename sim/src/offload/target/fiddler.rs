//! Fiddler as coded (arXiv 2402.07033): of all ways to share a layer's experts between GPU and
//! processor, the one with the smallest sum of costs. A sum is smallest when each of its parts is,
//! so that the search is a threshold: the processor takes an expert when it is faster than a copy
//! and the GPU. Cost: one comparison an expert.
//!
//! Departures: costs are those of the work at hand, where the code has 7 a token on the
//! processor and 70 on the GPU, copy included, in no stated unit. An expert in GPU memory costs the
//! GPU nothing, as in the code.

use super::{Asked, At, By, Entry, Target, Work};

pub(super) const ENTRY: Entry = Entry {
    name: "fiddler",
    about: "the processor where it beats copy and GPU, expert by expert (Fiddler as coded)",
    needs_processor: true,
    build: || Box::new(Fiddler),
};

struct Fiddler;

/// Seconds that an expert costs the GPU, copy included, when nothing else is going on; nothing for
/// one that is there.
pub(super) fn alone(asked: &Asked) -> f64 {
    match asked.at {
        At::Gpu(_) => 0.0,
        // Storage is read first whoever computes, so that it decides nothing.
        At::Host(copy) | At::Storage(_, copy) => copy + asked.gpu,
    }
}

impl Target for Fiddler {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        let faster = |asked: &Asked| if asked.cpu < alone(asked) { By::Cpu } else { By::Gpu };
        into.extend(work.asked.iter().map(faster));
    }
}

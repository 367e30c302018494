//! Cache-aware routing (Skliar et al., arXiv 2412.00099): the router's logits are biased towards
//! experts that are in memory, and the first J of a token stay untouched. Cost: as `buddy`.
//!
//! Departure: recordings hold the k chosen experts and not the other logits, so that the bias shows
//! as a probability: a missing expert beyond the first J gives way to the most popular one in
//! memory with probability lambda, drawn from the run's seed.

use moecast_profiles::seed::Generator;
use rand::RngExt as _;

use super::{Entry, Pick, Rule, View, tokens};

pub(super) const ENTRY: Entry = Entry {
    name: "cache-aware",
    about: "missing experts beyond the first J = 1 give way with probability lambda = 0.5",
    versions: 1,
    build: |knobs, seed| {
        Box::new(CacheAware {
            first: tokens::rank(knobs, 0, 1),
            lambda: tokens::knob(knobs, 1, 0.5),
            generator: seed.stream("rule/cache-aware"),
        })
    },
};

struct CacheAware {
    first: u16,
    lambda: f64,
    generator: Generator,
}

impl Rule for CacheAware {
    fn apply(&mut self, view: &View<'_>, picks: &mut Vec<Pick>) {
        let (lambda, generator) = (self.lambda, &mut self.generator);
        tokens::give_way(view, picks, self.first, || generator.random::<f64>() < lambda);
    }
}

//! An expert that is missing and not among a token's first J gives way to one that is there
//! (`BuddyMoE`, arXiv 2511.10054): experts are redundant, and a copy costs more than a little
//! accuracy. Cost: one look-up a pick, and for missing ones a walk down the popular experts.
//!
//! Departure: the paper's buddies are those that are chosen together most often; here the most
//! popular expert in memory stands in, as co-activation does not reach a rule. The weight stays.

use super::{Entry, Pick, Rule, View, tokens};

pub(super) const ENTRY: Entry = Entry {
    name: "buddy",
    about: "missing experts beyond the first J = 1 give way to popular ones in memory (BuddyMoE)",
    versions: 1,
    build: |knobs, _| Box::new(Buddy { first: tokens::rank(knobs, 0, 1) }),
};

struct Buddy {
    first: u16,
}

impl Rule for Buddy {
    fn apply(&mut self, view: &View<'_>, picks: &mut Vec<Pick>) {
        tokens::give_way(view, picks, self.first, || true);
    }
}

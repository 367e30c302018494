//! Experts that are missing and not among a token's first J are left out, as AdapMoE (arXiv
//! 2408.10284) does where a token is not sensitive. Cost: one look-up a pick.
//!
//! Departure: sensitivity is not recorded, so that the rank alone decides.

use super::{Entry, Pick, Rule, View, tokens};

pub(super) const ENTRY: Entry = Entry {
    name: "skip",
    about: "missing experts beyond a token's first J = 1 are left out",
    versions: 1,
    build: |knobs, _| Box::new(Skip { first: tokens::rank(knobs, 0, 1) }),
};

struct Skip {
    first: u16,
}

impl Rule for Skip {
    fn apply(&mut self, view: &View<'_>, picks: &mut Vec<Pick>) {
        tokens::each(picks, |token| {
            tokens::retain(token, |pick| pick.rank < self.first || tokens::cached(view, pick));
        });
    }
}

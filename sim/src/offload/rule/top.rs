//! A token keeps its first J experts, missing or not: fewer experts per token, the plainest way to
//! move less, and the baseline of rules that look at what is in memory. Cost: one comparison a
//! pick.

use super::{Entry, Pick, Rule, View, tokens};

pub(super) const ENTRY: Entry = Entry {
    name: "top",
    about: "a token keeps its first J = 2 experts, whatever is in memory",
    versions: 1,
    build: |knobs, _| Box::new(Top { first: tokens::rank(knobs, 0, 2) }),
};

struct Top {
    first: u16,
}

impl Rule for Top {
    fn apply(&mut self, _: &View<'_>, picks: &mut Vec<Pick>) {
        tokens::each(picks, |token| tokens::retain(token, |pick| pick.rank < self.first));
    }
}

//! Every token gets the experts that it chose.

use super::{Entry, Pick, Rule, View};

pub(super) const ENTRY: Entry = Entry {
    name: "exact",
    about: "what the router chose: the model's own output",
    versions: 1,
    build: |_, _| Box::new(Exact),
};

struct Exact;

impl Rule for Exact {
    fn apply(&mut self, _: &View<'_>, _: &mut Vec<Pick>) {}
}

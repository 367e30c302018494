//! Precision by gate weight (HOBBIT, arXiv 2411.01433): an expert that is missing and matters
//! little to its token is computed from a low-precision copy, or skipped. Cost: one sum a pick.
//!
//! A token's experts are sorted by gate weight; s is the share of the weight that comes BEFORE an
//! expert, so that the first has 0 and is always high. s <= T1: high precision (version 0); T1 < s
//! <= T2: low (version 1); beyond T2: skipped. The share including the expert itself cannot be what
//! was meant: the last of a token's experts would have 1 and always be skipped, half of all with
//! two a token, when 3 % were measured on Mixtral with T1 = 0.6 and T2 = 0.9. An expert that is in
//! GPU memory in high precision is used as it is. Departure: where there is one version only, what
//! should be low is high.

use super::{Entry, Pick, Rule, View, before, tokens};

pub(super) const ENTRY: Entry = Entry {
    name: "hobbit",
    about: "low precision beyond share T1 = 0.6 of the gate weight, skip beyond T2 = 0.9 (HOBBIT)",
    versions: 2,
    build: |knobs, _| {
        let (high, low) = (tokens::knob(knobs, 0, 0.6), tokens::knob(knobs, 1, 0.9));
        Box::new(Hobbit { high: high.max(0.0), low: low.max(0.0) })
    },
};

struct Hobbit {
    /// T1.
    high: f64,
    /// T2.
    low: f64,
}

impl Rule for Hobbit {
    fn apply(&mut self, view: &View<'_>, picks: &mut Vec<Pick>) {
        let mut shares = Vec::new();
        tokens::each(picks, |token| {
            shares.clear();
            shares.extend(before(token));
            let mut shares = shares.iter();
            token.retain_mut(|pick| {
                let share = shares.next().expect("one a pick");
                let version = self.forecast(view, pick.expert, *share);
                pick.version = version.unwrap_or(pick.version);
                version.is_some()
            });
        });
    }

    fn forecast(&self, view: &View<'_>, expert: u16, before: f64) -> Option<u8> {
        if (view.cached)(expert, 0) || before <= self.high {
            Some(0)
        } else if before <= self.low {
            Some(u8::from(view.versions > 1))
        } else {
            None
        }
    }
}

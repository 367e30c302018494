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

use super::{Entry, Pick, Rule, View, tokens};

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
        tokens::each(picks, |token| {
            let total: f64 = token.iter().map(|pick| f64::from(pick.weight)).sum();
            let count = token.len() as f64;
            let (mut before, mut place) = (0.0, 0.0);
            token.retain_mut(|pick| {
                // Weights that say nothing count alike.
                let share = if total > 0.0 { before / total } else { place / count };
                before += f64::from(pick.weight);
                place += 1.0;
                if (view.cached)(pick.expert, 0) || share <= self.high {
                    pick.version = 0;
                    true
                } else {
                    pick.version = u8::from(view.versions > 1);
                    share <= self.low
                }
            });
        });
    }
}

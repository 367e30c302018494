//! Static: experts are ranked by their look-ups in the training part of the recording, and the
//! resident of the lowest rank leaves. So the first ranks never leave once they are in, and one
//! place, or as many as an event needs, is left for everybody else.
//! Cost: constant per look-up; 4 bytes an expert and a bit.
//! Departure: a real static cache would compute the others without keeping them; this one must
//! admit what it loads, which gives its last place away and costs it one expert.

use super::positions::Positions;
use super::{Entry, Item, Keep, Moment, Policy, Sees, Setting};

pub(super) const ENTRY: Entry = Entry {
    name: "static",
    about: "the most used of the training part stay, everybody else passes through",
    sees: Sees::Training,
    build: |setting| Box::new(Static::new(setting)),
};

struct Static {
    /// `[items]` 0 for the most used.
    rank_of: Vec<u32>,
    /// `[items]` who has each rank.
    ranked: Vec<Item>,
    /// Ranks of residents.
    residents: Positions,
}

impl Static {
    fn new(setting: &Setting) -> Self {
        let items = setting.items();
        let uses = |item: Item| setting.trained.get(item as usize).copied().unwrap_or(0);
        let mut ranked: Vec<Item> = (0..items as Item).collect();
        ranked.sort_by_key(|&item| (std::cmp::Reverse(uses(item)), item));
        let mut rank_of = vec![0; items];
        for (rank, &item) in (0..).zip(&ranked) {
            rank_of[item as usize] = rank;
        }
        Self { rank_of, ranked, residents: Positions::new(items) }
    }
}

impl Policy for Static {
    #[inline]
    fn hit(&mut self, _: Item, _: Moment) {}

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.insert(self.rank_of[item as usize] as usize);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let mut last = self.residents.last_before(usize::MAX);
        while let Some(rank) = last {
            if keep.allows(self.ranked[rank]) {
                return Some(self.ranked[rank]);
            }
            last = self.residents.last_before(rank);
        }
        None
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(self.rank_of[item as usize] as usize);
    }
}

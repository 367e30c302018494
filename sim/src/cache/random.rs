//! Random: anybody leaves. The yardstick for policies that believe they know better.
//! Cost: constant per look-up; 8 bytes an expert.

use moecast_profiles::seed::Generator;
use rand::RngExt;

use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "random",
    about: "anybody leaves, drawn by the seed",
    sees: Sees::Past,
    build: |setting| {
        let residents = Residents::new(setting.items());
        Box::new(Random { residents, draws: setting.seed.stream("cache/random") })
    },
};

struct Random {
    residents: Residents,
    draws: Generator,
}

impl Policy for Random {
    #[inline]
    fn hit(&mut self, _: Item, _: Moment) {}

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.add(item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let all = self.residents.all();
        if all.is_empty() {
            return None;
        }
        // From a random place on, so that one draw is enough whoever must stay.
        let start = self.draws.random_range(0..all.len());
        let (before, from) = all.split_at(start);
        from.iter().chain(before).copied().find(|&item| keep.allows(item))
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}

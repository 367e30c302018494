//! Policies whose hits of single look-ups, with experts of one size, follow from the look-ups
//! alone: no pool has to be asked, and no list of residents to be kept in order.

mod optimum;
mod recent;

use crate::cache::Item;

/// One pool's look-ups, one after the other.
pub(super) trait Alone: Send {
    /// Looks up `items`; `found` says which of them hit.
    fn run(&mut self, items: &[Item], found: &mut [bool]);
}

/// `policy` for a pool of `slots` of `items` that is asked for at most `look_ups` times.
pub(super) fn find(
    policy: &str,
    items: usize,
    slots: usize,
    look_ups: usize,
) -> Option<Box<dyn Alone>> {
    match policy {
        "belady" => Some(Box::new(optimum::Optimum::new(items, slots, look_ups))),
        "lru" => Some(Box::new(recent::Recent::new(items, slots))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use moecast_profiles::seed::Seed;
    use moecast_traces::future::NextUse;
    use proptest::prelude::*;

    use crate::cache::{self, Setting};
    use crate::residency::Pool;

    proptest! {
        /// Look-up by look-up the same as a pool that the policy decides for.
        #[test]
        fn who_needs_no_pool_finds_what_pools_find(
            uses in prop::collection::vec(0_u32..40, 1..6000), slots in 1_usize..42,
        ) {
            for name in ["belady", "lru"] {
                let setting = Setting {
                    layers: 1,
                    experts: 40,
                    versions: 1,
                    top_k: 1,
                    slots,
                    seed: Seed(0),
                    trained: Vec::new().into(),
                    future: Some(Arc::new(NextUse::new(40, &uses))),
                };
                let mut policy = (cache::find(name).unwrap().build)(&setting);
                let mut pool = Pool::new(vec![1; 40].into(), slots as u64);
                let mut expected = vec![false; uses.len()];
                policy.run(&mut pool, &uses, &mut expected);
                let mut found = vec![false; uses.len()];
                let mut alone = super::find(name, 40, slots, uses.len()).unwrap();
                for (uses, found) in uses.chunks(7).zip(found.chunks_mut(7)) {
                    alone.run(uses, found);
                }
                prop_assert_eq!(found, expected, "{}", name);
            }
        }
    }
}

//! Laws that every policy keeps, whatever its name, and plain references for the classic ones.

use std::sync::Arc;

use moecast_profiles::seed::Seed;
use proptest::prelude::*;

use super::*;
use crate::residency::{Looked, Pool};

mod naive;

fn setting(layers: usize, experts: usize, slots: usize, uses: &[Item]) -> Setting {
    let items = layers * experts;
    let mut trained = vec![0; items];
    uses.iter().for_each(|&item| trained[item as usize] += 1);
    Setting {
        layers,
        experts,
        versions: 1,
        top_k: 2,
        slots,
        seed: Seed(7),
        trained: trained.into(),
        future: Some(Arc::new(NextUse::new(items, uses))),
    }
}

fn hits_of(policy: &mut dyn Policy, pool: &mut Pool, uses: &[Item]) -> u64 {
    let mut found = vec![false; uses.len()];
    policy.run(pool, uses, &mut found);
    found.iter().map(|&hit| u64::from(hit)).sum()
}

/// Hits of single look-ups.
fn access_hits(entry: &Entry, items: usize, slots: usize, uses: &[Item]) -> u64 {
    let setting = setting(1, items, slots, uses);
    let mut policy = (entry.build)(&setting);
    let mut pool = Pool::new(vec![1; items].into(), slots as u64);
    let hits = hits_of(&mut *policy, &mut pool, uses);
    assert!(pool.used() <= slots as u64);
    hits
}

/// Events of layers in turn; experts of one event are distinct picks of one or several tokens.
fn events() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let event = prop::collection::vec(0_u16..6, 1..6);
    prop::collection::vec(event, 1..60)
}

/// The distinct items of each event, one after the other: what positions count.
fn look_ups(events: &[Vec<u16>], layers: usize) -> Vec<Item> {
    let mut all = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let layer = index % layers;
        let start = all.len();
        for &expert in event {
            let item = (layer * 6 + usize::from(expert)) as Item;
            if !all[start..].contains(&item) {
                all.push(item);
            }
        }
    }
    all
}

/// Hits of every event, replayed as one.
fn event_hits(entry: &Entry, events: &[Vec<u16>], layers: usize, capacity: u64) -> Vec<Looked> {
    let uses = look_ups(events, layers);
    let setting = setting(layers, 6, capacity as usize, &uses);
    let mut policy = (entry.build)(&setting);
    let mut pool = Pool::new(vec![1; setting.items()].into(), capacity);
    let mut answers = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let layer = (index % layers) as u16;
        let mut experts: Vec<u16> = Vec::new();
        let mut counts = Vec::new();
        for &expert in event {
            match experts.iter().position(|&known| known == expert) {
                Some(place) => counts[place] += 1,
                None => {
                    experts.push(expert);
                    counts.push(1);
                }
            }
        }
        let weights: Vec<f32> = counts.iter().map(|&count| count as f32 / 2.0).collect();
        let tokens = event.len() as u32;
        policy.routed(&Routed {
            layer,
            tokens,
            experts: &experts,
            counts: &counts,
            weights: &weights,
        });
        let picks: Vec<Item> =
            event.iter().map(|&expert| Item::from(layer) * 6 + Item::from(expert)).collect();
        let before: Vec<bool> = (0..setting.items() as Item).map(|item| pool.holds(item)).collect();
        let mut looked = Looked::default();
        pool.look_up(&mut *policy, &picks, layer, &mut looked);
        let held = (0..setting.items() as Item).filter(|&item| pool.holds(item)).count();
        assert_eq!(pool.used(), held as u64, "{}: what is used is what is held", entry.name);
        assert!(pool.used() <= capacity, "{}: above its capacity", entry.name);
        assert!(looked.hits.iter().all(|&item| before[item as usize]));
        assert!(looked.misses.iter().all(|&item| !before[item as usize]));
        let distinct = experts.len();
        assert_eq!(looked.hits.len() + looked.misses.len(), distinct, "{}", entry.name);
        if distinct as u64 <= capacity {
            assert!(picks.iter().all(|&item| pool.holds(item)), "{}: evicts its own", entry.name);
        }
        answers.push(looked);
    }
    assert_eq!(pool.position(), uses.len() as u64);
    answers
}

fn hits(answers: &[Looked]) -> usize {
    answers.iter().map(|looked| looked.hits.len()).sum()
}

proptest! {
    #[test]
    fn every_policy_keeps_the_laws_of_events(
        events in events(), layers in 1_usize..4, capacity in 1_u64..24,
    ) {
        let bound = hits(&event_hits(find("belady").unwrap(), &events, layers, capacity));
        let cold = {
            let mut uses = look_ups(&events, layers);
            let all = uses.len();
            uses.sort_unstable();
            uses.dedup();
            all - uses.len()
        };
        for entry in ALL {
            let answers = event_hits(entry, &events, layers, capacity);
            prop_assert_eq!(&answers, &event_hits(entry, &events, layers, capacity));
            // The bound needs the room of an event: below that everybody must throw away.
            if capacity >= 6 {
                prop_assert!(hits(&answers) <= bound, "{} beats the oracle", entry.name);
            }
            if capacity >= 6 * layers as u64 {
                prop_assert_eq!(hits(&answers), cold, "{} misses twice with room", entry.name);
            }
        }
    }

    #[test]
    fn every_policy_keeps_the_laws_of_single_look_ups(
        uses in prop::collection::vec(0_u32..20, 1..300), slots in 1_usize..25,
    ) {
        let bound = access_hits(find("belady").unwrap(), 20, slots, &uses);
        let mut distinct = uses.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for entry in ALL {
            let hits = access_hits(entry, 20, slots, &uses);
            prop_assert_eq!(hits, access_hits(entry, 20, slots, &uses));
            prop_assert!(hits <= bound, "{}: {} hits of {}", entry.name, hits, bound);
            if slots >= 20 {
                prop_assert_eq!(hits as usize, uses.len() - distinct.len(), "{}", entry.name);
            }
        }
    }

    /// Sizes differ, capacities are bytes: nobody is above, and everything that can be resident is.
    #[test]
    fn every_policy_works_in_bytes(
        uses in prop::collection::vec(0_u32..20, 1..200), capacity in 1_u64..60,
    ) {
        let sizes: Arc<[u64]> = (0..20).map(|item| 1 + item % 5).collect();
        for entry in ALL {
            let slots = (capacity / 3).max(1) as usize;
            let mut policy = (entry.build)(&setting(1, 20, slots, &uses));
            let mut pool = Pool::new(Arc::clone(&sizes), capacity);
            for &item in &uses {
                pool.look_up(&mut *policy, &[item], 0, &mut Looked::default());
                prop_assert!(pool.used() <= capacity, "{}", entry.name);
                prop_assert_eq!(pool.holds(item), sizes[item as usize] <= capacity);
            }
        }
    }

    /// Prefetched experts were not looked up; they may be evicted like all others.
    #[test]
    fn every_policy_takes_prefetched_experts(
        uses in prop::collection::vec((0_u32..20, any::<bool>()), 1..200), slots in 1_usize..12,
    ) {
        let looked = uses.iter().filter(|(_, ahead)| !ahead);
        let looked: Vec<Item> = looked.map(|&(item, _)| item).collect();
        for entry in ALL {
            let mut policy = (entry.build)(&setting(1, 20, slots, &looked));
            let mut pool = Pool::new(vec![1; 20].into(), slots as u64);
            for &(item, ahead) in &uses {
                let at = pool.moment(0);
                if !ahead {
                    pool.look_up(&mut *policy, &[item], 0, &mut Looked::default());
                } else if !pool.holds(item) {
                    pool.classify(&[], &mut Looked::default());
                    prop_assert!(pool.prefetch(&mut *policy, item, at, &mut Vec::new()));
                }
                prop_assert!(pool.holds(item) && pool.used() <= slots as u64, "{}", entry.name);
            }
        }
    }

    #[test]
    fn classic_policies_equal_their_plain_references(
        uses in prop::collection::vec(0_u32..24, 1..400), slots in 1_usize..20,
    ) {
        for (name, reference) in naive::ALL {
            let expected = reference(&uses, slots);
            let found = access_hits(find(name).unwrap(), 24, slots, &uses);
            prop_assert_eq!(found, expected, "{} with {} slots", name, slots);
        }
    }
}

#[test]
fn the_static_policy_keeps_what_training_saw_most() {
    // Training: 0 and 1 are used most. Of three slots the third changes hands.
    let mut of_training = setting(1, 6, 3, &[]);
    of_training.trained = vec![9, 8, 1, 1, 1, 1].into();
    let mut policy = (find("static").unwrap().build)(&of_training);
    let mut pool = Pool::new(vec![1; 6].into(), 3);
    assert_eq!(hits_of(&mut *policy, &mut pool, &[0, 1, 2, 3, 4, 5, 0, 1, 5, 4, 1]), 4);
    assert!(pool.holds(0) && pool.holds(1) && pool.holds(4));
}

#[test]
fn the_lowest_running_mean_of_scores_leaves() {
    let mut policy = (find("mrs").unwrap().build)(&setting(1, 4, 2, &[]));
    let mut pool = Pool::new(vec![1; 4].into(), 2);
    let mut event = |experts: &[u16], weights: &[f32], picks: &[Item]| {
        let counts = vec![1; experts.len()];
        policy.routed(&Routed { layer: 0, tokens: 1, experts, counts: &counts, weights });
        pool.look_up(&mut *policy, picks, 0, &mut Looked::default());
    };
    event(&[0, 1], &[0.9, 0.1], &[0, 1]);
    // Means are 0.225, 0.025 and 0.5: expert 1 leaves though both were used in the same event.
    event(&[2], &[1.0], &[2]);
    assert!(pool.holds(0) && pool.holds(2) && !pool.holds(1));
}

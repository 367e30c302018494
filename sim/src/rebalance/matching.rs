//! A proposed layer relabelled so that few experts move.
//!
//! Slots of a rank are alike, and so are ranks of a node: which of them holds a set of experts
//! changes no load. Ranks of a node are matched greedily, the largest overlap first; then every
//! expert that its rank holds already stays in its slot. vLLM's port of EPLB does the latter.

use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::{ExpertId, Rank};

/// `new` `[P]` with its slots relabelled to move as few experts away from `old` as is known.
pub(super) fn settle(hardware: &Hardware, old: &[ExpertId], new: &[ExpertId]) -> Vec<ExpertId> {
    let per_rank = old.len() / usize::from(hardware.ranks());
    let as_proposed = stay(old, new, per_rank);
    let matched = stay(old, &match_ranks(hardware, old, new, per_rank), per_rank);
    // Greedy is not optimal: it must not be worse than doing nothing.
    let moves = |settled: &[ExpertId]| settled.iter().zip(old).filter(|(a, b)| a != b).count();
    if moves(&matched) < moves(&as_proposed) { matched } else { as_proposed }
}

/// `new` with the ranks of every node in the order that overlaps most with `old`.
fn match_ranks(
    hardware: &Hardware,
    old: &[ExpertId],
    new: &[ExpertId],
    per_rank: usize,
) -> Vec<ExpertId> {
    let held = |slots: &[ExpertId], rank: usize| {
        let mut held = slots[rank * per_rank..(rank + 1) * per_rank].to_vec();
        held.sort_unstable();
        held
    };
    let mut matched = new.to_vec();
    let size = usize::from(hardware.gpus_per_node());
    for first in (0..usize::from(hardware.ranks())).step_by(size) {
        debug_assert_eq!(
            hardware.node_of(Rank(u16::try_from(first).expect("ranks are u16"))),
            u16::try_from(first / size).expect("nodes are u16")
        );
        let ranks = first..first + size;
        let before: Vec<_> = ranks.clone().map(|rank| held(old, rank)).collect();
        let after: Vec<_> = ranks.map(|rank| held(new, rank)).collect();
        let mut pairs = Vec::with_capacity(size * size);
        for (to, kept) in before.iter().enumerate() {
            for (from, wanted) in after.iter().enumerate() {
                pairs.push((common(kept, wanted), to, from));
            }
        }
        // Equal overlaps in the order of ranks.
        pairs.sort_by_key(|&(overlap, to, from)| (std::cmp::Reverse(overlap), to, from));
        let (mut taken, mut given) = (vec![false; size], vec![false; size]);
        for (_, to, from) in pairs {
            if !taken[to] && !given[from] {
                (taken[to], given[from]) = (true, true);
                let (to, from) = ((first + to) * per_rank, (first + from) * per_rank);
                matched[to..to + per_rank].copy_from_slice(&new[from..from + per_rank]);
            }
        }
    }
    matched
}

/// Entries that two sorted lists share, as often as both hold them.
fn common(left: &[ExpertId], right: &[ExpertId]) -> usize {
    let (mut a, mut b, mut count) = (0, 0, 0);
    while a < left.len() && b < right.len() {
        match left[a].cmp(&right[b]) {
            std::cmp::Ordering::Less => a += 1,
            std::cmp::Ordering::Greater => b += 1,
            std::cmp::Ordering::Equal => (a, b, count) = (a + 1, b + 1, count + 1),
        }
    }
    count
}

/// `new` with every expert that its rank held already in a slot where it was.
fn stay(old: &[ExpertId], new: &[ExpertId], per_rank: usize) -> Vec<ExpertId> {
    let mut settled = Vec::with_capacity(new.len());
    for (old, new) in old.chunks(per_rank).zip(new.chunks(per_rank)) {
        let mut coming = new.to_vec();
        let kept: Vec<Option<ExpertId>> = old
            .iter()
            .map(|expert| {
                let place = coming.iter().position(|other| other == expert)?;
                Some(coming.remove(place))
            })
            .collect();
        let mut coming = coming.into_iter();
        let place = |kept: Option<ExpertId>| {
            kept.unwrap_or_else(|| coming.next().expect("as many come as do not stay"))
        };
        settled.extend(kept.into_iter().map(place));
    }
    settled
}

#[cfg(test)]
mod tests {
    use moecast_profiles::builtin;
    use proptest::prelude::*;

    use super::*;

    fn ids(experts: &[u16]) -> Vec<ExpertId> {
        experts.iter().copied().map(ExpertId).collect()
    }

    fn machine(nodes: u16, gpus: u16) -> Hardware {
        Hardware::new(builtin::device("h200-sxm").unwrap(), nodes, gpus).unwrap()
    }

    #[test]
    fn slots_and_ranks_are_relabelled() {
        let old = ids(&[0, 1, 2, 3]);
        // Within a rank: nothing moves.
        assert_eq!(settle(&machine(1, 2), &old, &ids(&[1, 0, 3, 2])), old);
        // Ranks of a node may change names; nodes may not, for they are far apart.
        assert_eq!(settle(&machine(1, 2), &old, &ids(&[2, 3, 0, 1])), old);
        assert_eq!(settle(&machine(2, 1), &old, &ids(&[2, 3, 0, 1])), ids(&[2, 3, 0, 1]));
        // Experts 0 and 3 change places: 1 and 2 stay where they are.
        assert_eq!(settle(&machine(2, 1), &old, &ids(&[1, 3, 0, 2])), ids(&[3, 1, 2, 0]));
    }

    proptest! {
        /// Every node keeps what was proposed for it, and no more moves than without relabelling.
        #[test]
        fn relabelling_loses_nothing(
            old in prop::collection::vec(0_u16..6, 12),
            new in prop::collection::vec(0_u16..6, 12),
        ) {
            let (old, new) = (ids(&old), ids(&new));
            let settled = settle(&machine(2, 3), &old, &new);
            for (was, is) in new.chunks(6).zip(settled.chunks(6)) {
                let sets = |slots: &[ExpertId]| {
                    let mut ranks: Vec<Vec<_>> = slots.chunks(2).map(<[_]>::to_vec).collect();
                    ranks.iter_mut().for_each(|rank| rank.sort_unstable());
                    ranks.sort();
                    ranks
                };
                prop_assert_eq!(sets(was), sets(is));
            }
            let moves = |to: &[ExpertId]| to.iter().zip(&old).filter(|(a, b)| a != b).count();
            prop_assert!(moves(&settled) <= moves(&new));
            prop_assert_eq!(settle(&machine(2, 3), &old, &old), old);
        }
    }
}

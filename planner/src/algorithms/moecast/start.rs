//! Where the search starts: EPLB's rule without its waste.

use crate::search::Layout;

/// Copies by load per copy, at most one per rank; then longest processing time first, never two
/// copies of one expert on one rank.
pub(super) fn start(weight: &[f64], slots: usize, ranks: usize) -> Layout {
    let copies = replicate(weight, slots, ranks);
    let share = |expert: usize| weight[expert] / f64::from(copies[expert]);
    let mut order: Vec<usize> = (0..weight.len()).collect();
    order.sort_by(|&left, &right| share(right).total_cmp(&share(left)));
    let per_rank = slots / ranks;
    let mut held: Vec<Vec<usize>> = vec![Vec::with_capacity(per_rank); ranks];
    let mut load = vec![0.0_f64; ranks];
    for expert in order {
        for _ in 0..copies[expert] {
            let free = (0..ranks)
                .filter(|&rank| held[rank].len() < per_rank && !held[rank].contains(&expert))
                .min_by(|&left, &right| load[left].total_cmp(&load[right]));
            if let Some(rank) = free {
                held[rank].push(expert);
                load[rank] += share(expert);
            } else {
                make_room(&mut held, &mut load, per_rank, expert, share);
            }
        }
    }
    Layout::new(weight.len(), ranks, held.concat())
}

fn replicate(weight: &[f64], slots: usize, ranks: usize) -> Vec<u32> {
    let mut copies = vec![1_u32; weight.len()];
    for _ in weight.len()..slots {
        let share = |expert: usize| weight[expert] / f64::from(copies[expert]);
        // Of equals the one with fewer copies, then the first.
        let heaviest = (0..weight.len())
            .filter(|&expert| (copies[expert] as usize) < ranks)
            .min_by(|&left, &right| {
                let heavier = share(right).total_cmp(&share(left));
                heavier.then(copies[left].cmp(&copies[right]))
            });
        copies[heaviest.expect("at most one slot per expert and rank")] += 1;
    }
    copies
}

/// Every rank with room holds `expert` already: one of them takes an expert from a full rank that
/// lacks it. There is one, because a full rank holds more other experts than a rank with room.
fn make_room(
    held: &mut [Vec<usize>],
    load: &mut [f64],
    per_rank: usize,
    expert: usize,
    share: impl Fn(usize) -> f64,
) {
    let open = held.iter().position(|slots| slots.len() < per_rank).expect("there is a free slot");
    let (full, index) = (0..held.len())
        .filter(|&rank| !held[rank].contains(&expert))
        .find_map(|rank| {
            let gives = |other: &usize| !held[open].contains(other);
            held[rank].iter().position(gives).map(|index| (rank, index))
        })
        .expect("a rank that lacks the expert holds one that the open rank lacks");
    let moved = std::mem::replace(&mut held[full][index], expert);
    held[open].push(moved);
    load[full] += share(expert) - share(moved);
    load[open] += share(moved);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_go_where_the_load_is_but_never_twice_to_a_rank() {
        // EPLB would give expert 0 both spare slots and one rank two of its three copies.
        let layout = start(&[12.0, 1.0, 1.0, 1.0], 6, 2);
        assert_eq!((layout.copies(0), layout.copies(1)), (2, 2));
        assert!(layout.holds(0, 0) && layout.holds(1, 0));
    }

    #[test]
    fn every_shape_is_filled() {
        for (experts, ranks) in [(1, 1), (1, 4), (3, 2), (4, 4), (5, 3)] {
            for per_rank in 1..=experts {
                let slots = per_rank * ranks;
                if slots >= experts {
                    // `Layout` refuses wasted slots.
                    let weight: Vec<f64> = (0..experts).map(|e| (e * e) as f64).collect();
                    assert_eq!(start(&weight, slots, ranks).slots().len(), slots);
                }
            }
        }
    }
}

//! How many cache slots each layer gets, from the time that each number of slots saves.
//!
//! Where every layer gains less by each further slot, giving the next slot to the layer that gains
//! most is optimal: an exchange of any two slots cannot win. Recorded gains often are not like
//! that (an LRU that is smaller than a cycle of the trace gains nothing until it is not), so the
//! others are solved by dynamic programming over layers, exactly: with `M` layers, `B` slots and at
//! most `S` of a layer, O(M B S) time. Only two rows of sums are held: layers are halved, the
//! halves are solved for every budget, the best division is kept, and each half is solved again by
//! itself (Hirschberg, CACM 1975), which doubles the time and needs O(B) memory. A model of 94
//! layers and 128 experts at half of its slots is 72 million additions, twice.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Slots of each layer `[M]` that save the most together, at most `budget` in all.
///
/// `gain[l][s]` is what layer `l` saves with `s` slots, in any unit of time; the length of the row
/// says how many slots the layer can have, `gain[l].len() - 1`. Gains need neither rise nor be
/// concave; one that is not finite cannot be chosen. A slot that saves nothing is not given away.
/// Rows that are empty get no slot.
#[must_use]
pub fn allocate(gain: &[Vec<f64>], budget: usize) -> Vec<u32> {
    match greedy(gain, budget) {
        Some(slots) => slots,
        None => exact(gain, budget),
    }
}

/// What `slots` save; slots beyond a row's end save what the row's end does.
#[must_use]
pub fn saved(gain: &[Vec<f64>], slots: &[u32]) -> f64 {
    let of = |(row, &count): (&Vec<f64>, &u32)| {
        row.get(count as usize).or(row.last()).copied().unwrap_or(0.0)
    };
    gain.iter().zip(slots).map(of).sum()
}

/// The next slot of a layer and what it would add.
struct Next {
    added: f64,
    layer: usize,
    slots: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.added.total_cmp(&other.added).then(other.layer.cmp(&self.layer))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

/// Slot by slot to the layer that gains most; `None` where a layer's gains are not concave.
fn greedy(gain: &[Vec<f64>], budget: usize) -> Option<Vec<u32>> {
    if !gain.iter().all(|row| is_concave(row)) {
        return None;
    }
    let mut slots = vec![0_u32; gain.len()];
    let next = |layer: usize, slots: usize| {
        let row = &gain[layer];
        let added = row.get(slots)? - row[slots - 1];
        (added > 0.0).then_some(Next { added, layer, slots })
    };
    let mut heap: BinaryHeap<Next> = (0..gain.len()).filter_map(|layer| next(layer, 1)).collect();
    for _ in 0..budget {
        let Some(best) = heap.pop() else { break };
        slots[best.layer] += 1;
        heap.extend(next(best.layer, best.slots + 1));
    }
    Some(slots)
}

fn is_concave(row: &[f64]) -> bool {
    row.iter().all(|gain| gain.is_finite())
        && row.windows(3).all(|three| three[1] - three[0] >= three[2] - three[1])
}

/// Dynamic programming, whatever the gains are.
fn exact(gain: &[Vec<f64>], budget: usize) -> Vec<u32> {
    let mut slots = vec![0; gain.len()];
    divide(gain, budget.min(most(gain)), &mut slots);
    slots
}

fn most(gain: &[Vec<f64>]) -> usize {
    gain.iter().map(|row| row.len().saturating_sub(1)).sum()
}

fn divide(gain: &[Vec<f64>], budget: usize, slots: &mut [u32]) {
    match gain {
        [] => {}
        [row] => {
            // The first of equals: no slot for nothing.
            let mut best = (0, row.first().copied().filter(|gain| gain.is_finite()));
            for (count, &gain) in row.iter().enumerate().take(budget + 1) {
                if gain.is_finite() && best.1.is_none_or(|known| gain > known) {
                    best = (count, Some(gain));
                }
            }
            slots[0] = u32::try_from(best.0).expect("budget + 1 rows fit a memory");
        }
        _ => {
            let (left, right) = gain.split_at(gain.len() / 2);
            let (first, second) = (sums(left, budget), sums(right, budget));
            let mut best = (0, f64::NEG_INFINITY);
            for count in 0..=budget {
                let sum = first[count] + second[budget - count];
                if sum > best.1 {
                    best = (count, sum);
                }
            }
            let (to_left, to_right) = slots.split_at_mut(left.len());
            divide(left, best.0.min(most(left)), to_left);
            divide(right, (budget - best.0).min(most(right)), to_right);
        }
    }
}

/// `[budget + 1]` the most that all layers of `gain` save with at most so many slots.
fn sums(gain: &[Vec<f64>], budget: usize) -> Vec<f64> {
    let mut sums = vec![0.0; budget + 1];
    for row in gain.iter().filter(|row| !row.is_empty()) {
        let mut next = vec![f64::NEG_INFINITY; budget + 1];
        for (count, &gain) in row.iter().enumerate().take(budget + 1) {
            if gain.is_finite() {
                for (best, before) in next[count..].iter_mut().zip(&sums) {
                    *best = best.max(before + gain);
                }
            }
        }
        sums = next;
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cliff_is_jumped_that_greed_would_not_climb() {
        // Layer 0 saves nothing until it has three slots; layer 1 saves a little by each.
        let gain = [vec![0.0, 0.0, 0.0, 9.0], vec![0.0, 2.0, 3.0, 3.5]];
        assert_eq!(allocate(&gain, 3), [3, 0]);
        assert_eq!(allocate(&gain, 2), [0, 2]);
        assert_eq!(allocate(&gain, 4), [3, 1]);
        assert_eq!(allocate(&gain, 99), [3, 3]);
    }

    #[test]
    fn slots_that_save_nothing_are_kept_back() {
        assert_eq!(allocate(&[vec![0.0, 1.0, 1.0], vec![0.0, 0.0, -1.0]], 4), [1, 0]);
        assert_eq!(allocate(&[vec![5.0, 4.0, 4.5], vec![]], 4), [0, 0]);
        assert_eq!(allocate(&[vec![0.0, f64::NAN, 2.0], vec![0.0, 1.5]], 2), [2, 0]);
        assert_eq!(allocate(&[], 4), [0_u32; 0]);
    }

    /// The best of all ways to divide `budget`.
    fn brute_force(gain: &[Vec<f64>], budget: usize) -> f64 {
        let Some((row, rest)) = gain.split_first() else { return 0.0 };
        let counts = 0..row.len().min(budget + 1);
        let of = |count: usize| row[count] + brute_force(rest, budget - count);
        counts.map(of).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Sums of these are exact, so that ways of adding them cannot differ.
    fn any_gains() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let row = prop::collection::vec((-8..64_i32).prop_map(f64::from), 1..6);
        prop::collection::vec(row, 1..6)
    }

    proptest! {
        #[test]
        fn nothing_saves_more(gain in any_gains(), budget in 0..12_usize) {
            let slots = allocate(&gain, budget);
            prop_assert!(slots.iter().sum::<u32>() as usize <= budget);
            prop_assert_eq!(saved(&gain, &slots), brute_force(&gain, budget));
        }

        #[test]
        fn greed_is_exact_where_gains_are_concave(gain in any_gains(), budget in 0..12_usize) {
            let mut gain = gain;
            for row in &mut gain {
                let mut steps: Vec<f64> = row.drain(1..).collect();
                steps.sort_by(|a, b| b.total_cmp(a));
                for step in steps {
                    row.push(row[row.len() - 1] + step);
                }
            }
            let slots = greedy(&gain, budget).expect("the steps descend");
            let exact = exact(&gain, budget);
            prop_assert_eq!(saved(&gain, &slots), saved(&gain, &exact));
        }

        #[test]
        fn more_slots_never_save_less(gain in any_gains(), budget in 0..12_usize) {
            let of = |budget| saved(&gain, &allocate(&gain, budget));
            prop_assert!(of(budget) <= of(budget + 1));
        }
    }
}

//! Combinatorial lower bounds: no placement with as many slots balances a step better.
//!
//! Two facts hold for any placement. Some rank has at least the mean load. And some copy has at
//! least `load / copies` of its expert's load; an expert has at most one useful copy per rank, and
//! all experts together have `slots - experts` further copies, which are best given one by one to
//! the expert whose copies are the heaviest.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Lower bound of the maximum over the mean rank load of one step, where tokens are whole.
///
/// `loads` `[E]` are tokens per expert. 1 where the step is empty. It holds for every placement
/// with at most `slots` slots and for every rule that sends a token to one copy of its expert.
#[must_use]
pub fn step_bound(loads: &[u32], slots: u16, ranks: u16) -> f64 {
    let Some(heaviest) = heaviest_copy(loads, slots, ranks) else { return 1.0 };
    let total = total(loads);
    let copy = u64::from(heaviest.load).div_ceil(u64::from(heaviest.copies));
    let most = total.div_ceil(u64::from(ranks)).max(copy);
    to_float(most) * f64::from(ranks) / to_float(total)
}

/// As [`step_bound`], where tokens can be split: the load of an expert is shared by its copies.
#[must_use]
pub fn step_bound_fractional(loads: &[u32], slots: u16, ranks: u16) -> f64 {
    let Some(heaviest) = heaviest_copy(loads, slots, ranks) else { return 1.0 };
    let mean = to_float(total(loads)) / f64::from(ranks);
    (f64::from(heaviest.load) / f64::from(heaviest.copies) / mean).max(1.0)
}

fn total(loads: &[u32]) -> u64 {
    loads.iter().map(|&load| u64::from(load)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "tokens of one step are far below 2^53")]
fn to_float(tokens: u64) -> f64 {
    tokens as f64
}

/// Load and copies of one expert, ordered by load per copy.
#[derive(Clone, Copy, Debug)]
struct Share {
    load: u32,
    copies: u16,
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u64::from(self.load) * u64::from(other.copies);
        left.cmp(&(u64::from(other.load) * u64::from(self.copies)))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

/// The heaviest copy when copies are allotted best; `None` where the step is empty.
fn heaviest_copy(loads: &[u32], slots: u16, ranks: u16) -> Option<Share> {
    let mut shares: BinaryHeap<Share> =
        loads.iter().filter(|&&load| load > 0).map(|&load| Share { load, copies: 1 }).collect();
    for _ in loads.len()..usize::from(slots) {
        let mut top = shares.peek_mut()?;
        // A further copy of the heaviest has no rank to go to: the maximum cannot be lowered.
        if top.copies >= ranks {
            break;
        }
        top.copies += 1;
    }
    shares.peek().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loads: &[u32], slots: u16, ranks: u16, whole: f64, fractional: f64) {
        let found = (step_bound(loads, slots, ranks), step_bound_fractional(loads, slots, ranks));
        assert!((found.0 - whole).abs() < 1e-12, "{loads:?}: {found:?}, expected {whole}");
        assert!((found.1 - fractional).abs() < 1e-12, "{loads:?}: {found:?}, {fractional}");
    }

    #[test]
    fn solvable_by_hand() {
        // An empty step is balanced.
        check(&[0, 0], 2, 2, 1.0, 1.0);
        // Five tokens on two ranks: one has three of a mean of 2.5. In parts, 2.5 each.
        check(&[2, 2, 1], 4, 2, 1.2, 1.0);
        // Expert 0 alone fills a rank: 9 of a mean of 6.
        check(&[9, 2, 1], 3, 2, 1.5, 1.5);
        // A spare slot halves it: 5 and 4 whole, 4.5 in parts; now the mean is the bound.
        check(&[9, 2, 1], 4, 2, 1.0, 1.0);
        // Two copies at most on two ranks, however many slots: 5 of 4.5.
        check(&[9, 0], 4, 2, 10.0 / 9.0, 1.0);
        // One token of three experts on eight ranks: no less than one token on some rank.
        check(&[1, 1, 1], 8, 8, 8.0 / 3.0, 8.0 / 3.0 / 2.0);
    }

    /// Smallest maximum rank load over all assignments of experts to slots and, where `whole`, of
    /// tokens to copies; otherwise the load is split evenly.
    fn brute_force(loads: &[u32], slots: usize, ranks: usize, whole: bool) -> f64 {
        let experts = loads.len();
        let mut best = f64::INFINITY;
        let mut held = vec![0; slots];
        loop {
            if (0..experts).all(|expert| held.contains(&expert)) {
                let most = if whole {
                    best_whole(loads, &held, ranks)
                } else {
                    split_evenly(loads, &held, ranks)
                };
                best = best.min(most);
            }
            let Some(next) = held.iter().position(|&expert| expert + 1 < experts) else { break };
            held[next] += 1;
            held[..next].fill(0);
        }
        best
    }

    fn split_evenly(loads: &[u32], held: &[usize], ranks: usize) -> f64 {
        let copies = |expert| held.iter().filter(|&&other| other == expert).count() as f64;
        let per_rank = held.len() / ranks;
        let load = |slots: &[usize]| slots.iter().map(|&e| f64::from(loads[e]) / copies(e)).sum();
        held.chunks(per_rank).map(load).fold(0.0, f64::max)
    }

    /// Tries every way of giving tokens one by one to a slot of their expert.
    fn best_whole(loads: &[u32], held: &[usize], ranks: usize) -> f64 {
        fn place(tokens: &[usize], held: &[usize], per_rank: usize, on: &mut [u32]) -> u32 {
            let Some((&expert, rest)) = tokens.split_first() else {
                return *on.iter().max().unwrap();
            };
            let mut best = u32::MAX;
            for slot in (0..held.len()).filter(|&slot| held[slot] == expert) {
                on[slot / per_rank] += 1;
                best = best.min(place(rest, held, per_rank, on));
                on[slot / per_rank] -= 1;
            }
            best
        }
        let tokens: Vec<usize> = (loads.iter().enumerate())
            .flat_map(|(expert, &load)| (0..load).map(move |_| expert))
            .collect();
        f64::from(place(&tokens, held, held.len() / ranks, &mut vec![0; ranks]))
    }

    #[test]
    fn no_placement_beats_the_bound() {
        let cases: [(&[u32], u16, u16); 7] = [
            (&[5, 1, 1], 4, 2),
            (&[3, 2, 1], 3, 3),
            (&[4, 1, 0], 6, 3),
            (&[1, 1, 1, 1], 4, 2),
            (&[6, 0], 4, 2),
            (&[2, 2, 2], 6, 2),
            (&[7, 1], 4, 4),
        ];
        for (loads, slots, ranks) in cases {
            let mean = f64::from(loads.iter().sum::<u32>()) / f64::from(ranks);
            let (held, on) = (usize::from(slots), usize::from(ranks));
            let whole = brute_force(loads, held, on, true) / mean;
            let split = brute_force(loads, held, on, false) / mean;
            assert!(step_bound(loads, slots, ranks) <= whole + 1e-12, "{loads:?} {whole}");
            assert!(step_bound_fractional(loads, slots, ranks) <= split + 1e-12, "{loads:?}");
            assert!(step_bound_fractional(loads, slots, ranks) <= whole + 1e-12, "{loads:?}");
        }
    }
}

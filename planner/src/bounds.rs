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

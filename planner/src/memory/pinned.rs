//! Which experts never leave GPU memory: those that a recording asked for most, per byte.
//!
//! Taking experts by load per byte until the next does not fit is the fractional knapsack's order;
//! what follows is tried too, so that no expert that would fit is left out.

use std::cmp::Reverse;

use moecast_profiles::ids::ExpertId;
use serde::{Deserialize, Serialize};

/// Among what the most asked for are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All experts of all layers.
    Global,
    /// The experts of each layer, each with the same share of the budget.
    PerLayer,
    /// Layers: all experts of one or none, as engines with one tensor per layer need it.
    WholeLayers,
}

/// Experts `[M][..]`, ascending, that fit `budget` bytes together.
///
/// `loads` `[M][E]` are tokens (or any weight) per expert; `expert_bytes` `[M]` the bytes of one
/// expert. Experts without load are not pinned, but for whole layers. Equal loads go to the lower
/// layer, then the lower id. A layer without bytes is left out.
#[must_use]
pub fn by_frequency(
    loads: &[Vec<u64>],
    expert_bytes: &[u64],
    budget: u64,
    scope: Scope,
) -> Vec<Vec<ExpertId>> {
    let mut pinned = vec![Vec::new(); loads.len()];
    match scope {
        Scope::Global => {
            let mut left = budget;
            take(loads, expert_bytes, 0..loads.len(), &mut left, &mut pinned);
        }
        Scope::PerLayer => {
            let share = budget / (loads.len().max(1) as u64);
            for layer in 0..loads.len() {
                take(loads, expert_bytes, layer..layer + 1, &mut share.clone(), &mut pinned);
            }
        }
        Scope::WholeLayers => whole(loads, expert_bytes, budget, &mut pinned),
    }
    for row in &mut pinned {
        row.sort_unstable();
    }
    pinned
}

/// Load per byte as a fraction whose comparison is exact.
fn before(a: (u64, u64), b: (u64, u64)) -> std::cmp::Ordering {
    (u128::from(b.0) * u128::from(a.1)).cmp(&(u128::from(a.0) * u128::from(b.1)))
}

fn take(
    loads: &[Vec<u64>],
    expert_bytes: &[u64],
    layers: std::ops::Range<usize>,
    left: &mut u64,
    pinned: &mut [Vec<ExpertId>],
) {
    let mut all: Vec<(u64, u64, usize, ExpertId)> = layers
        .filter_map(|layer| Some((layer, *expert_bytes.get(layer)?)))
        .filter(|(_, bytes)| *bytes > 0)
        .flat_map(|(layer, bytes)| {
            let ids = (0..=u16::MAX).map(ExpertId);
            loads[layer].iter().zip(ids).map(move |(&load, id)| (load, bytes, layer, id))
        })
        .filter(|(load, ..)| *load > 0)
        .collect();
    all.sort_by(|a, b| before((a.0, a.1), (b.0, b.1)).then((a.2, a.3).cmp(&(b.2, b.3))));
    for (_, bytes, layer, id) in all {
        if let Some(rest) = left.checked_sub(bytes) {
            *left = rest;
            pinned[layer].push(id);
        }
    }
}

fn whole(loads: &[Vec<u64>], expert_bytes: &[u64], budget: u64, pinned: &mut [Vec<ExpertId>]) {
    let mut layers: Vec<(u128, usize)> =
        loads.iter().map(|row| row.iter().map(|&load| u128::from(load)).sum()).zip(0..).collect();
    // Layers of one model are of one size, so their load alone is their order.
    layers.sort_by_key(|(load, layer)| (Reverse(*load), *layer));
    let mut left = u128::from(budget);
    for (_, layer) in layers {
        let row = &loads[layer];
        let Some(bytes) = expert_bytes.get(layer).filter(|bytes| **bytes > 0) else { continue };
        let size = u128::from(*bytes) * row.len() as u128;
        if let Some(rest) = left.checked_sub(size) {
            left = rest;
            pinned[layer] =
                row.iter().zip((0..=u16::MAX).map(ExpertId)).map(|(_, id)| id).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(rows: &[&[u16]]) -> Vec<Vec<ExpertId>> {
        rows.iter().map(|row| row.iter().copied().map(ExpertId).collect()).collect()
    }

    #[test]
    fn solvable_by_hand() {
        let loads = [vec![9, 1, 5, 0], vec![8, 7, 6, 2]];
        let of = |bytes: &[u64], budget, scope| by_frequency(&loads, bytes, budget, scope);
        // 9, 8, 7, 6 of all eight.
        assert_eq!(of(&[10, 10], 45, Scope::Global), ids(&[&[0], &[0, 1, 2]]));
        // Two of each layer.
        assert_eq!(of(&[10, 10], 45, Scope::PerLayer), ids(&[&[0, 2], &[0, 1]]));
        // Layer 1 has more load, and one layer fits.
        assert_eq!(of(&[10, 10], 45, Scope::WholeLayers), ids(&[&[], &[0, 1, 2, 3]]));
        // Layer 0's experts are half the size: 9 and 5 of 5 bytes beat 7 of 10; then 8.
        assert_eq!(of(&[5, 10], 20, Scope::Global), ids(&[&[0, 2], &[0]]));
        // Expert 3 of layer 0 was never asked for.
        assert_eq!(of(&[10, 10], 999, Scope::Global), ids(&[&[0, 1, 2], &[0, 1, 2, 3]]));
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_nothing_that_fits_is_left(
            loads in prop::collection::vec(prop::collection::vec(0..50_u64, 4), 1..5),
            bytes in prop::collection::vec(1..20_u64, 5),
            budget in 0..200_u64,
        ) {
            for scope in [Scope::Global, Scope::PerLayer, Scope::WholeLayers] {
                let pinned = by_frequency(&loads, &bytes, budget, scope);
                let used: u64 =
                    pinned.iter().zip(&bytes).map(|(row, bytes)| row.len() as u64 * bytes).sum();
                prop_assert!(used <= budget);
                if scope == Scope::Global {
                    for (layer, row) in pinned.iter().enumerate() {
                        let wanted = loads[layer].iter().filter(|load| **load > 0).count();
                        prop_assert!(row.len() == wanted || used + bytes[layer] > budget);
                    }
                }
            }
        }
    }
}

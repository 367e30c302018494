//! Expert choice (arXiv 2202.09368, with its limit of experts a token): every expert takes the same
//! number of tokens, so that loads are equal and the number of a token's experts varies.
//!
//! An expert takes the tokens whose own picks name it, in their order, then those with the fewest
//! experts that have a place left. Departure: tokens name experts by the knobs of the recipe, not
//! by scores that experts rank. Cost: a look at every token for every expert that lacks some.

use crate::trace::NO_EXPERT;

/// Replaces the picks `[T, M, k]` of a group of tokens, ranks of `experts` experts, such that every
/// expert of a layer has `1 - skipped` of an even share of all places, rounded down. A free place
/// is [`NO_EXPERT`].
pub(super) fn choose(picks: &mut [u16], layers: usize, k: usize, experts: usize, skipped: f64) {
    let width = layers * k;
    let tokens = picks.len() / width;
    let even = (tokens * k) as f64 / experts as f64;
    let capacity = ((even * (1.0 - skipped)) as usize).min(tokens);
    let mut loads = vec![0_usize; experts];
    for layer in 0..layers {
        loads.fill(0);
        let places = layer * k..(layer + 1) * k;
        for row in picks.chunks_exact_mut(width) {
            for pick in &mut row[places.clone()] {
                let load = &mut loads[usize::from(*pick)];
                if *load < capacity {
                    *load += 1;
                } else {
                    *pick = NO_EXPERT;
                }
            }
        }
        for (expert, load) in (0_u16..).zip(&loads) {
            fill(picks, width, &places, expert, capacity - load);
        }
    }
}

/// Gives `expert` so many more tokens, of those with the fewest experts in `places`.
fn fill(
    picks: &mut [u16],
    width: usize,
    places: &std::ops::Range<usize>,
    expert: u16,
    wanted: usize,
) {
    if wanted == 0 {
        return;
    }
    let used = |cell: &[u16]| cell.iter().filter(|pick| **pick != NO_EXPERT).count();
    let mut free: Vec<(usize, &mut [u16])> = picks
        .chunks_exact_mut(width)
        .map(|row| &mut row[places.clone()])
        .map(|cell| (used(cell), cell))
        .filter(|(used, cell)| *used < cell.len() && !cell.contains(&expert))
        .collect();
    free.sort_by_key(|(used, _)| *used);
    for (_, cell) in free.into_iter().take(wanted) {
        let place = cell.iter().position(|pick| *pick == NO_EXPERT);
        cell[place.expect("it has a free place")] = expert;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expert_gets_as_many_tokens() {
        // Six tokens of two places, four experts; all name experts 0 and 1. Of 12 places a quarter
        // stays free: 9 over 4 experts are 2 each.
        let mut picks = [0_u16, 1].repeat(6);
        choose(&mut picks, 1, 2, 4, 0.25);
        let load = |expert| picks.iter().filter(|pick| **pick == expert).count();
        assert_eq!([0, 1, 2, 3].map(load), [2; 4]);
        assert_eq!(&picks[..4], &[0, 1, 0, 1], "tokens that named an expert come first");
        for cell in picks.chunks_exact(2) {
            assert!(cell[0] != cell[1] || cell[0] == NO_EXPERT, "{cell:?}");
        }
    }
}

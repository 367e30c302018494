//! Experts that recorded tokens chose, in as few bytes as they fit in.

use std::ops::Range;

use moecast_traces::NO_EXPERT;

/// Counters of a layer whose experts 8 bits can name.
const NARROW: usize = 1 << 8;

/// Experts, `[T][M x k]`; rows of a request stand together, in the order of positions.
pub(super) enum Picks {
    /// In layers of [`NARROW`] counters, so that every pick has one.
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Picks {
    /// Counters of a layer of `experts`: one for each, and one for picks that were skipped.
    pub(super) fn counters(&self, experts: usize) -> usize {
        match self {
            Self::Narrow(_) => NARROW,
            Self::Wide(_) => experts + 1,
        }
    }

    /// Adds the picks at `places`, `top_k` a layer, to the `counters` of each, so many `times`.
    pub(super) fn add(
        &self,
        places: Range<usize>,
        top_k: usize,
        counters: usize,
        counts: &mut [u32],
        times: u32,
    ) {
        match self {
            Self::Narrow(experts) => {
                let (counts, _) = counts.as_chunks_mut::<NARROW>();
                let picks = &experts[places];
                // The usual numbers of picks, unrolled.
                match top_k {
                    2 => add_narrow::<2>(counts, picks, times),
                    4 => add_narrow::<4>(counts, picks, times),
                    6 => add_narrow::<6>(counts, picks, times),
                    8 => add_narrow::<8>(counts, picks, times),
                    _ => {
                        for (counts, picks) in counts.iter_mut().zip(picks.chunks_exact(top_k)) {
                            add_layer(counts, picks, times);
                        }
                    }
                }
            }
            Self::Wide(experts) => {
                let layers = experts[places].chunks_exact(top_k);
                for (counts, picks) in counts.chunks_exact_mut(counters).zip(layers) {
                    for pick in picks {
                        let count = &mut counts[usize::from(*pick)];
                        *count = count.wrapping_add(times);
                    }
                }
            }
        }
    }

    pub(super) fn at(&self, place: usize) -> u16 {
        match self {
            Self::Narrow(experts) => u16::from(experts[place]),
            Self::Wide(experts) => experts[place],
        }
    }

    /// The rows of `experts` in `order`, `width` picks each.
    pub(super) fn new(order: &[usize], experts: &[u16], width: usize, of: usize) -> Self {
        let rows = order.iter().map(|row| &experts[row * width..(row + 1) * width]);
        let many = order.len() * width;
        // The last counter is for picks that were skipped.
        if of < NARROW || (of == NARROW && !experts.contains(&NO_EXPERT)) {
            let mut picks = Vec::with_capacity(many);
            for row in rows {
                picks.extend(row.iter().map(|pick| (*pick).min(NARROW as u16 - 1) as u8));
            }
            return Self::Narrow(picks);
        }
        let mut picks = Vec::with_capacity(many);
        for row in rows {
            picks.extend(row.iter().map(|pick| (*pick).min(of as u16)));
        }
        Self::Wide(picks)
    }
}

/// `K` picks a layer.
fn add_narrow<const K: usize>(counts: &mut [[u32; NARROW]], picks: &[u8], times: u32) {
    let (layers, _) = picks.as_chunks::<K>();
    for (counts, picks) in counts.iter_mut().zip(layers) {
        add_layer(counts, picks, times);
    }
}

#[inline(always)]
fn add_layer(counts: &mut [u32; NARROW], picks: &[u8], times: u32) {
    for pick in picks {
        let count = &mut counts[usize::from(*pick)];
        *count = count.wrapping_add(times);
    }
}

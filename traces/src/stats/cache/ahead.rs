//! Belady's bound, without simulating a cache: a hit needs its expert to be kept in every gap
//! between its last use and this one. Taking hits in the order in which they end, wherever every
//! gap has a slot left, gives as many as any choice can (interval scheduling on equal machines,
//! Carlisle and Lloyd 1995; the same reckoning as OPTgen of Hawkeye, Jain and Lin 2016).
//!
//! Cost: the gaps that a pick spans, at most tokens x experts in all, and one number per token
//! and capacity.

use super::super::replay::Stream;

pub(super) fn hits<const N: usize>(stream: &Stream<'_>, capacities: [usize; N]) -> [u64; N] {
    // Token of the last use of every item, plus one; 0 before the first.
    let mut last = vec![0_usize; stream.items()];
    // Slots that are taken after each token.
    let mut taken: [Vec<u32>; N] = std::array::from_fn(|_| vec![0; stream.tokens()]);
    let limits = capacities.map(|capacity| u32::try_from(capacity).unwrap_or(u32::MAX));
    let mut hits = [0; N];
    let mut seen = 0;
    for token in 0..stream.tokens() {
        for item in stream.picks(token) {
            let used = std::mem::replace(&mut last[item], token + 1);
            if used == 0 {
                for (hits, capacity) in hits.iter_mut().zip(capacities) {
                    *hits += u64::from(seen < capacity);
                }
                seen += 1;
                continue;
            }
            for index in 0..N {
                let gaps = &mut taken[index][used - 1..token];
                if gaps.iter().all(|&taken| taken < limits[index]) {
                    gaps.iter_mut().for_each(|taken| *taken += 1);
                    hits[index] += 1;
                }
            }
        }
    }
    hits
}

//! LRU: what is resident is what was used since a point in the stream that only moves forward,
//! one such point per capacity; an item is resident when its last use lies after it.
//!
//! Cost: constant per pick and capacity, whatever the number of experts.

use super::super::replay::Stream;

/// The oldest use that may still be resident.
#[derive(Clone, Copy)]
struct Tail {
    /// Uses up to this one are not resident; uses are numbered from 1.
    gone: u64,
    /// Where use number `gone + 1` stands.
    token: usize,
    place: usize,
    /// Resident items.
    live: usize,
}

pub(super) fn hits<const N: usize>(stream: &Stream<'_>, capacities: [usize; N]) -> [u64; N] {
    let width = stream.width();
    // Number of the last use of every item; 0 before the first.
    let mut last = vec![0_u64; stream.items()];
    let mut tails = [Tail { gone: 0, token: 0, place: 0, live: 0 }; N];
    let mut hits = [0; N];
    let mut seen = 0;
    for token in 0..stream.tokens() {
        for item in stream.picks(token) {
            let used = last[item];
            for index in 0..N {
                let cold = used == 0 && seen < capacities[index];
                hits[index] += u64::from(cold || used > tails[index].gone);
            }
            seen += usize::from(used == 0);
        }
        for (number, item) in ((token * width) as u64 + 1..).zip(stream.places(token)) {
            let Some(item) = item else { continue };
            for tail in &mut tails {
                tail.live += usize::from(last[item] <= tail.gone);
            }
            last[item] = number;
        }
        for (tail, capacity) in tails.iter_mut().zip(capacities) {
            while tail.live > capacity {
                let item = stream.item(tail.token, tail.place);
                tail.gone += 1;
                tail.live -= usize::from(item.is_some_and(|item| last[item] == tail.gone));
                tail.place += 1;
                if tail.place == width {
                    (tail.token, tail.place) = (tail.token + 1, 0);
                }
            }
        }
    }
    hits
}

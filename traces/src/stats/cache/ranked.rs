//! Caches that keep the highest rank: LFU (uses so far) and the segment cache (uses in the tokens
//! that follow); of equal ranks the last use decides.
//!
//! Cost: constant per pick for the ranks; per token and capacity, the resident items are looked
//! at once per eviction, or about three times in all where many leave at once.

use super::super::replay::Stream;

/// Evictions up to which looking for the lowest one by one is quicker than selecting.
const SINGLE_MAX: usize = 3;

/// Most capacities of one replay: one bit each.
const CACHES_MAX: usize = 8;

/// What is known of every item.
struct Ranks {
    rank: Vec<u32>,
    /// Number of the last use; 0 before the first.
    last: Vec<u64>,
    /// Bit `c`: the item is resident in cache number `c`.
    resident: Vec<u8>,
}

/// The resident items of one cache, and room to choose among them.
#[derive(Default)]
struct Slots {
    items: Vec<u32>,
    keys: Vec<u128>,
}

/// Hits at every capacity; ranks look `ahead` so many tokens, or count past uses.
pub(super) fn hits<const N: usize>(
    stream: &Stream<'_>,
    capacities: [usize; N],
    ahead: Option<usize>,
) -> [u64; N] {
    assert!(N <= CACHES_MAX, "{N} caches in one replay; at most {CACHES_MAX}");
    let items = stream.items();
    let mut ranks = Ranks { rank: vec![0; items], last: vec![0; items], resident: vec![0; items] };
    let mut caches: [Slots; N] = std::array::from_fn(|_| Slots::default());
    // Picks by the set of caches that held them.
    let mut held = [0_u64; 1 << CACHES_MAX];
    let mut seen = 0;
    for token in 0..ahead.unwrap_or(0).min(stream.tokens()) {
        stream.picks(token).for_each(|item| ranks.rank[item] += 1);
    }
    for token in 0..stream.tokens() {
        for (number, item) in ((token * stream.width()) as u64 + 1..).zip(stream.places(token)) {
            let Some(item) = item else { continue };
            let mut hit = ranks.resident[item];
            let absent = !hit & (u8::MAX >> (CACHES_MAX - N));
            if absent != 0 {
                if ranks.last[item] == 0 {
                    hit = bits(|index| index < N && seen < capacities[index]);
                    seen += 1;
                }
                admit(&mut caches, item, absent);
                ranks.resident[item] |= absent;
            }
            held[usize::from(hit)] += 1;
            ranks.note_use(item, number, ahead);
        }
        ranks.look(stream, token, ahead);
        for (index, (cache, capacity)) in caches.iter_mut().zip(capacities).enumerate() {
            cache.shrink(capacity, &mut ranks, 1 << index);
        }
    }
    std::array::from_fn(|index| {
        held.iter()
            .enumerate()
            .filter(|(set, _)| set >> index & 1 == 1)
            .map(|(_, count)| count)
            .sum()
    })
}

fn bits(set: impl Fn(usize) -> bool) -> u8 {
    (0..CACHES_MAX).map(|index| u8::from(set(index)) << index).sum()
}

/// Adds `item` to the caches of the set `absent`.
#[inline]
fn admit(caches: &mut [Slots], item: usize, absent: u8) {
    for (index, cache) in caches.iter_mut().enumerate() {
        if absent & (1 << index) != 0 {
            cache.items.push(u32::try_from(item).expect("fewer than 2^32 experts"));
        }
    }
}

impl Ranks {
    #[inline]
    fn note_use(&mut self, item: usize, number: u64, ahead: Option<usize>) {
        self.last[item] = number;
        match ahead {
            Some(0) => {}
            // The token itself is no longer ahead.
            Some(_) => self.rank[item] -= 1,
            None => self.rank[item] += 1,
        }
    }

    /// Takes in the token that has come in sight once `token` is over.
    fn look(&mut self, stream: &Stream<'_>, token: usize, ahead: Option<usize>) {
        if let Some(ahead) = ahead.filter(|&ahead| ahead > 0 && ahead < stream.tokens() - token) {
            stream.picks(token + ahead).for_each(|item| self.rank[item] += 1);
        }
    }

    /// Orders items by rank, then by last use; the item itself is in the lowest bits.
    #[inline]
    fn key(&self, item: u32) -> u128 {
        let (rank, last) = (self.rank[item as usize], self.last[item as usize]);
        u128::from(rank) << 96 | u128::from(last) << 32 | u128::from(item)
    }
}

impl Slots {
    /// Evicts the lowest until `capacity` items are left.
    fn shrink(&mut self, capacity: usize, ranks: &mut Ranks, bit: u8) {
        let surplus = self.items.len().saturating_sub(capacity);
        if surplus > SINGLE_MAX {
            self.select(surplus, ranks, bit);
            return;
        }
        for _ in 0..surplus {
            let keys = self.items.iter().map(|&item| ranks.key(item));
            let (lowest, _) = keys.enumerate().min_by_key(|&(_, key)| key).expect("a surplus");
            let item = self.items.swap_remove(lowest);
            ranks.resident[item as usize] &= !bit;
        }
    }

    /// Evicts the lowest `surplus` items at once.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are the item")]
    fn select(&mut self, surplus: usize, ranks: &mut Ranks, bit: u8) {
        self.keys.clear();
        self.keys.extend(self.items.iter().map(|&item| ranks.key(item)));
        self.keys.select_nth_unstable(surplus - 1);
        let (lowest, kept) = self.keys.split_at(surplus);
        for &key in lowest {
            ranks.resident[key as u32 as usize] &= !bit;
        }
        self.items.clear();
        self.items.extend(kept.iter().map(|&key| key as u32));
    }
}

//! Sets of numbers whose largest member below a limit is found in a few steps.

/// A set of positions: a bit each, and above every 64 words a word that says which of them are not
/// empty.
pub(super) struct Positions {
    levels: Vec<Vec<u64>>,
}

impl Positions {
    pub(super) fn new(count: usize) -> Self {
        let mut levels = Vec::new();
        let mut width = count;
        loop {
            width = width.div_ceil(64).max(1);
            levels.push(vec![0; width]);
            if width == 1 {
                return Self { levels };
            }
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, position: usize) {
        let mut at = position;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was_empty = *word == 0;
            *word |= 1 << (at % 64);
            if !was_empty {
                return;
            }
            at /= 64;
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, position: usize) {
        let mut at = position;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// The largest position below `limit`.
    #[inline]
    pub(super) fn last_before(&self, limit: usize) -> Option<usize> {
        let size = self.levels[0].len() * 64;
        // The last position that may be it; a set that ends with a word has no word behind it.
        let last = limit.min(size).checked_sub(1)?;
        let bits = self.levels[0][last / 64] & (u64::MAX >> (63 - last % 64));
        if bits != 0 {
            return Some(last / 64 * 64 + 63 - bits.leading_zeros() as usize);
        }
        let mut at = last / 64;
        for (height, level) in self.levels.iter().enumerate().skip(1) {
            // Bits below `at` of its word; words below it are the next level's business.
            let bits = level.get(at / 64).map_or(0, |word| word & ((1 << (at % 64)) - 1));
            if bits != 0 {
                let mut found = at / 64 * 64 + 63 - bits.leading_zeros() as usize;
                for lower in self.levels[..height].iter().rev() {
                    found = found * 64 + 63 - lower[found].leading_zeros() as usize;
                }
                return Some(found);
            }
            at /= 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_positions_finds_its_last_below_any_limit() {
        let mut set = Positions::new(300_000);
        let members = [0, 63, 64, 4095, 4096, 262_143, 262_144, 299_999];
        members.iter().for_each(|&position| set.insert(position));
        let mut found = Vec::new();
        let mut limit = usize::MAX;
        while let Some(position) = set.last_before(limit) {
            found.push(position);
            limit = position;
        }
        found.reverse();
        assert_eq!(found, members);
        set.remove(262_144);
        assert_eq!(set.last_before(299_999), Some(262_143));
    }
}

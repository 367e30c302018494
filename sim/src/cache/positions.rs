//! Sets of numbers whose largest member below a limit is found in a few steps.

/// Words of the highest level, which are looked at one by one.
const TOP_WORDS: usize = 64;

/// A set of positions: a bit each, and above every 64 words a word that says which of them are not
/// empty.
pub(crate) struct Positions {
    levels: Vec<Vec<u64>>,
}

impl Positions {
    pub(crate) fn new(count: usize) -> Self {
        let mut levels = Vec::new();
        let mut width = count;
        loop {
            width = width.div_ceil(64).max(1);
            levels.push(vec![0; width]);
            if width <= TOP_WORDS {
                return Self { levels };
            }
        }
    }

    /// Marks all levels, without asking whether they are: a branch that nobody can predict costs
    /// more than a few words in the nearest cache.
    #[inline]
    pub(crate) fn insert(&mut self, position: usize) {
        let mut at = position;
        for level in &mut self.levels {
            level[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    /// Clears the lowest level; the others learn of it when somebody looks.
    #[inline]
    pub(crate) fn remove(&mut self, position: usize) {
        self.levels[0][position / 64] &= !(1 << (position % 64));
    }

    /// The largest position below `limit`.
    #[inline]
    pub(crate) fn last_before(&mut self, limit: usize) -> Option<usize> {
        let size = self.levels[0].len() * 64;
        let mut last = limit.min(size).checked_sub(1)?;
        // Up until something is set at or below `last`, down along the last marks; marks of words
        // that have become empty are cleared on the way.
        let mut height = 0;
        loop {
            let word = &mut self.levels[height][last / 64];
            let bits = *word & (u64::MAX >> (63 - last % 64));
            if bits == 0 {
                let empty = *word == 0;
                let above = last / 64;
                if height + 1 == self.levels.len() {
                    last = (above * 64).checked_sub(1)?;
                    continue;
                }
                height += 1;
                if empty {
                    self.levels[height][above / 64] &= !(1 << (above % 64));
                }
                last = above.checked_sub(1)?;
                continue;
            }
            let found = last / 64 * 64 + 63 - bits.leading_zeros() as usize;
            if height == 0 {
                return Some(found);
            }
            height -= 1;
            last = found * 64 + 63;
        }
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

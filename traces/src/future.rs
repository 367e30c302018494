//! When every item of a stream is used next: the only source of knowledge of the future. Whoever
//! holds a [`NextUse`] is an oracle, and what it does is a bound, not a policy.

/// The position that stands for "never again".
pub const NEVER: u64 = u64::MAX;

/// Positions of every item in a stream of uses. Memory: 4 bytes a use.
#[derive(Clone, Debug)]
pub struct NextUse {
    /// `[items + 1]` where the positions of each item begin.
    starts: Vec<usize>,
    /// Positions, ascending within an item.
    positions: Vec<u32>,
}

impl NextUse {
    /// The index of `uses`, a stream of numbers below `items`; position `n` is its `n`-th entry.
    ///
    /// # Panics
    /// When a number is not below `items`, or there are 2^32 uses or more.
    #[must_use]
    pub fn new(items: usize, uses: &[u32]) -> Self {
        let mut starts = vec![0_usize; items + 1];
        for &item in uses {
            starts[item as usize + 1] += 1;
        }
        for item in 0..items {
            starts[item + 1] += starts[item];
        }
        let mut filled = starts.clone();
        let mut positions = vec![0; uses.len()];
        for (position, &item) in (0_u32..).zip(uses) {
            let place = &mut filled[item as usize];
            positions[*place] = position;
            *place += 1;
        }
        Self { starts, positions }
    }

    /// Items of the stream.
    #[must_use]
    pub fn items(&self) -> usize {
        self.starts.len() - 1
    }

    /// Uses in the stream.
    #[must_use]
    pub fn uses(&self) -> usize {
        self.positions.len()
    }

    /// All positions of `item`, ascending.
    #[must_use]
    pub fn of(&self, item: u32) -> &[u32] {
        let item = item as usize;
        &self.positions[self.starts[item]..self.starts[item + 1]]
    }

    /// The first use of `item` after `position`; [`NEVER`] where there is none.
    #[must_use]
    pub fn after(&self, item: u32, position: u64) -> u64 {
        let uses = self.of(item);
        let next = uses.partition_point(|&at| u64::from(at) <= position);
        uses.get(next).map_or(NEVER, |&at| at.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_use_is_the_first_one_after_now() {
        let index = NextUse::new(3, &[0, 1, 0, 0, 1]);
        assert_eq!((index.items(), index.uses()), (3, 5));
        assert_eq!(index.of(0), [0, 2, 3]);
        assert_eq!([0, 1, 2, 3].map(|now| index.after(0, now)), [2, 2, 3, NEVER]);
        assert_eq!(index.after(1, 0), 1);
        assert_eq!(index.after(2, 0), NEVER);
    }
}

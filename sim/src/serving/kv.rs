//! The blocks of a KV cache: private ones of running requests, and shared ones that hold prefixes
//! of prompts and stay, least recently used last, until their room is needed.

use std::collections::BTreeMap;

/// The cache of one data-parallel rank.
#[derive(Clone, Debug)]
pub(crate) struct KvPool {
    block_tokens: u32,
    blocks: u64,
    /// Blocks of running requests.
    private: u64,
    /// Blocks of prefixes, in use or not.
    shared: u64,
    /// Blocks of one prefix of [`Self::prefix_tokens`] tokens.
    prefix_blocks: u64,
    prefix_tokens: u32,
    /// By id of the prefix.
    prefixes: Vec<Prefix>,
    /// Unused prefixes by the time of their last use.
    unused: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Prefix {
    present: bool,
    users: u32,
    /// Key in `unused`, where nobody uses it.
    stamp: u64,
}

impl KvPool {
    /// Room for `tokens` tokens in blocks of `block_tokens`; prefixes are `prefix_tokens` long and
    /// numbered below `prefixes`.
    pub(crate) fn new(tokens: u64, block_tokens: u32, prefix_tokens: u32, prefixes: u32) -> Self {
        Self {
            block_tokens,
            blocks: tokens / u64::from(block_tokens),
            private: 0,
            shared: 0,
            prefix_blocks: u64::from(prefix_tokens / block_tokens),
            prefix_tokens,
            prefixes: vec![Prefix::default(); prefixes as usize],
            unused: BTreeMap::new(),
            clock: 0,
        }
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks that somebody uses.
    pub(crate) fn used(&self) -> u64 {
        self.private + self.shared - self.unused.len() as u64 * self.prefix_blocks
    }

    /// Blocks that are free or can be freed.
    pub(crate) fn available(&self) -> u64 {
        self.blocks - self.used()
    }

    /// Blocks that hold `tokens` tokens.
    pub(crate) fn blocks_of(&self, tokens: u32) -> u64 {
        u64::from(tokens.div_ceil(self.block_tokens))
    }

    /// Takes `count` blocks, forgetting unused prefixes as needed; false where there is no room.
    pub(crate) fn take(&mut self, count: u64) -> bool {
        if count > self.available() {
            return false;
        }
        while self.private + self.shared + count > self.blocks {
            let (_, id) = self.unused.pop_first().expect("availability counts unused prefixes");
            self.prefixes[id as usize] = Prefix::default();
            self.shared -= self.prefix_blocks;
        }
        self.private += count;
        true
    }

    /// Gives `count` private blocks back.
    pub(crate) fn give(&mut self, count: u64) {
        assert!(self.private >= count, "{count} blocks given back, {} taken", self.private);
        self.private -= count;
    }

    /// How many of `prefix`, from its start, are here.
    pub(crate) fn matched(&self, prefix: &[u32]) -> usize {
        prefix.iter().take_while(|id| self.prefixes[**id as usize].present).count()
    }

    /// Uses prefixes that are here.
    pub(crate) fn hold(&mut self, prefix: &[u32]) {
        for id in prefix {
            let entry = &mut self.prefixes[*id as usize];
            assert!(entry.present, "prefix {id} is not here");
            if entry.users == 0 {
                self.unused.remove(&entry.stamp);
            }
            entry.users += 1;
        }
    }

    /// Makes `prefix`, of which `held` are held already, shared; the blocks of the rest come from
    /// the private ones of the request, which gets back how many those were.
    pub(crate) fn share(&mut self, prefix: &[u32]) -> u64 {
        let mut moved = 0;
        for id in prefix {
            let entry = &mut self.prefixes[*id as usize];
            if entry.present {
                // Somebody else was quicker: the private copy is dropped.
                if entry.users == 0 {
                    self.unused.remove(&entry.stamp);
                }
            } else {
                entry.present = true;
                self.shared += self.prefix_blocks;
            }
            entry.users += 1;
            moved += self.prefix_blocks;
        }
        self.give(moved);
        moved
    }

    /// Ends the use of prefixes.
    pub(crate) fn release(&mut self, prefix: &[u32]) {
        // The end of a prefix goes first when room is needed: without it the start is still good.
        for id in prefix.iter().rev() {
            let entry = &mut self.prefixes[*id as usize];
            assert!(entry.users > 0, "prefix {id} has no user");
            entry.users -= 1;
            if entry.users == 0 {
                self.clock += 1;
                entry.stamp = self.clock;
                self.unused.insert(self.clock, *id);
            }
        }
    }

    /// Forgets everything, also what is in use: the memory is gone.
    pub(crate) fn wipe(&mut self) {
        (self.private, self.shared) = (0, 0);
        self.prefixes.fill(Prefix::default());
        self.unused.clear();
    }

    pub(crate) fn prefix_tokens(&self) -> u32 {
        self.prefix_tokens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_stay_until_their_room_is_needed() {
        // 8 blocks of 16 tokens; a prefix of 32 tokens is two of them.
        let mut pool = KvPool::new(128, 16, 32, 3);
        assert!(pool.take(4));
        assert_eq!(pool.share(&[0, 1]), 4);
        assert_eq!((pool.used(), pool.available()), (4, 4));
        pool.release(&[0, 1]);
        assert_eq!((pool.used(), pool.available(), pool.matched(&[0, 1, 2])), (0, 8, 2));
        // Five blocks push out one prefix: the later one.
        assert!(pool.take(5));
        assert_eq!(pool.matched(&[0, 1]), 1);
        assert!(!pool.take(4));
        assert!(pool.take(3));
        assert_eq!((pool.matched(&[0, 1]), pool.available()), (0, 0));
    }

    #[test]
    fn a_prefix_in_use_is_not_pushed_out() {
        let mut pool = KvPool::new(64, 16, 32, 1);
        assert!(pool.take(2));
        pool.share(&[0]);
        pool.hold(&[0]);
        pool.release(&[0]);
        assert!(!pool.take(3));
        assert!(pool.take(2));
        pool.release(&[0]);
        assert!(pool.take(2) && pool.matched(&[0]) == 0);
    }

    proptest! {
        #[test]
        fn blocks_are_conserved(actions in prop::collection::vec((0_u8..3, 0_u32..6), 1..200)) {
            let mut pool = KvPool::new(320, 16, 32, 6);
            let (mut taken, mut held): (Vec<u64>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
            for (action, number) in actions {
                match action {
                    0 => {
                        let ids: Vec<u32> = (0..number % 4).collect();
                        let here = pool.matched(&ids);
                        // What is here is held before room is made, or it could be pushed out.
                        pool.hold(&ids[..here]);
                        let wanted = (ids.len() - here) as u64 * 2 + 1;
                        if pool.take(wanted) {
                            let moved = pool.share(&ids[here..]);
                            taken.push(wanted - moved);
                            held.push(ids);
                        } else {
                            pool.release(&ids[..here]);
                        }
                    }
                    _ => {
                        if let (Some(blocks), Some(ids)) = (taken.pop(), held.pop()) {
                            pool.give(blocks);
                            pool.release(&ids);
                        }
                    }
                }
                prop_assert!(pool.used() + pool.available() == pool.blocks());
            }
            while let (Some(blocks), Some(ids)) = (taken.pop(), held.pop()) {
                pool.give(blocks);
                pool.release(&ids);
            }
            prop_assert_eq!(pool.used(), 0);
        }
    }
}

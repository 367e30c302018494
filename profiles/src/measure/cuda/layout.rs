//! What the host decides for the kernels: where data lies, and how work is cut into blocks.

/// Outputs of a block of the expert kernels; inputs of a stage. As in `kernels.cu`.
pub(super) const COLUMNS: usize = 64;
pub(super) const DEPTH: usize = 32;
/// Threads of a block of every kernel but the plain ones.
pub(super) const THREADS: u32 = 128;
/// Dimensions of a head that the attention kernels are written for.
pub(super) const HEAD: usize = 128;
/// Fewest keys worth a block of their own.
const SPAN_MIN: usize = 256;
/// Where parts of a store start, bytes.
const ALIGNMENT: usize = 256;

/// A store of which each repeat uses another part, so that no part is in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    part_bytes: usize,
    parts: usize,
}

impl Rotation {
    /// Parts of `bytes` that together exceed the cache of `cache_bytes` twice.
    pub(super) fn new(bytes: usize, cache_bytes: usize) -> Self {
        let part_bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        Self { part_bytes, parts: 1 + (2 * cache_bytes).div_ceil(part_bytes) }
    }

    /// Bytes of the store.
    pub(super) fn bytes_total(&self) -> usize {
        self.part_bytes * self.parts
    }

    /// Where the part of `repeat` starts, bytes.
    pub(super) fn offset(&self, repeat: usize) -> usize {
        repeat % self.parts * self.part_bytes
    }
}

/// Rows of a tile for token counts `counts`: short tiles where experts have few.
pub(super) fn tile_rows(counts: &[u64]) -> usize {
    let active = counts.iter().filter(|count| **count > 0).count() as u64;
    if counts.iter().sum::<u64>() <= 32 * active { 16 } else { 64 }
}

/// Expert, first row and rows of every tile, when the tokens of experts lie one after another.
pub(super) fn tiles(counts: &[u64], rows: usize) -> Vec<i32> {
    let (mut tiles, mut first) = (Vec::new(), 0_u64);
    for (expert, count) in counts.iter().enumerate() {
        for start in (0..*count).step_by(rows) {
            let values = [expert as u64, first + start, (count - start).min(rows as u64)];
            tiles.extend(values.map(|value| i32::try_from(value).unwrap_or(i32::MAX)));
        }
        first += count;
    }
    tiles
}

/// The largest group of query heads that one block serves: 1, 4 or 8 that share a key head.
pub(super) fn head_group(heads: usize, kv_heads: usize) -> Option<usize> {
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return None;
    }
    [8, 4, 1].into_iter().find(|group| (heads / kv_heads).is_multiple_of(*group))
}

/// Into how many spans a context is cut so that `blocks` become enough for the processors.
pub(super) fn splits(context: usize, blocks: usize, processors: usize) -> usize {
    let wanted = (4 * processors).div_ceil(blocks.max(1));
    wanted.clamp(1, context.div_ceil(SPAN_MIN).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_apart_and_exceed_the_cache() {
        for (bytes, cache) in [(1, 1 << 20), (1000, 5000), (1 << 24, 1 << 20)] {
            let rotation = Rotation::new(bytes, cache);
            assert!(rotation.bytes_total() >= 2 * cache + bytes);
            for repeat in 0..100 {
                assert!(rotation.offset(repeat) + bytes <= rotation.bytes_total());
                assert_eq!(rotation.offset(repeat) % ALIGNMENT, 0);
            }
            assert!(rotation.offset(1) >= bytes);
        }
    }

    proptest! {
        /// Every row is in one tile, and no tile holds rows of two experts.
        #[test]
        fn tiles_cover_every_row_once(counts in prop::collection::vec(0_u64..200, 0..40)) {
            let rows = tile_rows(&counts);
            let (mut next, mut of_expert) = (0, vec![0_u64; counts.len()]);
            for tile in tiles(&counts, rows).chunks(3) {
                let [expert, first, high] = [tile[0], tile[1], tile[2]];
                prop_assert_eq!(first, next);
                prop_assert!(high > 0 && high as usize <= rows);
                of_expert[expert as usize] += high as u64;
                next += high;
            }
            prop_assert_eq!(of_expert, counts);
        }
    }

    #[test]
    fn few_tokens_an_expert_get_short_tiles() {
        assert_eq!(tile_rows(&[1, 0, 2]), 16);
        assert_eq!(tile_rows(&[0, 500, 0]), 64);
        assert_eq!(tiles(&[0, 17, 1], 16), [1, 0, 16, 1, 16, 1, 2, 17, 1]);
    }

    #[test]
    fn heads_are_grouped_by_what_they_share() {
        assert_eq!(head_group(32, 4), Some(8));
        assert_eq!(head_group(32, 8), Some(4));
        assert_eq!(head_group(64, 4), Some(8));
        assert_eq!(head_group(16, 16), Some(1));
        assert_eq!(head_group(16, 3), None);
        assert_eq!(head_group(16, 0), None);
    }

    #[test]
    fn long_contexts_of_few_requests_are_split() {
        // 132 processors want 528 blocks.
        assert_eq!(splits(32768, 4, 132), 128);
        assert_eq!(splits(32768, 512, 132), 2);
        assert_eq!(splits(512, 4, 132), 2);
        assert_eq!(splits(100, 4, 132), 1);
    }
}

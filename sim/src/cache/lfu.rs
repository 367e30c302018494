//! LFU: whoever was used least since it came leaves; of equals, who reached that count first.
//! Counts are forgotten on eviction, as in libCacheSim. Residents of equal counts stand in a list,
//! and the lists in the order of their counts (Shah, Mitra and Matani, "An O(1) algorithm for
//! implementing the LFU cache eviction scheme", 2010).
//! Cost: constant per look-up; 40 bytes an expert.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lfu",
    about: "the least frequently used leaves; counts begin anew on every arrival",
    sees: Sees::Past,
    build: |setting| Box::new(Lfu::new(setting.items())),
};

const NONE: u32 = u32::MAX;

/// Residents of one count.
#[derive(Clone, Copy)]
struct Bucket {
    count: u64,
    lower: u32,
    higher: u32,
}

struct Lfu {
    /// A list a bucket.
    members: Lists,
    bucket_of: Vec<u32>,
    buckets: Vec<Bucket>,
    unused: Vec<u32>,
    /// The bucket of the lowest count.
    lowest: u32,
}

impl Lfu {
    fn new(items: usize) -> Self {
        Self {
            // Every item may have a count of its own, and one bucket more is filled while another
            // is emptied.
            members: Lists::new(items, items + 1),
            bucket_of: vec![NONE; items],
            buckets: Vec::new(),
            unused: Vec::new(),
            lowest: NONE,
        }
    }

    /// An empty bucket of `count` above `lower`.
    fn insert(&mut self, count: u64, lower: u32) -> u32 {
        let bucket = self.unused.pop().unwrap_or_else(|| {
            self.buckets.push(Bucket { count: 0, lower: NONE, higher: NONE });
            self.buckets.len() as u32 - 1
        });
        let higher = if lower == NONE { self.lowest } else { self.buckets[lower as usize].higher };
        self.buckets[bucket as usize] = Bucket { count, lower, higher };
        self.link(lower, bucket);
        if higher != NONE {
            self.buckets[higher as usize].lower = bucket;
        }
        bucket
    }

    /// Makes `higher` the next one above `lower`.
    #[inline]
    fn link(&mut self, lower: u32, higher: u32) {
        if lower == NONE {
            self.lowest = higher;
        } else {
            self.buckets[lower as usize].higher = higher;
        }
    }

    #[inline]
    fn put(&mut self, bucket: u32, item: Item) {
        self.members.push_front(bucket as usize, item);
        self.bucket_of[item as usize] = bucket;
    }

    /// Takes `item` out of `bucket`, which goes when it is empty.
    #[inline]
    fn take(&mut self, bucket: u32, item: Item) {
        self.members.remove(bucket as usize, item);
        if self.members.len(bucket as usize) > 0 {
            return;
        }
        let Bucket { lower, higher, .. } = self.buckets[bucket as usize];
        self.link(lower, higher);
        if higher != NONE {
            self.buckets[higher as usize].lower = lower;
        }
        self.unused.push(bucket);
    }
}

impl Policy for Lfu {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        let bucket = self.bucket_of[item as usize];
        let Bucket { count, higher, .. } = self.buckets[bucket as usize];
        let exists = higher != NONE && self.buckets[higher as usize].count == count + 1;
        if !exists && self.members.len(bucket as usize) == 1 {
            // Alone, it takes its bucket along.
            self.buckets[bucket as usize].count += 1;
            return;
        }
        let target = if exists { higher } else { self.insert(count + 1, bucket) };
        self.take(bucket, item);
        self.put(target, item);
    }

    #[inline]
    fn admit(&mut self, item: Item, _: Moment) {
        let lowest = self.lowest;
        let exists = lowest != NONE && self.buckets[lowest as usize].count == 1;
        let target = if exists { lowest } else { self.insert(1, NONE) };
        self.put(target, item);
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let mut bucket = self.lowest;
        while bucket != NONE {
            let found = self.members.from_back(bucket as usize).find(|&item| keep.allows(item));
            if found.is_some() {
                return found;
            }
            bucket = self.buckets[bucket as usize].higher;
        }
        None
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        self.take(self.bucket_of[item as usize], item);
    }
}

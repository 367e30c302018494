//! S3-FIFO: newcomers pass through a small FIFO queue, those used twice there go on to a main one,
//! and those who leave it unused are remembered in a ghost queue that lets them straight into the
//! main queue when they come back (Yang et al., "FIFO queues are all you need for cache eviction",
//! SOSP 2023). Sizes and thresholds are those of libCacheSim: a tenth of the slots for the small
//! queue, as many ghosts as nine tenths, two uses to move on, up to two further rounds in the main.
//! Cost: constant per look-up, amortised; 10 bytes an expert.
//! Departures: as in libCacheSim and unlike the paper, the main queue takes newcomers while the
//! cache fills. Unlike libCacheSim the small queue has one place at least, so that caches below
//! twenty slots work; who may not leave because the current event uses it is passed by.

use super::list::Lists;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "s3-fifo",
    about: "a small and a main FIFO queue, and ghosts of who left the small one",
    sees: Sees::Past,
    build: |setting| Box::new(S3Fifo::new(setting.items(), setting.slots)),
};

const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOST: usize = 2;

/// Where an item is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Small,
    Main,
    Ghost,
    /// It was a ghost until it missed, and is to come in.
    Returning,
}

struct S3Fifo {
    queues: Lists,
    places: Vec<Place>,
    /// Uses since it came into its queue; four stand for more.
    uses: Vec<u8>,
    /// What the small queue, the main queue and the ghosts may be.
    most: [usize; 3],
    /// False while the cache fills for the first time.
    has_evicted: bool,
}

impl S3Fifo {
    fn new(items: usize, slots: usize) -> Self {
        let small = (slots / 10).max(1);
        Self {
            queues: Lists::new(items, 3),
            places: vec![Place::Nowhere; items],
            uses: vec![0; items],
            most: [small, slots.saturating_sub(small), slots * 9 / 10],
            has_evicted: false,
        }
    }

    /// The oldest of the small queue that was used less than twice; others before it move on.
    #[inline]
    fn leaver_of_small(&mut self, keep: Keep<'_>) -> Option<Item> {
        let mut next = self.queues.back(SMALL);
        while let Some(item) = next {
            next = self.queues.towards_front(SMALL, item);
            if !keep.allows(item) {
                continue;
            }
            if self.uses[item as usize] < 2 {
                return Some(item);
            }
            self.queues.remove(SMALL, item);
            self.enter_main(item);
        }
        None
    }

    /// The oldest of the main queue that has no use left; others go round and pay with one.
    #[inline]
    fn leaver_of_main(&mut self, keep: Keep<'_>) -> Option<Item> {
        for _ in 0..=4 * self.queues.len(MAIN) {
            let item = self.queues.back(MAIN)?;
            let uses = &mut self.uses[item as usize];
            if keep.allows(item) {
                if *uses == 0 {
                    return Some(item);
                }
                *uses = (*uses).min(3) - 1;
            }
            self.queues.refresh(MAIN, item);
        }
        None
    }

    #[inline]
    fn enter_main(&mut self, item: Item) {
        self.queues.push_front(MAIN, item);
        self.places[item as usize] = Place::Main;
        self.uses[item as usize] = 0;
    }
}

impl Policy for S3Fifo {
    #[inline]
    fn hit(&mut self, item: Item, _: Moment) {
        let uses = &mut self.uses[item as usize];
        *uses = (*uses + 1).min(4);
    }

    #[inline]
    fn miss(&mut self, item: Item, _: Moment) {
        let place = &mut self.places[item as usize];
        if *place == Place::Ghost {
            *place = Place::Returning;
            self.queues.remove(GHOST, item);
        }
    }

    #[inline]
    fn admit(&mut self, item: Item, at: Moment) {
        // A prefetched expert did not miss.
        self.miss(item, at);
        let returns = self.places[item as usize] == Place::Returning;
        let fills = !self.has_evicted && self.queues.len(SMALL) >= self.most[SMALL];
        if returns || fills {
            return self.enter_main(item);
        }
        self.queues.push_front(SMALL, item);
        self.places[item as usize] = Place::Small;
        self.uses[item as usize] = 0;
    }

    #[inline]
    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.has_evicted = true;
        if self.queues.len(MAIN) > self.most[MAIN] || self.queues.len(SMALL) == 0 {
            return self.leaver_of_main(keep).or_else(|| self.leaver_of_small(keep));
        }
        self.leaver_of_small(keep).or_else(|| self.leaver_of_main(keep))
    }

    #[inline]
    fn evicted(&mut self, item: Item, _: Moment) {
        let place = std::mem::replace(&mut self.places[item as usize], Place::Nowhere);
        if place == Place::Main {
            return self.queues.remove(MAIN, item);
        }
        self.queues.remove(SMALL, item);
        if self.most[GHOST] == 0 {
            return;
        }
        if self.queues.len(GHOST) == self.most[GHOST] {
            let oldest = self.queues.back(GHOST).expect("a full queue");
            self.queues.remove(GHOST, oldest);
            self.places[oldest as usize] = Place::Nowhere;
        }
        self.queues.push_front(GHOST, item);
        self.places[item as usize] = Place::Ghost;
    }
}

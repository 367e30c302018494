//! Threads that start and end their work together, and the time between.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Spins before a waiting thread offers its core to others.
const SPINS: u32 = 20_000;

/// A barrier that spins, as inference engines do: sleeping would cost more than a small expert.
pub(super) struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    /// A barrier of `threads` threads.
    pub(super) fn new(threads: usize) -> Self {
        Self { threads, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Waits until every thread is here.
    pub(super) fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Release);
            self.round.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Runs `work(repeat)` of each worker `repeats` times, all at once, and gives the microseconds
/// from the moment that all started to the moment that all had ended. Workers get the barrier,
/// to meet at in between; they must all meet equally often.
pub(super) fn time_together<W: FnMut(usize, &Barrier) + Send>(
    workers: Vec<W>,
    repeats: usize,
) -> Vec<f64> {
    let barrier = Barrier::new(workers.len());
    let together = |mut work: W| {
        let mut times = Vec::with_capacity(repeats);
        for repeat in 0..repeats {
            barrier.wait();
            let start = Instant::now();
            work(repeat, &barrier);
            barrier.wait();
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        times
    };
    std::thread::scope(|scope| {
        let mut workers = workers.into_iter();
        let first = workers.next();
        for work in workers {
            scope.spawn(|| together(work));
        }
        first.map(together).unwrap_or_default()
    })
}

/// The part of `0..length` that worker `index` of `workers` does, in blocks of `block`.
pub(super) fn share(length: usize, block: usize, index: usize, workers: usize) -> Range<usize> {
    let blocks = length.div_ceil(block);
    let edge = |index: usize| (blocks * index / workers * block).min(length);
    edge(index)..edge(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (length, workers) in [(1, 4), (64, 3), (66, 5), (2048, 7)] {
            let shares: Vec<_> =
                (0..workers).map(|index| share(length, 4, index, workers)).collect();
            assert_eq!(shares[0].start, 0);
            assert_eq!(shares[workers - 1].end, length);
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn nobody_goes_on_before_all_have_come() {
        let counter = AtomicUsize::new(0);
        let workers: Vec<_> = (0..3)
            .map(|_| {
                |repeat: usize, barrier: &Barrier| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    barrier.wait();
                    assert_eq!(counter.load(Ordering::SeqCst), 3 * (repeat + 1));
                }
            })
            .collect();
        assert_eq!(time_together(workers, 50).len(), 50);
    }
}

//! Events per second of the kernel under the hold model: pop one event, push another.
//!
//! The bar: 20 million a second on one thread with a few hundred to a few thousand pending. The
//! peer in the same run is a `std::collections::BinaryHeap` of the same keys. The `item/s` column
//! counts events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use moecast_profiles::units::SimTime;
use moecast_sim::event::EventQueue;

fn main() {
    divan::main();
}

/// Events per timing.
const EVENTS: usize = 100_000;
/// Events pending throughout.
const PENDING: [u32; 4] = [1, 256, 1024, 4096];

/// Delays of up to 131 us, the same in every run.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 47
    }
}

#[divan::bench(args = PENDING)]
fn event_queue(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut queue, mut delays) = (EventQueue::new(), Delays(0x2545_F491_4F6C_DD1D));
    for event in 0..pending {
        queue.push(SimTime(delays.next()), 0, event);
    }
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        for _ in 0..EVENTS {
            let (now, event) = queue.pop().unwrap();
            queue.push(SimTime(now.0 + delays.next()), (event & 3) as u16, black_box(event));
        }
    });
}

#[divan::bench(args = PENDING)]
fn standard_binary_heap(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut heap, mut delays) = (BinaryHeap::new(), Delays(0x2545_F491_4F6C_DD1D));
    let mut sequence = 0_u64;
    for event in 0..pending {
        heap.push(Reverse((SimTime(delays.next()), 0_u16, sequence, event)));
        sequence += 1;
    }
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        for _ in 0..EVENTS {
            let Reverse((now, _, _, event)) = heap.pop().unwrap();
            let time = SimTime(now.0 + delays.next());
            heap.push(Reverse((time, (event & 3) as u16, sequence, black_box(event))));
            sequence += 1;
        }
    });
}

//! `HybriMoE`'s schedule (arXiv 2504.05897): experts in GPU memory first, by tokens descending,
//! then the others by tokens descending; the GPU takes from the head, the processor from the tail,
//! each expert to whichever finishes it first, copies on a timeline of their own. Cost: one sort.
//!
//! In that order it is never slower than the GPU alone, nor than the processor with what is
//! elsewhere: on its own, each would finish the expert in question no sooner than it does here
//! (reads from storage aside, which the processor awaits from the tail).
//! Departure: experts that are still on their way to GPU memory come after those that are there.

use super::{At, By, Entry, Target, Work, order};

pub(super) const ENTRY: Entry = Entry {
    name: "hybrid",
    about: "GPU from the head, processor from the tail, whichever is done first (HybriMoE)",
    needs_processor: true,
    build: || Box::new(Hybrid),
};

struct Hybrid;

impl Target for Hybrid {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        let start = into.len();
        into.extend(work.asked.iter().map(|_| By::Gpu));
        let elsewhere = |index: usize| !matches!(work.asked[index].at, At::Gpu(_));
        let order = order(work);
        let (mut gpu, mut cpu, mut link) = (work.gpu_busy, work.cpu_busy, work.link_busy);
        let (mut head, mut tail) = (0, order.len());
        while head < tail {
            let (first, last) = (&work.asked[order[head]], &work.asked[order[tail - 1]]);
            let copied = match first.at {
                At::Gpu(ready) => ready,
                At::Host(copy) => link + copy,
                At::Storage(read, copy) => link.max(read) + copy,
            };
            let read = if let At::Storage(read, _) = last.at { read } else { 0.0 };
            let gpu_done = gpu.max(copied) + first.gpu;
            let cpu_done = cpu.max(read) + last.cpu;
            if gpu_done <= cpu_done {
                gpu = gpu_done;
                link = if elsewhere(order[head]) { copied } else { link };
                head += 1;
            } else {
                cpu = cpu_done;
                into[start + order[tail - 1]] = By::Cpu;
                tail -= 1;
            }
        }
    }
}

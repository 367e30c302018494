//! The shortest schedule: every way to share the experts where few enough are free to move, else a
//! local search from the best of the other targets. A bound for schedules rather than a policy, as
//! no system spends that long on a layer. Cost: 2^12 partial schedules at most when exact, cut
//! short where they are already too long; else at most [`ROUNDS_MAX`] times n^2 schedules.
//!
//! Experts are worked on in [`super::order()`]. Up to twelve experts, all may move; beyond, when at
//! most twelve are elsewhere, those in GPU memory stay on the GPU for the exact part, and move in
//! the local search that follows.

use super::{At, By, Entry, Target, Work, cpu, fiddler, fiddler_published, gpu, hybrid};
use super::{makespan, order};

/// Experts that the exact search shares out.
const EXACT_MAX: usize = 12;
/// Improving rounds of the local search.
const ROUNDS_MAX: usize = 32;

pub(super) const ENTRY: Entry = Entry {
    name: "best",
    about: "the shortest of all schedules up to 12 experts, else a local search: a bound",
    needs_processor: true,
    build: || Box::new(Best),
};

/// What the search starts from.
const OTHERS: [&Entry; 5] =
    [&cpu::ENTRY, &fiddler::ENTRY, &fiddler_published::ENTRY, &gpu::ENTRY, &hybrid::ENTRY];

struct Best;

/// Where the three timelines stand after some experts; a timeline that did nothing ends at 0.
#[derive(Clone, Copy)]
struct Lanes {
    gpu: f64,
    cpu: f64,
    link: f64,
    used: [bool; 2],
}

impl Lanes {
    fn end(&self) -> f64 {
        let end = |lane: f64, used| if used { lane } else { 0.0 };
        end(self.gpu, self.used[0]).max(end(self.cpu, self.used[1]))
    }
}

/// A search over schedules of one layer.
struct Search<'a> {
    work: &'a Work<'a>,
    order: Vec<usize>,
    /// Experts that stay on the GPU.
    pinned: Vec<bool>,
    now: Vec<By>,
    best: Vec<By>,
    end: f64,
}

impl Search<'_> {
    /// Tries both sides for the expert at `depth` of the order and all after it.
    fn descend(&mut self, depth: usize, lanes: Lanes) {
        // Timelines never run back, so that what is too long already stays so.
        if lanes.end() >= self.end {
            return;
        }
        let Some(&index) = self.order.get(depth) else {
            self.end = lanes.end();
            self.best.clone_from(&self.now);
            return;
        };
        let asked = &self.work.asked[index];
        let mut on_gpu = lanes;
        let ready = match asked.at {
            At::Gpu(ready) => ready,
            At::Host(copy) => {
                on_gpu.link += copy;
                on_gpu.link
            }
            At::Storage(read, copy) => {
                on_gpu.link = on_gpu.link.max(read) + copy;
                on_gpu.link
            }
        };
        on_gpu.gpu = on_gpu.gpu.max(ready) + asked.gpu;
        on_gpu.used[0] = true;
        self.now[index] = By::Gpu;
        self.descend(depth + 1, on_gpu);
        if !self.pinned[index] {
            let mut on_cpu = lanes;
            let ready = if let At::Storage(read, _) = asked.at { read } else { 0.0 };
            on_cpu.cpu = on_cpu.cpu.max(ready) + asked.cpu;
            on_cpu.used[1] = true;
            self.now[index] = By::Cpu;
            self.descend(depth + 1, on_cpu);
        }
    }

    /// Takes `self.now` if it is shorter than the best.
    fn consider(&mut self) -> bool {
        let end = makespan(self.work, &self.now, &self.order);
        let shorter = end < self.end;
        if shorter {
            self.end = end;
            self.best.clone_from(&self.now);
        }
        shorter
    }

    /// Moves one expert, or exchanges two, while that makes the schedule shorter.
    fn polish(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let from = self.best.clone();
            let mut shorter = false;
            for a in 0..from.len() {
                for b in a..from.len() {
                    if a != b && from[a] == from[b] {
                        continue;
                    }
                    self.now.clone_from(&from);
                    self.now[a] = other(from[a]);
                    if a != b {
                        self.now[b] = other(from[b]);
                    }
                    shorter |= self.consider();
                }
            }
            if !shorter {
                return;
            }
        }
    }
}

fn other(by: By) -> By {
    match by {
        By::Gpu => By::Cpu,
        By::Cpu => By::Gpu,
    }
}

impl Target for Best {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        let there: Vec<bool> = work.asked.iter().map(|it| matches!(it.at, At::Gpu(_))).collect();
        let elsewhere = there.iter().filter(|there| !**there).count();
        let all_move = there.len() <= EXACT_MAX;
        let mut search = Search {
            work,
            order: order(work),
            pinned: there.iter().map(|&there| there && !all_move).collect(),
            now: vec![By::Gpu; there.len()],
            best: vec![By::Gpu; there.len()],
            end: f64::INFINITY,
        };
        for entry in OTHERS {
            search.now.clear();
            (entry.build)().assign(work, &mut search.now);
            search.consider();
        }
        if elsewhere <= EXACT_MAX {
            let (gpu, cpu, link) = (work.gpu_busy, work.cpu_busy, work.link_busy);
            search.descend(0, Lanes { gpu, cpu, link, used: [false; 2] });
        }
        if !all_move {
            search.polish();
        }
        into.append(&mut search.best);
    }
}

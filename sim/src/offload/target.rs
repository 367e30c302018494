//! Who computes the experts of a layer that are not in GPU memory: a registry.
//!
//! A target assigns; the engine copies, computes and keeps time. Experts of one layer and one GPU
//! are assigned together, because the GPU, the processor and the link work side by side.

mod best;
mod cpu;
mod fiddler;
mod fiddler_published;
mod gpu;
mod hybrid;
mod order;
#[cfg(test)]
mod tests;

pub use order::order;

use moecast_profiles::registry::{UnknownName, find as find_entry};

/// Where an expert's weights are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// In GPU memory, or there in so many seconds.
    Gpu(f64),
    /// In host memory, where the processor can work on them; a copy takes so many seconds, the
    /// link free.
    Host(f64),
    /// In storage: so many seconds until they are in host memory, and a copy of so many after that.
    Storage(f64, f64),
}

/// An expert that tokens ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Logical expert.
    pub expert: u16,
    /// Tokens.
    pub rows: u32,
    /// Sum of their gate weights.
    pub weight: f32,
    /// Its weights.
    pub at: At,
    /// Seconds that the GPU computes for these rows.
    pub gpu: f64,
    /// Seconds that the processor computes for these rows; infinite where there is none.
    pub cpu: f64,
}

/// Who works on an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The GPU, after a copy where its weights are elsewhere.
    Gpu,
    /// The processor, from host memory.
    Cpu,
}

/// One layer's work for one GPU and the processor.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Experts, by number.
    pub asked: &'a [Asked],
    /// Seconds until the link to GPU memory is free.
    pub link_busy: f64,
    /// Seconds until the GPU is free: shared experts run first.
    pub gpu_busy: f64,
    /// Seconds until the processor is free, the way of the activations to it included.
    pub cpu_busy: f64,
}

/// Assigns experts.
pub trait Target: Send {
    /// Pushes one [`By`] for each of `work.asked`.
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>);
}

/// A target that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether it needs a processor that computes.
    pub needs_processor: bool,
    /// Builds it.
    pub build: fn() -> Box<dyn Target>,
}

moecast_profiles::named!(Entry);

/// Every target, alphabetical.
pub const ALL: &[Entry] =
    &[best::ENTRY, cpu::ENTRY, fiddler::ENTRY, fiddler_published::ENTRY, gpu::ENTRY, hybrid::ENTRY];

/// Finds a target by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("compute target", ALL, name)
}

/// Seconds until all experts of `work` are computed when they are assigned as `by` says: copies in
/// the order of `order` (indices into `asked`), each timeline in that order too.
#[must_use]
pub fn makespan(work: &Work<'_>, by: &[By], order: &[usize]) -> f64 {
    let (mut gpu, mut cpu, mut link) = (work.gpu_busy, work.cpu_busy, work.link_busy);
    let mut used = [false; 2];
    for &index in order {
        let asked = &work.asked[index];
        match by[index] {
            By::Gpu => {
                let ready = match asked.at {
                    At::Gpu(ready) => ready,
                    At::Host(copy) => {
                        link += copy;
                        link
                    }
                    At::Storage(read, copy) => {
                        link = link.max(read) + copy;
                        link
                    }
                };
                gpu = gpu.max(ready) + asked.gpu;
                used[0] = true;
            }
            By::Cpu => {
                let ready = if let At::Storage(read, _) = asked.at { read } else { 0.0 };
                cpu = cpu.max(ready) + asked.cpu;
                used[1] = true;
            }
        }
    }
    (if used[0] { gpu } else { 0.0 }).max(if used[1] { cpu } else { 0.0 })
}

//! Copies from memory to memory, some at once.

use super::super::TimingError;
use super::system::Facts;
use super::threads::{Barrier, time_together};
use super::unsupported;

/// Copies `bytes` by each of `threads` threads at once, `repeats` times. Each copy reads and
/// writes another part of buffers that together exceed the last-level cache.
pub(super) fn time(
    bytes: usize,
    threads: u32,
    repeats: u32,
    facts: &Facts,
) -> Result<Vec<f64>, TimingError> {
    let threads = threads.max(1) as usize;
    let span = bytes.max(facts.cache_bytes / threads);
    let needed = span.saturating_mul(2 * threads);
    if needed > facts.memory_bytes / 2 {
        return Err(unsupported(format!("{needed} bytes are more than half of the free memory")));
    }
    let workers = (0..threads)
        .map(|thread| {
            let source = vec![u8::try_from(thread % 251 + 1).unwrap_or(1); span];
            let mut target = vec![0_u8; span];
            target.fill(1);
            move |repeat: usize, _: &Barrier| {
                let start = repeat % (span / bytes.max(1)).max(1) * bytes;
                let part = start..start + bytes;
                target[part.clone()].copy_from_slice(&source[part]);
                std::hint::black_box(&mut target);
            }
        })
        .collect();
    Ok(time_together(workers, repeats as usize))
}

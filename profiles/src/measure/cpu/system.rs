//! What this machine says of itself, and what is assumed where it says nothing.

use std::fs::read_to_string;
use std::path::Path;

/// Assumed last-level cache.
const CACHE_BYTES: usize = 64 << 20;
/// Assumed free memory.
const MEMORY_BYTES: usize = 4 << 30;

/// A load average above this disturbs measurements.
const BUSY_ABOVE: f64 = 0.5;

/// What sizes the working sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The processor's name.
    pub(super) name: String,
    /// Last-level caches that the threads have together.
    pub(super) cache_bytes: usize,
    /// Memory that is free.
    pub(super) memory_bytes: usize,
}

impl Facts {
    /// Reads them, for a process that may run `threads` threads.
    pub(super) fn read(threads: u32) -> Self {
        let text = |path: &str| read_to_string(path).unwrap_or_default();
        let (cpu, memory) = (text("/proc/cpuinfo"), text("/proc/meminfo"));
        let name = field(&cpu, "model name").unwrap_or("unnamed processor").to_owned();
        let memory_bytes = field(&memory, "MemAvailable").and_then(bytes).unwrap_or(MEMORY_BYTES);
        let caches = Path::new("/sys/devices/system/cpu/cpu0/cache");
        let cache_bytes = (0..8)
            .map(|index| caches.join(format!("index{index}")))
            .filter_map(|cache| {
                let size = bytes(read_to_string(cache.join("size")).ok()?.trim())?;
                let list = read_to_string(cache.join("shared_cpu_list")).ok()?;
                let sharing = listed(list.trim());
                Some(size * (threads as usize).div_ceil(sharing.max(1)))
            })
            .max()
            .unwrap_or(CACHE_BYTES);
        Self { name, cache_bytes, memory_bytes }
    }
}

/// What to say of other programs at work, from the load average of the last minute.
pub(super) fn busy() -> Option<String> {
    busy_from(&read_to_string("/proc/loadavg").ok()?)
}

fn busy_from(text: &str) -> Option<String> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    let flag = || format!("other programs were at work: the load average began at {load}");
    (load > BUSY_ABOVE).then(flag)
}

/// The value of the first `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(found, _)| found.trim() == key).map(|(_, value)| value.trim())
}

/// Bytes of a text like `107520K`, `16 kB` or `2M`.
fn bytes(text: &str) -> Option<usize> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().as_bytes().first() {
        None => 1,
        Some(b'K' | b'k') => 1 << 10,
        Some(b'M' | b'm') => 1 << 20,
        Some(b'G' | b'g') => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(unit)
}

/// How many processors a list like `0-3,8` names.
fn listed(text: &str) -> usize {
    let count = |part: &str| match part.split_once('-') {
        None => 1,
        Some((first, last)) => {
            let ends = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
            ends.map_or(1, |(first, last)| last.saturating_sub(first) + 1)
        }
    };
    text.split(',').map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_are_understood() {
        assert_eq!(bytes("107520K"), Some(107_520 << 10));
        assert_eq!(bytes("16 kB"), Some(16 << 10));
        assert_eq!(bytes("12"), Some(12));
        assert_eq!(bytes("x"), None);
        assert_eq!((listed("0"), listed("0-3"), listed("0-3,8-11,16")), (1, 4, 9));
        assert_eq!(field("a : 1\nmodel name\t: X 5\n", "model name"), Some("X 5"));
    }

    #[test]
    fn a_busy_machine_is_told() {
        assert_eq!(busy_from("0.12 0.20 0.15 1/200 999\n"), None);
        assert!(busy_from("5.67 5.27 4.11 7/300 999\n").is_some_and(|flag| flag.contains("5.67")));
        assert_eq!(busy_from(""), None);
    }

    #[test]
    fn this_machine_has_a_cache_and_memory() {
        let facts = Facts::read(2);
        assert!(facts.cache_bytes >= 1 << 15 && facts.memory_bytes > 1 << 20, "{facts:?}");
    }
}

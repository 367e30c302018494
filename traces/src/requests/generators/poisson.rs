//! Independent requests at a constant mean rate: gaps are exponential. The usual assumption of
//! queueing theory and the default of serving benchmarks.

use super::{Entry, RATE, REQUESTS};
use crate::random::exponential;

pub(super) const ENTRY: Entry = Entry {
    name: "poisson",
    about: "independent arrivals at a constant mean rate",
    settings: &[RATE, REQUESTS],
    generate: |task| {
        let mut bits = task.seed.stream("arrivals");
        task.open(&spaced(task.count("requests"), task.value("rate"), || exponential(&mut bits)))
    },
};

/// Times in seconds of `count` arrivals at `rate` a second, the first at 0, with gaps of mean 1.
///
/// They are summed before they are divided by the rate: twice the rate is half the time.
pub(super) fn spaced(count: u32, rate: f64, mut gap: impl FnMut() -> f64) -> Vec<f64> {
    let mut time = 0.0;
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        times.push(time / rate);
        time += gap();
    }
    times
}

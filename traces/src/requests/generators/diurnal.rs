//! Requests that come and go with the day: a Poisson process whose rate follows a sinusoid from
//! its trough at time 0 to its peak half a period later, with a given ratio between the two and
//! a given mean over a whole period.
//!
//! Drawn by thinning (Lewis and Shedler, 1979): candidates at the peak rate, each kept with the
//! share of the peak that the rate has then. The first request is at the trough.

use std::f64::consts::TAU;

use super::{Entry, RATE, REQUESTS, Setting};
use crate::random::{exponential, unit};

pub(super) const ENTRY: Entry = Entry {
    name: "diurnal",
    about: "a rate that follows the day, from its trough to its peak and back",
    settings: &[
        RATE,
        REQUESTS,
        Setting::real("peak-to-trough", "highest over lowest rate", (1.0, 1000.0)).or(3.0),
        Setting::real("period", "seconds of a day", (1.0, 1e9)).or(86_400.0),
    ],
    generate: |task| {
        let ratio = task.value("peak-to-trough");
        let swing = (ratio - 1.0) / (ratio + 1.0);
        let (rate, period) = (task.value("rate"), task.value("period"));
        let mut arrivals = task.seed.stream("arrivals");
        let mut thinning = task.seed.stream("arrivals/thinning");
        let peak = 1.0 + swing;
        let mut time = 0.0;
        let mut times = vec![0.0];
        while times.len() < task.count("requests") as usize {
            time += exponential(&mut arrivals) / (rate * peak);
            if unit(&mut thinning) * peak < share(time / period, swing) {
                times.push(time);
            }
        }
        task.open(&times)
    },
};

/// Rate over mean rate after `days` days.
pub(super) fn share(days: f64, swing: f64) -> f64 {
    // The whole days are taken off first: cosines of large angles lose digits.
    1.0 - swing * libm::cos(TAU * (days - days.floor()))
}

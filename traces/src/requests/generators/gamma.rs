//! Bursty (or steady) requests at a constant mean rate: gaps are gamma distributed with a given
//! coefficient of variation, as BurstGPT (arXiv 2401.17644) and ServeGen (arXiv 2505.09999) fit
//! to recorded traffic. 1 is Poisson, above 1 are bursts, towards 0 is a metronome.
//!
//! Not to be confused with `--burstiness` of vLLM's benchmark, which is the shape of the gamma
//! distribution: 1 over the square of ours.

use super::poisson::spaced;
use super::{Entry, RATE, REQUESTS, Setting};
use crate::random::gamma;

pub(super) const ENTRY: Entry = Entry {
    name: "gamma",
    about: "arrivals at a constant mean rate, in bursts of a given strength",
    settings: &[RATE, REQUESTS, BURSTINESS],
    generate: |task| {
        let shape = 1.0 / (task.value("burstiness") * task.value("burstiness"));
        let mut bits = task.seed.stream("arrivals");
        let gap = || gamma(shape, &mut bits) / shape;
        task.open(&spaced(task.count("requests"), task.value("rate"), gap))
    },
};

const BURSTINESS: Setting = Setting::real(
    "burstiness",
    "coefficient of variation of the gaps, 1 for Poisson",
    (0.01, 20.0),
);

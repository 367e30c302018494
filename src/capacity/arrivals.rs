//! The load of a service at any rate.

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::registry::find;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Nanos;
use moecast_sim::serving::file::LoadFile;
use moecast_traces::requests::{Load, RequestTrace, generators};

use crate::serve;

/// Requests that may miss a limit at least: with fewer a share of them is chance.
const MISSES_MIN: f64 = 20.0;
/// Requests that are made for that at most.
const REQUESTS_MAX: f64 = 20_000.0;

/// Requests of a generator or of a recording.
pub(super) struct Arrivals {
    file: LoadFile,
    /// The recording, where no generator sets the times.
    recorded: Option<RequestTrace>,
    /// Shortest time that generated requests arrive for.
    duration: Nanos,
    /// Fewest requests that are generated.
    requests_min: f64,
    seed: Seed,
}

/// What `file` must say so that it can be read before a rate is known.
pub(super) fn prepare(file: &mut LoadFile, rate: f64) -> Result<()> {
    ensure!(rate > 0.0 && rate < 1e9, "--rate: {rate}; expected requests per second above 0");
    let Some(name) = &file.generator else { return Ok(()) };
    let entry = find("request generator", generators::ALL, name)?;
    if !entry.settings.iter().any(|setting| setting.name == "rate") {
        bail!(
            "load.generator: {name}; expected requests that arrive by rate, whatever the answers: \
             poisson, gamma, diurnal or a trace"
        );
    }
    file.set.insert("rate".to_owned(), rate);
    file.set.entry("requests".to_owned()).or_insert(1.0);
    Ok(())
}

impl Arrivals {
    /// The load of `file`, whose paths are as seen from here, to measure a share of `goodput`.
    pub(super) fn new(file: LoadFile, duration: Nanos, goodput: f64, seed: u64) -> Result<Self> {
        let seed = Seed(seed);
        let requests_min = (MISSES_MIN / (1.0 - goodput)).ceil().min(REQUESTS_MAX);
        let recorded = match &file.generator {
            Some(_) => None,
            None => match serve::requests_of(&mut file.clone(), seed)? {
                Load::Open(trace) => Some(trace),
                Load::Closed(_) => bail!("load: clients that wait for answers; expected a trace"),
            },
        };
        Ok(Self { file, recorded, duration, requests_min, seed })
    }

    /// The file's own rate, where it has one.
    pub(super) fn own_rate(&self) -> Option<f64> {
        match &self.recorded {
            Some(trace) => trace.rate(),
            None => self.file.set.get("rate").copied(),
        }
    }

    /// Requests at `rate`, and the time from the first to the last.
    pub(super) fn at(&self, rate: f64) -> Result<(Load, Nanos)> {
        let load = match &self.recorded {
            Some(trace) => {
                let own = trace.rate().context(
                    "load.trace: all requests arrive at once; expected some time between them",
                )?;
                Load::Open(trace.stretched(own / rate)?)
            }
            None => {
                let mut file = self.file.clone();
                let wanted = (rate * self.duration.as_micros() / 1e6).ceil();
                let requests = file.set.entry("requests".to_owned()).or_insert(1.0);
                *requests = requests.max(wanted).max(self.requests_min);
                file.set.insert("rate".to_owned(), rate);
                serve::requests_of(&mut file, self.seed)?
            }
        };
        let time = match &load {
            Load::Open(trace) => trace.duration(),
            Load::Closed(_) => bail!("load: clients that wait for answers; expected arrivals"),
        };
        Ok((load, time))
    }
}

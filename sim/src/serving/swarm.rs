//! Thousands of random small services, each held against laws that every run keeps.
//!
//! Swarm testing: every seed switches some features off and skews the rest, so that rare
//! combinations come up (Groce et al., "Swarm testing", ISSTA 2012; TigerBeetle's VOPR is built
//! so). A broken law, or an assertion that fails, is answered with its seed, which repeats it.

mod breaks;
mod dice;
pub(super) mod facts;
mod laws;
mod machine;
mod runs;
mod scaled;
mod scenario;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

/// Scenarios between two looks at what failed.
const BLOCK: u64 = 256;

/// What a swarm has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swarm {
    /// Scenarios that kept every law.
    pub scenarios: u64,
    /// Requests that they served.
    pub requests: u64,
    /// Forward passes that it took.
    pub passes: u64,
    /// In how many scenarios each feature was on, by name.
    pub features: BTreeMap<&'static str, u64>,
}

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("serving scenario of seed {seed}: {found}; expected every law to hold")]
pub struct BrokenLaw {
    /// The seed that repeats it.
    pub seed: u64,
    /// The law, and what was found.
    pub found: String,
}

/// Every law by name.
pub fn laws() -> impl Iterator<Item = &'static str> {
    laws::ALL.iter().map(|law| law.name).chain(runs::LAWS)
}

/// Runs `scenarios` scenarios, of `seed` and the seeds after it. `progress` is told how many are
/// done.
///
/// # Errors
/// [`BrokenLaw`] of the first seed that breaks one.
pub fn swarm(seed: u64, scenarios: u64, progress: &mut dyn FnMut(u64)) -> Result<Swarm, BrokenLaw> {
    let mut seen = Swarm::default();
    while seen.scenarios < scenarios {
        let first = seen.scenarios;
        let block = first..scenarios.min(first + BLOCK);
        let all: Vec<_> =
            block.into_par_iter().map(|number| one(seed.wrapping_add(number))).collect();
        for one in all {
            let one = one?;
            seen.scenarios += 1;
            seen.requests += one.requests;
            seen.passes += one.passes;
            for name in one.features.on {
                *seen.features.entry(name).or_default() += 1;
            }
        }
        progress(seen.scenarios);
    }
    Ok(seen)
}

fn one(seed: u64) -> Result<runs::Seen, BrokenLaw> {
    let checked = catch_unwind(AssertUnwindSafe(|| runs::check(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("an assertion failed: {}", text.unwrap_or("no words")))
    });
    checked.map_err(|found| BrokenLaw { seed, found: found.replace('\n', " ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seeds of the gate are always the same; `moecast swarm` takes any others.
    #[test]
    fn a_thousand_services_keep_every_law() {
        let seen = swarm(0, 1_000, &mut |_| ()).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(seen.scenarios, 1_000);
        assert_eq!(laws().count(), 20);
        for (name, count) in &seen.features {
            assert!(*count >= 10, "{name}: on in {count} of {} scenarios", seen.scenarios);
        }
    }
}

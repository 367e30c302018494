//! Generators of requests: one file per arrival process, one line in [`ALL`].
//!
//! Every generator draws arrivals and lengths from named streams of one seed, so that a change
//! of one never shifts another: `arrivals`, `arrivals/thinning`, `lengths/input`,
//! `lengths/output`, `lengths/recorded`. Logarithms, exponentials and cosines come from the
//! crate `libm`, which computes them in portable Rust, not from the platform's C library: the
//! same seed gives the same bytes everywhere.

use std::collections::BTreeMap;

use moecast_profiles::registry::{find, nearest};
use moecast_profiles::seed::Seed;

use super::builder::{Arrival, RequestTraceBuilder};
use super::load::Load;
use super::trace::RequestHeader;
use crate::error::{Error, Result};

mod closed_loop;
mod diurnal;
mod gamma;
mod lengths;
mod poisson;

pub use lengths::{LENGTH_MAX, Length, Lengths};

#[cfg(test)]
mod tests;

/// Most requests that are generated; in memory they take a gigabyte.
pub const REQUESTS_MAX: u32 = 1 << 26;

/// A number that a generator is set by.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name as typed.
    pub name: &'static str,
    /// One line, with its unit.
    pub about: &'static str,
    /// Smallest and largest valid value.
    pub range: (f64, f64),
    /// Whether it must be a whole number.
    pub is_count: bool,
    /// Its value where the user gives none; none when it must be given.
    pub default: Option<f64>,
}

impl Setting {
    const fn count(name: &'static str, about: &'static str) -> Self {
        Self { name, about, range: (1.0, REQUESTS_MAX as f64), is_count: true, default: None }
    }

    const fn real(name: &'static str, about: &'static str, range: (f64, f64)) -> Self {
        Self { name, about, range, is_count: false, default: None }
    }

    const fn or(self, default: f64) -> Self {
        Self { default: Some(default), ..self }
    }

    fn is_valid(&self, value: f64) -> bool {
        let (low, high) = self.range;
        (low..=high).contains(&value) && !(self.is_count && value.fract() != 0.0)
    }

    fn valid(&self) -> String {
        let kind = if self.is_count { "a whole number" } else { "a number" };
        format!("{kind} from {} to {}: {}", self.range.0, self.range.1, self.about)
    }
}

/// `requests`, which every open generator has.
const REQUESTS: Setting = Setting::count("requests", "number of requests");

/// `rate`, which every open generator has.
const RATE: Setting = Setting::real("rate", "mean requests per second", (1e-6, 1e9));

/// An arrival process.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// What it is set by.
    pub settings: &'static [Setting],
    /// Makes the requests; called by [`generate`] with checked settings.
    pub generate: fn(&Task<'_>) -> Result<Load>,
}

moecast_profiles::named!(Entry);

/// Every generator, alphabetical.
pub const ALL: &[Entry] = &[closed_loop::ENTRY, diurnal::ENTRY, gamma::ENTRY, poisson::ENTRY];

/// What a generator is given: settings that were checked against [`Entry::settings`].
pub struct Task<'a> {
    entry: &'static Entry,
    /// One for each of the entry's settings.
    values: Vec<f64>,
    lengths: Lengths<'a>,
    seed: Seed,
}

impl Task<'_> {
    /// The value of one of the entry's settings.
    fn value(&self, name: &str) -> f64 {
        let place = self.entry.settings.iter().position(|setting| setting.name == name);
        self.values[place.expect("a generator asks for its own settings")]
    }

    /// The value of one of the entry's settings that are counts.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    fn count(&self, name: &str) -> u32 {
        self.value(name) as u32
    }

    /// A header that says how the requests were made.
    fn header(&self) -> RequestHeader {
        let mut header = RequestHeader::new(self.entry.name, true);
        let settings = self.entry.settings.iter().zip(&self.values);
        let settings: Vec<String> =
            settings.map(|(setting, value)| format!("{} {value}", setting.name)).collect();
        let (settings, seed) = (settings.join(", "), self.seed.0);
        header.remarks.push(format!("generated with {settings}; {}; seed {seed}", self.lengths));
        header
    }

    /// Requests that arrive the given numbers of seconds after a common instant, ascending; the
    /// first of them becomes time 0.
    fn open(&self, seconds: &[f64]) -> Result<Load> {
        let mut builder = RequestTraceBuilder::new(self.header());
        let mut lengths = self.lengths.sampler(self.seed);
        for (index, &at) in seconds.iter().enumerate() {
            let place = || format!("request {index}");
            let nanos = ((at - seconds[0]) * 1e9).round();
            if nanos >= NANOS_MAX {
                let found = format!("an arrival after {at} seconds");
                let expected = "at most 292 years: fewer requests or a higher rate";
                return Err(Error::invalid(self.entry.name, place(), found, expected));
            }
            let drawn = lengths.draw();
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            let arrival = Arrival {
                stamp: nanos as i128,
                input_tokens: drawn.input_tokens,
                output_tokens: drawn.output_tokens,
                prefix_hashes: &[],
            };
            builder.push(arrival).map_err(|refusal| refusal.at(self.entry.name, place()))?;
        }
        lengths.remark(builder.header_mut());
        let trace =
            builder.finish().map_err(|refusal| refusal.at(self.entry.name, "all requests"))?;
        Ok(Load::Open(trace))
    }
}

/// 2^63: times that a float still holds, to a microsecond.
const NANOS_MAX: f64 = 9_223_372_036_854_775_808.0;

/// Makes requests with the generator called `name`, set by `values`.
///
/// # Errors
/// When there is no such generator, a setting or length is unknown, missing or out of range, or
/// the requests would take more than 292 years.
pub fn generate(
    name: &str,
    values: &BTreeMap<String, f64>,
    lengths: Lengths<'_>,
    seed: Seed,
) -> Result<Load> {
    let entry = find("request generator", ALL, name)?;
    let names: Vec<&str> = entry.settings.iter().map(|setting| setting.name).collect();
    let refuse = |setting: &str, found: String, expected: String| {
        let place = format!("setting `{}`", setting.escape_debug());
        Err(Error::invalid(entry.name, place, found, expected))
    };
    if let Some(stranger) = values.keys().find(|given| !names.contains(&given.as_str())) {
        let all = format!("one of {}", names.join(", "));
        let near = nearest(stranger, &names).map(|near| format!("`{near}`: {all}"));
        return refuse(stranger, "unknown".to_owned(), near.unwrap_or(all));
    }
    let mut checked = Vec::new();
    for setting in entry.settings {
        match values.get(setting.name).copied().or(setting.default) {
            Some(value) if setting.is_valid(value) => checked.push(value),
            Some(value) => return refuse(setting.name, value.to_string(), setting.valid()),
            None => return refuse(setting.name, "missing".to_owned(), setting.valid()),
        }
    }
    lengths.check()?;
    (entry.generate)(&Task { entry, values: checked, lengths, seed })
}

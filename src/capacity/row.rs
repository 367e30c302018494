//! One kind of GPU in one layout: how many of it, or how fast.

use std::path::Path;

use anyhow::{Result, ensure};
use moecast_profiles::units::Nanos;
use moecast_sim::serving::file::{LayoutFile, ServiceFile};
use serde::Serialize;

use super::arrivals::{self, Arrivals};
use super::judge::{self, Question, Target, Verdict};
use super::{layouts, search};
use crate::output::one_line;
use crate::serve::{self, Loaded};

/// Rates that are tried are powers of this one: answers are within 1%.
const RATE_STEP: f64 = 1.01;
/// Powers that are tried: from 0.001 to 2e6 requests per second.
const RATE_POWERS: [i32; 2] = [-694, 1_458];
/// Powers between the first two rates, a factor of 1.4.
const FIRST_STEP: i32 = 32;

/// What is asked of every row.
pub(super) struct Ask {
    pub(super) target: Target,
    /// Requests per second; the file's own where absent.
    pub(super) rate: Option<f64>,
    /// Find the largest rate instead of the fewest replicas.
    pub(super) rate_max: bool,
    pub(super) replicas_max: u16,
    pub(super) duration: Nanos,
    pub(super) seed: u64,
}

/// The answer for one kind of GPU in one layout.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) gpu: String,
    /// How the replicas of every pool are divided.
    pub(super) layout: Vec<String>,
    /// GPUs of the smallest step: a replica of every pool, or as many as the file's ratio asks.
    pub(super) gpus_per_step: Option<u32>,
    pub(super) price_per_gpu_hour: Option<f64>,
    pub(super) cost_per_hour: Option<f64>,
    pub(super) cost_per_million_output_tokens: Option<f64>,
    /// Why there is no answer.
    pub(super) skipped: Option<String>,
    /// Where the weights do not fit: GPUs of a replica that hold them, and their layout.
    pub(super) fits_from: Option<Fit>,
    /// The fewest replicas, or the largest rate, that hold.
    pub(super) holds: Option<Verdict>,
    /// One step fewer replicas, or one step more rate; what was tried last where nothing holds.
    pub(super) beyond: Option<Verdict>,
    /// Everything that was asked on the way.
    pub(super) tried: Vec<Tried>,
    /// What a reader must know; the answer has those of all rows.
    #[serde(skip)]
    pub(super) remarks: Vec<String>,
}

/// A wider layout.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fit {
    pub(super) gpus: u32,
    pub(super) layout: String,
}

/// A service that was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tried {
    pub(super) replicas: Vec<u16>,
    pub(super) rate: f64,
    pub(super) holds: bool,
}

/// A service whose replicas and rate can be changed.
struct Bench<'a> {
    ask: &'a Ask,
    loaded: Loaded,
    arrivals: Arrivals,
    /// Replicas of every pool in one step.
    step: Vec<u16>,
    tried: Vec<Tried>,
}

/// The answer for `file`, which was read in `folder`.
pub(super) fn answer(mut file: ServiceFile, folder: &Path, ask: &Ask) -> Result<Row> {
    let rate = ask.rate.or_else(|| file.load.set.get("rate").copied()).unwrap_or(1.0);
    arrivals::prepare(&mut file.load, rate)?;
    let mut row = Row {
        gpu: file.gpu.clone(),
        layout: layouts_of(&file),
        gpus_per_step: None,
        price_per_gpu_hour: file.price_per_gpu_hour,
        cost_per_hour: None,
        cost_per_million_output_tokens: None,
        skipped: None,
        fits_from: None,
        holds: None,
        beyond: None,
        tried: Vec::new(),
        remarks: Vec::new(),
    };
    let loaded = match serve::load(file.clone(), folder, ask.seed) {
        Ok(loaded) => loaded,
        Err(error) if error.chain().any(|cause| cause.is::<std::io::Error>()) => return Err(error),
        Err(error) => {
            let reason = one_line(&error);
            row.skipped = Some(reason.strip_prefix("scenario: ").unwrap_or(&reason).to_owned());
            if layouts::is_too_small(&error) && file.decode.is_none() {
                row.fits_from = layouts::that_fits(&file, folder, ask.seed).map(fit);
            }
            return Ok(row);
        }
    };
    row.remarks.clone_from(&loaded.remarks);
    let replicas: Vec<u16> = replicas_of(&loaded.file);
    let common = replicas.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    let step: Vec<u16> = replicas.iter().map(|count| count / common).collect();
    row.gpus_per_step = Some(loaded.service.gpus() / u32::from(common));
    let seed = loaded.file.seed.unwrap_or(ask.seed);
    let arrivals = Arrivals::new(loaded.file.load.clone(), ask.duration, ask.target.goodput, seed)?;
    let mut bench = Bench { ask, loaded, arrivals, step, tried: Vec::new() };
    if ask.rate_max {
        bench.largest_rate(common, &mut row)?
    } else {
        bench.fewest(&mut row)?
    }
    row.tried = bench.tried;
    finish(&mut row, ask.target);
    Ok(row)
}

fn layouts_of(file: &ServiceFile) -> Vec<String> {
    let first = file.layout.resolve().to_string();
    let second = file.decode.as_ref().map(|pool| pool.layout.resolve().to_string());
    std::iter::once(first).chain(second).collect()
}

fn replicas_of(file: &ServiceFile) -> Vec<u16> {
    std::iter::once(file.replicas).chain(file.decode.as_ref().map(|pool| pool.replicas)).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn fit(layout: LayoutFile) -> Fit {
    let layout = layout.resolve();
    Fit { gpus: layout.gpus(), layout: layout.to_string() }
}

impl Row {
    /// GPU and layout.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.gpu, self.layout.join(" + "))
    }
}

impl Bench<'_> {
    /// The fewest replicas that hold the rate.
    fn fewest(&mut self, row: &mut Row) -> Result<()> {
        let rate = self.ask.rate.or_else(|| self.arrivals.own_rate());
        let Some(rate) = rate else {
            anyhow::bail!("load: all requests arrive at once; expected --rate or times");
        };
        let (load, _) = self.arrivals.at(rate)?;
        self.loaded.service = self.loaded.service.under(load)?;
        // More replicas than requests would be idle.
        let requests = u32::try_from(self.loaded.service.requests()).unwrap_or(u32::MAX);
        let widest = u32::from(self.step.iter().copied().max().unwrap_or(1));
        let most = u32::from(self.ask.replicas_max).min(requests).min(u32::from(u16::MAX) / widest);
        ensure!(most > 0, "--replicas-max: {}; expected at least 1", self.ask.replicas_max);
        let found = search::smallest(most, &mut |count| self.holds(count, rate))?;
        match found {
            Some(count) => {
                row.holds = Some(self.judge(count, rate)?);
                row.beyond = (count > 1).then(|| self.judge(count - 1, rate)).transpose()?;
            }
            None => row.beyond = Some(self.judge(most, rate)?),
        }
        Ok(())
    }

    /// The largest rate that `count` steps of replicas hold.
    fn largest_rate(&mut self, count: u16, row: &mut Row) -> Result<()> {
        let [least, most] = RATE_POWERS;
        let own = self.arrivals.own_rate().unwrap_or(1.0).ln() / RATE_STEP.ln();
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a float")]
        let start = own.round() as i32;
        let count = u32::from(count);
        let found = search::largest([least, start, most], FIRST_STEP, &mut |power| {
            self.holds(count, rate_of(power))
        })?;
        match found {
            Some(power) => {
                row.holds = Some(self.judge(count, rate_of(power))?);
                if power < most {
                    row.beyond = Some(self.judge(count, rate_of(power + 1))?);
                }
            }
            None => row.beyond = Some(self.judge(count, rate_of(least))?),
        }
        Ok(())
    }

    fn replicas(&self, count: u32) -> Vec<u16> {
        let times = |each: &u16| u16::try_from(u32::from(*each) * count).unwrap_or(u16::MAX);
        self.step.iter().map(times).collect()
    }

    fn holds(&mut self, count: u32, rate: f64) -> Result<bool> {
        let replicas = self.replicas(count);
        let mut service = self.loaded.service.with_replicas(&replicas)?;
        if self.ask.rate_max {
            service = service.under(self.arrivals.at(rate)?.0)?;
        }
        let holds = judge::holds(&service, self.ask.target);
        self.tried.push(Tried { replicas, rate, holds });
        Ok(holds)
    }

    fn judge(&mut self, count: u32, rate: f64) -> Result<Verdict> {
        let replicas = self.replicas(count);
        let (load, arrivals) = self.arrivals.at(rate)?;
        self.loaded.service = self.loaded.service.with_replicas(&replicas)?.under(load)?;
        let recorder = serve::recorder(&self.loaded)?;
        let question = Question {
            service: &self.loaded.service,
            replicas: &replicas,
            rate,
            arrivals,
            target: self.ask.target,
        };
        Ok(judge::judge(&question, recorder))
    }
}

/// Four digits: what is said is what was tried.
fn rate_of(power: i32) -> f64 {
    let rate = RATE_STEP.powi(power);
    let unit = 10_f64.powf(rate.log10().floor() - 3.0);
    format!("{:.9}", (rate / unit).round() * unit).parse().unwrap_or(rate)
}

/// Costs, and what makes the answer doubtful.
fn finish(row: &mut Row, target: Target) {
    let Some(held) = &row.holds else { return };
    if let Some(price) = row.price_per_gpu_hour {
        let hour = price * f64::from(held.gpus);
        let tokens = held.rate * held.output_tokens_per_request * 3_600.0;
        row.cost_per_hour = Some(hour);
        row.cost_per_million_output_tokens = (tokens > 0.0).then(|| hour / tokens * 1e6);
    }
    let seconds = held.end_to_end_ms_mean / 1e3;
    if held.arrivals_s < 3.0 * seconds {
        row.remarks.push(format!(
            "requests arrive for {:.0} s and take {seconds:.0} s each: too short to be sure; \
             expected a longer --duration or trace",
            held.arrivals_s
        ));
    }
    let limit = target.slo.ttft.or(target.slo.end_to_end);
    let slack = limit.map_or(1e3, |limit| limit.as_micros() / 1e3) * 0.1;
    if held.queue_growth_ms > slack {
        row.remarks.push(format!(
            "the queue still grows at the answer, by {:.1} ms a second; a longer --duration may \
             ask for more",
            held.queue_growth_ms_per_second
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short_and_rise() {
        assert_eq!(rate_of(0), 1.0);
        assert_eq!(rate_of(70).to_string(), "2.007");
        assert_eq!(rate_of(231).to_string(), "9.959");
        let [least, most] = RATE_POWERS;
        assert!((least..most).all(|power| rate_of(power) < rate_of(power + 1)));
        assert!(rate_of(least) > 1e-3 && rate_of(most) < 1e7);
    }

    #[test]
    fn pools_grow_in_the_ratio_of_the_file() {
        assert_eq!([gcd(4, 6), gcd(0, 3), gcd(5, 0), gcd(7, 7)], [2, 3, 5, 7]);
    }
}

//! Synthetic traces: routing that is like a published or a recorded one, as much of it as wanted.
//!
//! The model has named knobs ([`recipe::KNOBS`]): how skewed the popularity of experts is (over
//! everything, per domain, per request), how often a token repeats what an earlier token of its
//! request picked and how fast that memory fades, how often a layer follows the one before, and
//! how popularity turns over time. [`presets`] hold knobs that were fitted to published
//! statistics, and the statistics, so that [`check`] can say whether a trace keeps the promise;
//! [`fit`] finds the knobs that are most like a recording.
//!
//! Popular experts are popular because their weight is; local routing is local because picks are
//! copied: a copy has the distribution of its original, so that memory changes when an expert is
//! used, not how often. Every request has a random stream of its own: without drift, traces of the
//! same seed agree in the requests they have in common; nothing depends on the number of threads.

mod alias;
pub mod check;
mod expert_choice;
pub mod fit;
pub mod presets;
pub mod recipe;
mod request;
#[cfg(test)]
mod tests;
mod world;

use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use rayon::prelude::*;

use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::trace::Phase;

pub use recipe::{Popularity, Recipe};

use request::{Router, distances};
use world::World;

/// What `Header::source` of every synthetic trace begins with.
pub const SOURCE: &str = "synthetic";

/// Requests that are made at a time, at least.
const CHUNK: u32 = 64;
/// What they may take, in bytes.
const CHUNK_BYTES_MAX: u64 = 1 << 30;
/// Most tokens of a request, and most requests of a trace.
const TOKENS_MAX: u32 = 1 << 20;
const REQUESTS_MAX: u32 = 1 << 26;

/// The shape of the routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Name of the model.
    pub model: String,
    /// Logical experts per MoE layer.
    pub experts: u16,
    /// Experts that every token picks in every layer.
    pub top_k: u16,
    /// Absolute number of every MoE layer, ascending.
    pub layers: Vec<u16>,
}

impl From<&ModelShape> for Shape {
    fn from(model: &ModelShape) -> Self {
        let (experts, top_k, layers) = (model.experts, model.top_k, model.moe_layers.clone());
        Self { model: model.name.clone(), experts, top_k, layers }
    }
}

impl From<&Header> for Shape {
    fn from(header: &Header) -> Self {
        let (experts, top_k, layers) = (header.experts, header.top_k, header.layers.clone());
        Self { model: header.model.clone(), experts, top_k, layers }
    }
}

/// How much is made, and what is batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Requests.
    pub requests: u32,
    /// Tokens of each, prompt and answer.
    pub tokens: u32,
    /// How many of them are generated.
    pub generated: u32,
    /// Requests that run together: their prompts are one step, and so is the next token of each.
    pub batch: u32,
}

impl Amount {
    fn check(self) -> Result<()> {
        let refuse = |what: &str, found: u32, expected: String| {
            Err(Error::invalid("synthetic trace", what, found.to_string(), expected))
        };
        if !(1..=REQUESTS_MAX).contains(&self.requests) {
            return refuse("requests", self.requests, format!("1 to {REQUESTS_MAX}"));
        }
        if !(1..=TOKENS_MAX).contains(&self.tokens) {
            return refuse("tokens of a request", self.tokens, format!("1 to {TOKENS_MAX}"));
        }
        if self.generated > self.tokens {
            return refuse("generated tokens", self.generated, format!("0 to {}", self.tokens));
        }
        if self.batch == 0 {
            return refuse("requests of a batch", 0, "at least one".to_owned());
        }
        let steps = u64::from(self.requests.div_ceil(self.batch)) * u64::from(self.generated + 1);
        if u32::try_from(steps).is_err() {
            let expected = format!("fewer than 2^32 steps; these make {steps}");
            return refuse("requests", self.requests, expected);
        }
        Ok(())
    }
}

/// One request to be made.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    prompt: u32,
    generated: u32,
    domain: u16,
    /// 0 is the first request, 1 the last.
    time: f64,
}

/// The routing `[prompt + generated, M, k]` of each of `wanted`, the first of which has number
/// `first`.
fn route(world: &World, recipe: &Recipe, k: u16, wanted: &[Wanted], from: (Seed, u32)) -> Routed {
    let distance = distances(recipe.decay);
    let (seed, first) = from;
    wanted
        .par_iter()
        .enumerate()
        .map_init(
            || Router::new(world, recipe, k, &distance),
            |router, (index, wanted)| {
                let number = u64::from(first) + index as u64;
                let mut bits = seed.stream(&format!("synth/request/{number}"));
                router.request(*wanted, &mut bits)
            },
        )
        .collect()
}

type Routed = Vec<Vec<u16>>;

/// The header of a trace of `shape` by `recipe`; `like` is the preset that the recipe is of, if it
/// was not changed.
#[must_use]
pub fn header(shape: &Shape, recipe: &Recipe, like: Option<&str>, seed: Seed) -> Header {
    let source = like.map_or_else(|| SOURCE.to_owned(), |preset| format!("{SOURCE}/{preset}"));
    let Shape { model, experts, top_k, layers } = shape;
    let mut header = Header::new(&source, model, *experts, *top_k, layers.clone());
    header.synthetic = true;
    let mut copy = recipe.clone();
    // A share that few ask for is not said where it is 0.
    let said = recipe::KNOBS.iter().filter(|k| k.name != "skipped" || recipe.skipped > 0.0);
    let knobs = said.map(|knob| format!("{} {}", knob.name, (knob.of)(&mut copy)));
    let knobs = knobs.collect::<Vec<_>>().join(", ");
    let popularity = match recipe.popularity {
        Popularity::LogNormal => "log-normal",
        Popularity::Recorded => "recorded",
        Popularity::Zipf => "zipf",
    };
    header.remarks.push(format!(
        "generated, not recorded: popularity {popularity}, {knobs}{}; seed {}",
        if recipe.choice == recipe::Choice::Expert { ", experts choose tokens" } else { "" },
        seed.0
    ));
    header.domains = (0..recipe.domains).map(|domain| format!("domain-{domain}")).collect();
    header
}

/// Makes `amount` of requests into `builder`, whose header [`header`] made. `progress` is told
/// the number of requests that are done.
///
/// # Errors
/// When the recipe or the amount is out of range.
pub fn generate(
    builder: &mut TraceBuilder,
    recipe: &Recipe,
    amount: Amount,
    seed: Seed,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let (experts, k, layers) = {
        let header = builder.header_mut();
        (header.experts, header.top_k, header.moe_layers())
    };
    amount.check()?;
    recipe.check("recipe")?;
    recipe.check_shape(layers, experts, "recipe")?;
    let world = World::new(recipe, experts, layers, seed);
    let Amount { requests, tokens, generated, batch } = amount;
    let wanted = |number: u32| Wanted {
        prompt: tokens - generated,
        generated,
        domain: u16::try_from(number % u32::from(recipe.domains)).expect("a remainder"),
        time: f64::from(number) / f64::from(requests.max(2) - 1),
    };
    let mut step = 0;
    let chunk = chunk(amount, layers * usize::from(k))?;
    for first in (0..requests).step_by(chunk as usize) {
        let last = requests.min(first.saturating_add(chunk));
        let all: Vec<Wanted> = (first..last).map(wanted).collect();
        let routed = route(&world, recipe, k, &all, (seed, first));
        for (group, routed) in (0..).zip(routed.chunks(batch as usize)) {
            let first = first + group * batch;
            push(builder, &all[(group * batch) as usize..], routed, (first, step));
            step += generated + u32::from(generated < tokens);
        }
        progress(u64::from(last));
    }
    Ok(())
}

/// How many requests are made at a time: whole batches, as many as memory allows.
fn chunk(amount: Amount, width: usize) -> Result<u32> {
    let batch = amount.batch.min(amount.requests);
    let bytes = u64::from(amount.tokens) * width as u64 * size_of::<u16>() as u64;
    let most = CHUNK_BYTES_MAX / bytes.max(1);
    if u64::from(batch) > most {
        let found = format!("{batch} requests of {} tokens", amount.tokens);
        let expected = format!("{most} at most: a batch is made in memory");
        return Err(Error::invalid("synthetic trace", "batch", found, expected));
    }
    let wanted = u64::from(CHUNK.max(batch)).min(most);
    let batches = u32::try_from(wanted).unwrap_or(CHUNK) / batch;
    // Groups of a chunk are batches: a smaller last batch would begin a new step too early.
    Ok(if batch < amount.batch { batch } else { batches * batch })
}

/// Pushes one batch: all prompts are a step, then the next token of every request is one.
fn push(builder: &mut TraceBuilder, wanted: &[Wanted], routed: &[Vec<u16>], from: (u32, u32)) {
    let (first, mut step) = from;
    let Wanted { prompt, generated, .. } = wanted[0];
    let mut row = |number: usize, position: u32, step: u32, phase: Phase| {
        let rows = (prompt + generated) as usize;
        let width = routed[number].len() / rows;
        builder.set_domain(wanted[number].domain);
        builder.push_token(TokenRow {
            request: first + u32::try_from(number).expect("requests are 32 bits"),
            position,
            step,
            phase,
            experts: &routed[number][position as usize * width..][..width],
            weights: None,
        });
    };
    for number in 0..routed.len() {
        (0..prompt).for_each(|position| row(number, position, step, Phase::Prefill));
    }
    step += u32::from(prompt > 0);
    for position in prompt..prompt + generated {
        (0..routed.len()).for_each(|number| row(number, position, step, Phase::Decode));
        step += 1;
    }
}

//! Which knobs make traces like a recording.
//!
//! Popularity is taken over as recorded, expert by expert. The other knobs are searched: a
//! candidate generates requests of the recording's own lengths, phases and domains, and its
//! statistics are compared with the recording's. The search walks one knob at a time, with steps
//! that grow where they help and shrink where they do not; its budget is a count, and all
//! candidates share their seeds, so that it always ends at the same knobs. Of a short recording a
//! candidate makes several likenesses: their mean is compared, not one lucky draw.
//!
//! Drift is not fitted: a recording rarely tells drift from the requests that it happens to hold.

use std::ops::Range;

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::Serialize;

use moecast_profiles::seed::Seed;

use super::check::Statistic;
use super::recipe::{DOMAINS_MAX, KNOBS, Popularity, Recipe};
use super::world::World;
use super::{Shape, Wanted, header, route};
use crate::builder::{TokenRow, TraceBuilder};
use crate::error::{Error, Result};
use crate::stats::replay::Replay;
use crate::trace::{Phase, RoutingTrace};

/// Layers, requests and tokens of a request that candidates are compared on.
const LAYERS_MAX: usize = 8;
const REQUESTS_MAX: usize = 24;
const TOKENS_MAX: u32 = 768;
/// Tokens that a candidate makes at least, over all its likenesses, and most of those.
const TOKENS_MIN: usize = 4096;
const LIKENESSES_MAX: usize = 8;
/// Candidates that are tried.
pub const EVALUATIONS_MAX: u32 = 240;

/// What is compared, and what counts as one unit of difference: an amount, or a share of the
/// recording's value.
const STATISTICS: &[(Statistic, f64, f64)] = &[
    (Statistic::Srp(4), 0.01, 0.0),
    (Statistic::Srp(16), 0.01, 0.0),
    (Statistic::Srp(64), 0.01, 0.0),
    (Statistic::Srp(256), 0.01, 0.0),
    (Statistic::Lru(1), 0.02, 0.0),
    (Statistic::Lru(2), 0.01, 0.0),
    (Statistic::Belady(2), 0.01, 0.0),
    (Statistic::LoadCv, 0.02, 0.05),
    (Statistic::PromptRepeat, 0.02, 0.0),
    (Statistic::DecodeRepeat, 0.02, 0.0),
    (Statistic::LayerBits, 0.02, 0.2),
    (Statistic::DomainDivergence, 0.01, 0.05),
];

/// A statistic of the recording and of what the fitted recipe makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What is compared.
    pub name: String,
    /// In the recording.
    pub recorded: f64,
    /// In a synthetic trace of the same size, with another seed than the search's.
    pub fitted: Option<f64>,
}

/// The result of a fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// The knobs.
    pub recipe: Recipe,
    /// How well they do.
    pub rows: Vec<Row>,
    /// Candidates that were tried.
    pub evaluations: u32,
}

/// Finds the recipe that is most like `trace`. `progress` is told the number of candidates tried;
/// `path` is named in the error.
///
/// # Errors
/// When the recording only counted: it does not know what follows what.
pub fn fit(trace: &RoutingTrace, path: &str, progress: &dyn Fn(u64)) -> Result<Fit> {
    let Some(example) = Example::of(trace) else {
        let found = if trace.tokens().is_some() { "no token" } else { "counts only" };
        let expected = "a recording that knows tokens, to fit locality to";
        return Err(Error::invalid(path, "recording", found, expected));
    };
    let domains = trace.header().domains.len();
    if domains > usize::from(DOMAINS_MAX) {
        let expected = format!("{DOMAINS_MAX} domains at most; slice the trace");
        return Err(Error::invalid(path, "recording", format!("{domains} domains"), expected));
    }
    let targets: Vec<Target> = STATISTICS
        .iter()
        .filter_map(|&(of, amount, share)| {
            let value = of.measure(&example.part)?;
            Some(Target { of, value, unit: amount.max(share * value.abs()) })
        })
        .collect();
    let mut start = Recipe {
        popularity: Popularity::Recorded,
        domains: u16::try_from(trace.header().domains.len().max(1)).expect("16 bits"),
        loads: loads(&example.part),
        domain_skew: 0.0,
        ..Recipe::default()
    };
    let has = |wanted: Statistic| targets.iter().any(|target| target.of == wanted);
    let (prompts, answers) = (has(Statistic::PromptRepeat), has(Statistic::DecodeRepeat));
    let mut free = vec![("skew", 0.2), ("request_skew", 0.3), ("decay", 0.3), ("affinity", 0.15)];
    if prompts {
        free.push(("memory", 0.12));
    }
    if answers {
        free.push(("decode_memory", 0.12));
    }
    if has(Statistic::DomainDivergence) {
        start.domain_skew = 0.4;
        free.push(("domain_skew", 0.2));
    }
    let score = |recipe: &Recipe| example.score(recipe, &targets);
    let (mut recipe, evaluations) = search(start, &free, EVALUATIONS_MAX, &score, progress);
    if !answers {
        recipe.decode_memory = recipe.memory;
    }
    if !prompts {
        recipe.memory = recipe.decode_memory;
    }
    let found = example.measure(&recipe, &targets, LIKENESSES_MAX as u64);
    let row = |(target, fitted): (&Target, Option<f64>)| Row {
        name: target.of.name(),
        recorded: target.value,
        fitted,
    };
    let rows = targets.iter().zip(found).map(row).collect();
    recipe.loads = loads(trace);
    Ok(Fit { recipe, rows, evaluations })
}

fn loads(trace: &RoutingTrace) -> Vec<Vec<u64>> {
    let layers = (0..).take(trace.header().moe_layers());
    layers.map(|layer| trace.layer_loads(moecast_profiles::ids::MoeLayer(layer))).collect()
}

/// A statistic that a candidate should have.
#[derive(Clone, Copy, Debug)]
struct Target {
    of: Statistic,
    value: f64,
    /// What counts as one unit of difference.
    unit: f64,
}

/// What candidates are compared on: a part of a recording, and the requests that make its like.
struct Example {
    part: RoutingTrace,
    wanted: Vec<Wanted>,
}

impl Example {
    /// Pairs of layers spread over the model, some requests, the beginning of each.
    fn of(trace: &RoutingTrace) -> Option<Self> {
        let columns = trace.tokens()?;
        let header = trace.header();
        let k = usize::from(header.top_k);
        let layers = some_layers(header.moe_layers());
        let replay = Replay::new(trace)?;
        let mut drawn: Vec<&Range<usize>> = replay.requests().iter().collect();
        if drawn.is_empty() {
            return None;
        }
        // At random: requests of domains that take turns would be of one domain at every n-th.
        let all = drawn.len();
        drawn.shuffle(&mut Seed(0).stream("synth/fit/requests"));
        drawn.truncate(REQUESTS_MAX.min(all));
        drawn.sort_by_key(|request| request.start);
        let mut part_header = header.clone();
        part_header.layers = layers.iter().map(|&layer| header.layers[layer]).collect();
        let mut builder = TraceBuilder::new(part_header);
        let mut wanted = Vec::new();
        for (number, request) in (0..).zip(drawn) {
            let mut one = Wanted { prompt: 0, generated: 0, domain: 0, time: 0.0 };
            for (position, token) in (0..TOKENS_MAX).zip(request.clone()) {
                let row = replay.row(token);
                let phase = Phase::from_code(columns.phase[row]).expect("checked when read");
                match phase {
                    Phase::Prefill => one.prompt += 1,
                    Phase::Decode => one.generated += 1,
                }
                let cells = &columns.experts[row * header.moe_layers() * k..];
                let experts: Vec<u16> = layers
                    .iter()
                    .flat_map(|&layer| cells[layer * k..(layer + 1) * k].iter().copied())
                    .collect();
                if let Some(domain) = &columns.domain {
                    one.domain = domain[row];
                    builder.set_domain(domain[row]);
                }
                let (experts, weights) = (&experts[..], None);
                let row =
                    TokenRow { request: number, position, step: number, phase, experts, weights };
                builder.push_token(row);
            }
            wanted.push(one);
        }
        let part = builder.finish("part of a recording").ok()?;
        Some(Self { part, wanted })
    }

    /// A synthetic trace of the same requests.
    fn make(&self, recipe: &Recipe, seed: Seed) -> RoutingTrace {
        let header_of = self.part.header();
        let shape = Shape::from(header_of);
        let world = World::new(recipe, shape.experts, shape.layers.len(), seed);
        let routed = route(&world, recipe, shape.top_k, &self.wanted, (seed, 0));
        let mut head = header(&shape, recipe, None, seed);
        head.domains.clone_from(&header_of.domains);
        let named = !head.domains.is_empty();
        let mut builder = TraceBuilder::new(head);
        let width = shape.layers.len() * usize::from(shape.top_k);
        for (number, (wanted, rows)) in (0..).zip(self.wanted.iter().zip(&routed)) {
            if named {
                builder.set_domain(wanted.domain);
            }
            for (position, experts) in (0..).zip(rows.chunks_exact(width)) {
                let is_prompt = position < wanted.prompt;
                let phase = if is_prompt { Phase::Prefill } else { Phase::Decode };
                let (step, weights) = (number, None);
                let row = TokenRow { request: number, position, step, phase, experts, weights };
                builder.push_token(row);
            }
        }
        builder.finish("candidate").expect("what is generated is a valid trace")
    }

    /// The statistics of `targets`, mean over the likenesses with seeds from `first` on.
    #[expect(clippy::cast_precision_loss, reason = "a few likenesses")]
    fn measure(&self, recipe: &Recipe, targets: &[Target], first: u64) -> Vec<Option<f64>> {
        let tokens = self.part.tokens().map_or(1, |columns| columns.step.len());
        let count = TOKENS_MIN.div_ceil(tokens.max(1)).clamp(1, LIKENESSES_MAX);
        let made: Vec<RoutingTrace> = (first..first + count as u64)
            .into_par_iter()
            .map(|seed| self.make(recipe, Seed(seed)))
            .collect();
        let mean = |target: &Target| {
            let found: Option<Vec<f64>> =
                made.iter().map(|trace| target.of.measure(trace)).collect();
            found.map(|values| values.iter().sum::<f64>() / values.len() as f64)
        };
        targets.par_iter().map(mean).collect()
    }

    /// Mean squared difference from `targets`, in units.
    #[expect(clippy::cast_precision_loss, reason = "a dozen targets")]
    fn score(&self, recipe: &Recipe, targets: &[Target]) -> f64 {
        let found = self.measure(recipe, targets, 0);
        let terms = targets.iter().zip(found).map(|(target, found)| {
            let units = (found.unwrap_or(0.0) - target.value) / target.unit;
            units * units
        });
        terms.sum::<f64>() / targets.len().max(1) as f64
    }
}

/// At most [`LAYERS_MAX`] layers: neighbours in pairs, the pairs evenly spread.
fn some_layers(count: usize) -> Vec<usize> {
    if count <= LAYERS_MAX {
        return (0..count).collect();
    }
    let pairs = LAYERS_MAX / 2;
    (0..pairs).flat_map(|pair| [0, 1].map(|next| pair * (count - 2) / (pairs - 1) + next)).collect()
}

/// Walks the knobs `free`, each with its first step, from `start` to where `score` is least.
fn search(
    start: Recipe,
    free: &[(&str, f64)],
    evaluations_max: u32,
    score: &dyn Fn(&Recipe) -> f64,
    progress: &dyn Fn(u64),
) -> (Recipe, u32) {
    let mut best = (score(&start), start);
    let mut evaluations = 1;
    let mut steps: Vec<f64> = free.iter().map(|(_, step)| *step).collect();
    while evaluations < evaluations_max {
        for ((name, _), step) in free.iter().zip(&mut steps) {
            let knob = KNOBS.iter().find(|knob| knob.name == *name).expect("a knob");
            let (low, high) = knob.range;
            let before = best.0;
            for sign in [1.0, -1.0] {
                let mut next = best.1.clone();
                let value = (knob.of)(&mut next);
                let moved = (*value + sign * *step).clamp(low, high);
                if moved.to_bits() == value.to_bits() || best.0 < before {
                    continue;
                }
                *value = moved;
                let found = score(&next);
                evaluations += 1;
                progress(u64::from(evaluations.min(evaluations_max)));
                if found < best.0 {
                    best = (found, next);
                }
            }
            *step *= if best.0 < before { 1.3 } else { 0.7 };
        }
        if steps.iter().all(|step| *step < 1e-3) {
            break;
        }
    }
    let mut recipe = best.1;
    for (name, _) in free {
        let knob = KNOBS.iter().find(|knob| knob.name == *name).expect("a knob");
        let value = (knob.of)(&mut recipe);
        *value = (*value * 1e4).round() / 1e4;
    }
    (recipe, evaluations)
}

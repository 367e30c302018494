//! The loop: requests come, prompts are worked on, batches generate tokens, until all are served.

use std::sync::Arc;

use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Nanos, SimTime};
use moecast_traces::RoutingTrace;

use super::batching::{Batching, alike};
use super::engine::Engine;
use super::machine::Machine;
use super::record::{Run, Served};
use super::requests::{Recorded, Request, recorded};
use super::shape::{Cache, Shape};
use super::{rule, target};
use crate::cache::{Item, Sees};
use crate::error::{Error, Result};
use crate::prefetch;

/// Everything that a run may know.
#[derive(Clone)]
pub struct Setup {
    /// The routing that requests borrow.
    pub trace: Arc<RoutingTrace>,
    /// The model.
    pub model: ModelShape,
    /// Its experts.
    pub shape: Shape,
    /// The machine.
    pub machine: Machine,
    /// GPU memory for experts.
    pub cache: Cache,
    /// Kernels of the GPUs.
    pub kernels: Arc<dyn CostModel>,
    /// What is copied before it is asked for.
    pub prefetcher: &'static prefetch::Entry,
    /// For [`Self::prefetcher`].
    pub prefetch: prefetch::Setting,
    /// Who computes what is not in GPU memory.
    pub target: &'static target::Entry,
    /// What becomes of the router's choices.
    pub rule: &'static rule::Entry,
    /// For [`Self::rule`].
    pub knobs: Vec<f64>,
    /// The requests.
    pub load: Load,
    /// One seed; rules draw from it. Caches and prefetchers have it in their own settings.
    pub seed: Seed,
}

/// Which requests come, and how they are put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Requests to serve; recorded ones are borrowed in order, and again from the first.
    pub requests: usize,
    /// When each comes, ascending; empty: whenever there is room.
    pub arrivals: Vec<SimTime>,
    /// Tokens that one pass generates at most.
    pub batch: usize,
    /// Requests that are under way at most; at least `batch`.
    pub window: usize,
    /// Who of them generates together.
    pub batching: Batching,
    /// Prompt tokens of one pass at most.
    pub chunk: usize,
    /// Tokens that are kept of every recorded prompt and answer.
    pub prompt_max: usize,
    /// See `prompt_max`.
    pub answer_max: usize,
}

/// Serves all requests of `setup`.
///
/// # Errors
/// [`Error::Scenario`] names what does not fit together.
pub fn run(setup: &Setup) -> Result<Run> {
    setup.check()?;
    if setup.cache.policy.sees != Sees::Future {
        return Ok(Loop::new(setup, None)?.run()?.0);
    }
    let (_, streams) = Loop::new(setup, None)?.run()?;
    Ok(Loop::new(setup, Some(&streams))?.run()?.0)
}

impl Setup {
    fn check(&self) -> Result<()> {
        self.machine.check()?;
        self.cache.check(&self.shape)?;
        let header = self.trace.header();
        let wrong = |place: &str, found: String, expected: &str| {
            Err(Error::scenario(place, found, expected))
        };
        if self.trace.tokens().is_none() {
            return wrong("trace", "a recording that only counted".to_owned(), "one with tokens");
        }
        let found = (header.moe_layers(), usize::from(header.experts));
        if found != (self.shape.layers, self.shape.experts) {
            let found = format!("{} MoE layers x {} experts", found.0, found.1);
            let expected = format!("{} x {}", self.shape.layers, self.shape.experts);
            return Err(Error::scenario("trace", found, expected));
        }
        if self.model.distinct_moe_layers() as usize != self.model.moe_layers.len() {
            return wrong("model", "chained experts".to_owned(), "one routing a layer");
        }
        let load = &self.load;
        let counts = [load.requests, load.batch, load.chunk];
        if counts.contains(&0) || load.window < load.batch {
            let found = format!("{load:?}");
            return wrong("load", found, "at least one of each, and a window of a batch or more");
        }
        if self.target.needs_processor && self.machine.processor.is_none() {
            let found = format!("target `{}` without a processor", self.target.name);
            return wrong("compute", found, "machine.processor, or a target that does without");
        }
        if self.rule.versions > 1 && self.shape.versions < usize::from(self.rule.versions) {
            let found = format!("{} version(s)", self.shape.versions);
            return Err(Error::scenario("precision", found, format!("{}", self.rule.versions)));
        }
        let oracle = self.cache.policy.sees == Sees::Future;
        if oracle && (self.rule.name != "exact" || !load.arrivals.is_empty()) {
            let found = format!("policy `{}`, which sees the future", self.cache.policy.name);
            let expected = "the rule `exact` and no arrivals: the future may not depend on times";
            return wrong("cache.policy", found, expected);
        }
        Ok(())
    }
}

/// A run under way.
struct Loop<'s> {
    setup: &'s Setup,
    recorded: Vec<Recorded>,
    engine: Engine<'s>,
    under_way: Vec<Request>,
    started: usize,
    pass: u64,
    now: SimTime,
    served: Vec<Served>,
    context_max: u64,
}

impl<'s> Loop<'s> {
    fn new(setup: &'s Setup, streams: Option<&[Arc<[Item]>]>) -> Result<Self> {
        let load = &setup.load;
        let recorded = recorded(&setup.trace, load.prompt_max, load.answer_max);
        let recorded: Vec<Recorded> =
            recorded.into_iter().filter(|own| own.prompt.len() + own.answer.len() > 0).collect();
        if recorded.is_empty() {
            return Err(Error::scenario("trace", "no tokens", "at least one"));
        }
        Ok(Self {
            setup,
            recorded,
            engine: Engine::new(setup, streams)?,
            under_way: Vec::new(),
            started: 0,
            pass: 0,
            now: SimTime(0),
            served: Vec::new(),
            context_max: 0,
        })
    }

    fn run(mut self) -> Result<(Run, Vec<Arc<[Item]>>)> {
        loop {
            self.accept();
            let prompt = self.under_way.iter().position(|own| !self.prompt_done(own));
            if let Some(index) = prompt {
                self.work_on_prompt(index);
            } else if !self.under_way.is_empty() {
                self.generate();
            } else if self.started < self.setup.load.requests {
                self.now = self.arrival(self.started);
            } else {
                break;
            }
        }
        let (mut run, streams) = self.engine.finish();
        run.requests = self.served;
        run.context_max = self.context_max;
        Ok((run, streams))
    }

    fn arrival(&self, number: usize) -> SimTime {
        let arrivals = &self.setup.load.arrivals;
        arrivals.get(number).copied().unwrap_or(self.now)
    }

    /// Lets requests in that have come, while there is room.
    fn accept(&mut self) {
        let load = &self.setup.load;
        while self.started < load.requests && self.under_way.len() < load.window {
            let arrival = self.arrival(self.started);
            if arrival > self.now {
                return;
            }
            let recorded = self.started % self.recorded.len();
            self.under_way.push(Request {
                recorded,
                arrival,
                prompt: 0,
                answer: 0,
                first: None,
                served: self.pass,
            });
            self.started += 1;
        }
    }

    fn prompt_done(&self, own: &Request) -> bool {
        own.prompt >= self.recorded[own.recorded].prompt.len()
    }

    fn work_on_prompt(&mut self, index: usize) {
        let own = &self.under_way[index];
        let rows = &self.recorded[own.recorded].prompt;
        let end = (own.prompt + self.setup.load.chunk).min(rows.len());
        let rows = rows[own.prompt..end].to_vec();
        let (new, past) = (rows.len() as u64, own.prompt as u64);
        let attended = Attended {
            requests: 1,
            tokens: narrow(new),
            attended: new * past + new * (new + 1) / 2,
            cached: past + new,
        };
        let batch = AttentionBatch { prefill: attended, ..AttentionBatch::default() };
        let requests = [self.recorded[own.recorded].request];
        let last = end == self.recorded[own.recorded].prompt.len();
        let next = if last { self.next_rows(&[index]) } else { Vec::new() };
        self.note_context();
        self.now = self.engine.pass(self.now, &rows, &next, &requests, batch, u32::from(last));
        let own = &mut self.under_way[index];
        own.prompt = end;
        if last {
            own.first = Some(self.now);
        }
        self.end_pass();
    }

    /// Rows of the next tokens of requests under way.
    fn next_rows(&self, indices: &[usize]) -> Vec<usize> {
        let own = indices.iter().map(|&index| &self.under_way[index]);
        own.filter_map(|own| self.recorded[own.recorded].answer.get(own.answer)).copied().collect()
    }

    fn note_context(&mut self) {
        let context: usize = self.under_way.iter().map(|own| own.prompt + own.answer).sum();
        self.context_max = self.context_max.max(context as u64);
    }

    /// Indices of requests under way that generate now, longest waiting first.
    fn choose(&mut self) -> Vec<usize> {
        let size = self.setup.load.batch;
        let mut waiting: Vec<usize> = (0..self.under_way.len()).collect();
        waiting.sort_by_key(|&index| (self.under_way[index].served, index));
        if waiting.len() <= size || self.setup.load.batching == Batching::Fifo {
            waiting.truncate(size);
            return waiting;
        }
        let masks: Vec<Vec<u64>> = waiting.iter().map(|&index| self.mask(index)).collect();
        alike(&masks, size).into_iter().map(|place| waiting[place]).collect()
    }

    /// Experts of the next token of a request, a bit each.
    fn mask(&self, index: usize) -> Vec<u64> {
        let shape = &self.setup.shape;
        let words = shape.experts.div_ceil(64);
        let mut mask = vec![0_u64; shape.layers * words];
        for row in self.next_rows(&[index]) {
            for layer in 0..shape.layers {
                let ordinal = super::engine::ordinal(layer);
                for expert in self.setup.trace.chosen(row, ordinal) {
                    mask[layer * words + expert.index() / 64] |= 1 << (expert.index() % 64);
                }
            }
        }
        mask
    }

    fn generate(&mut self) {
        if self.setup.load.batching == Batching::Regroup {
            return self.generate_all();
        }
        let chosen = self.choose();
        self.generate_one(&chosen);
        self.end_pass();
    }

    /// One token for everybody under way, in batches of like tokens.
    fn generate_all(&mut self) {
        let mut left: Vec<usize> = (0..self.under_way.len()).collect();
        while !left.is_empty() {
            let masks: Vec<Vec<u64>> = left.iter().map(|&index| self.mask(index)).collect();
            let places = alike(&masks, self.setup.load.batch);
            let chosen: Vec<usize> = places.iter().map(|&place| left[place]).collect();
            left.retain(|index| !chosen.contains(index));
            self.generate_one(&chosen);
        }
        self.end_pass();
    }

    fn generate_one(&mut self, chosen: &[usize]) {
        // Who has no token left was only waiting for its prompt.
        let rows = self.next_rows(chosen);
        let has_more = |&index: &usize| {
            let own = &self.under_way[index];
            own.answer < self.recorded[own.recorded].answer.len()
        };
        let working: Vec<usize> = chosen.iter().copied().filter(has_more).collect();
        if working.is_empty() {
            return;
        }
        let context = |&index: &usize| {
            let own = &self.under_way[index];
            (own.prompt + own.answer + 1) as u64
        };
        let cached: u64 = working.iter().map(context).sum();
        let attended = Attended {
            requests: narrow(working.len() as u64),
            tokens: narrow(working.len() as u64),
            attended: cached,
            cached,
        };
        let batch = AttentionBatch { decode: attended, ..AttentionBatch::default() };
        let requests: Vec<u32> = working
            .iter()
            .map(|&index| self.recorded[self.under_way[index].recorded].request)
            .collect();
        self.note_context();
        for &index in &working {
            self.under_way[index].answer += 1;
            self.under_way[index].served = self.pass + 1;
        }
        let waiting: Vec<usize> = (0..self.under_way.len()).collect();
        let next = self.next_rows(&waiting);
        let tokens = narrow(working.len() as u64);
        self.now = self.engine.pass(self.now, &rows, &next, &requests, batch, tokens);
        for &index in &working {
            // A recording without prompts begins with its first token.
            self.under_way[index].first.get_or_insert(self.now);
        }
        self.pass += 1;
    }

    /// Takes away who is done.
    fn end_pass(&mut self) {
        self.pass += 1;
        let mut index = 0;
        while index < self.under_way.len() {
            let own = &self.under_way[index];
            let (prompt, answer) = {
                let recorded = &self.recorded[own.recorded];
                (recorded.prompt.len(), recorded.answer.len())
            };
            if own.prompt < prompt || own.answer < answer {
                index += 1;
                continue;
            }
            let own = self.under_way.remove(index);
            let first = own.first.unwrap_or(self.now);
            let generated = if prompt == 0 { answer.saturating_sub(1) } else { answer };
            self.served.push(Served {
                arrival: own.arrival,
                first,
                done: self.now,
                prompt: narrow(prompt as u64),
                generated: narrow(generated as u64),
            });
        }
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Seconds of a duration.
pub(super) fn seconds(time: Nanos) -> f64 {
    time.0 as f64 * 1e-9
}

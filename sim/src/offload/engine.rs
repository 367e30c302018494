//! One forward pass: layer by layer, what the GPUs, the processor, the host and the links do.
//!
//! A layer: attention and router on the GPUs; the host reads the choices and looks experts up;
//! the target assigns them; copies start, in order of tokens; the GPU computes what it has in one
//! call, then every expert as it arrives; the processor computes its own beside it. The layer ends
//! when all have. Wishes of the prefetcher are queued behind, and start when links are idle.

mod experts;

use std::sync::Arc;

use moecast_profiles::cost::AttentionBatch;
use moecast_profiles::ids::MoeLayer;
use moecast_profiles::units::SimTime;

use super::ahead::Tokens;
use super::foresight::Foresight;
use super::memory::Memory;
use super::picks::{self, Picks};
use super::record::{Pass, Run};
use super::rule::{self, Rule};
use super::shape::Shape;
use super::simulate::Setup;
use super::target::{Asked, At, Target, Work, makespan};
use crate::cache::{Item, Routed};
use crate::error::Result;
use crate::prefetch::{Demand, Prefetcher, View, Wish};

pub(super) fn ordinal(layer: usize) -> MoeLayer {
    MoeLayer(u16::try_from(layer).expect("layers are u16"))
}

/// All that changes while passes run.
pub(super) struct Engine<'s> {
    setup: &'s Setup,
    memory: Memory<'s>,
    /// Absent only while it is asked.
    prefetcher: Option<Box<dyn Prefetcher>>,
    target: Box<dyn Target>,
    rule: Box<dyn Rule>,
    /// Whether a policy or the prefetcher hears what routers say.
    listened: bool,
    /// `[M][E]` experts, most used in training first.
    popular: Vec<Vec<u16>>,
    picks: Picks,
    touched: Vec<bool>,
    wishes: Vec<Wish>,
    foresight: Foresight,
    pass: Pass,
    number: u64,
    run: Run,
}

/// What a rule may look at in `layer`.
fn rule_view<'v>(
    shape: &Shape,
    layer: usize,
    cached: &'v dyn Fn(u16, u8) -> bool,
    popular: &'v [u16],
) -> rule::View<'v> {
    let versions = u8::try_from(shape.versions).expect("few versions");
    rule::View { layer, cached, popular, versions }
}

/// One layer as it is being timed.
struct Timing {
    /// When the GPUs are done with attention, router and shared experts.
    shared: SimTime,
    /// When the host has looked everything up.
    known: SimTime,
}

impl<'s> Engine<'s> {
    pub(super) fn new(setup: &'s Setup, streams: Option<&[Arc<[Item]>]>) -> Result<Self> {
        let experts = u16::try_from(setup.shape.experts).expect("experts are u16");
        let popular = (0..setup.shape.layers)
            .map(|layer| {
                let mut order: Vec<u16> = (0..experts).collect();
                if let Some(loads) = setup.cache.trained.get(layer) {
                    order.sort_by_key(|&expert| (u64::MAX - loads[usize::from(expert)], expert));
                }
                order
            })
            .collect();
        let run = Run { per_layer: vec![[0; 2]; setup.shape.layers], ..Run::default() };
        let memory = Memory::new(&setup.shape, &setup.machine, &setup.cache, streams)?;
        let prefetcher = (setup.prefetcher.build)(&setup.prefetch);
        Ok(Self {
            listened: memory.listens() || prefetcher.listens(),
            memory,
            prefetcher: Some(prefetcher),
            target: (setup.target.build)(),
            rule: (setup.rule.build)(&setup.knobs, setup.seed),
            popular,
            picks: Picks::default(),
            touched: Vec::new(),
            wishes: Vec::new(),
            foresight: Foresight::new(
                setup.shape.layers,
                setup.shape.experts,
                setup.prefetch.depth,
            ),
            pass: Pass::default(),
            number: 0,
            run,
            setup,
        })
    }

    /// Runs one pass over `rows` of the recording; returns when it ends.
    pub(super) fn pass(
        &mut self,
        start: SimTime,
        rows: &[usize],
        next: &[usize],
        requests: &[u32],
        batch: AttentionBatch,
        heads: u32,
    ) -> SimTime {
        let setup = self.setup;
        let weighs = setup.shape.versions > 1;
        let tokens = Tokens { trace: &setup.trace, rows, next, requests, weighs };
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let prefill = batch.prefill.tokens > 0;
        self.pass = Pass { start, tokens: count, prefill, ..Pass::default() };
        self.touched.clear();
        self.touched.resize(rows.len(), false);
        self.wish(&tokens, None, start);
        let attention = setup.kernels.attention(batch) + setup.kernels.all_reduce(count);
        let mut now = start + setup.machine.costs.pass;
        for hidden in 0..setup.model.hidden_layers {
            now = now + attention;
            self.run.gpu_busy += attention;
            if let Some(layer) = setup.model.ordinal(hidden) {
                now = self.layer(layer.index(), &tokens, now);
            } else {
                let dense = setup.kernels.dense_layer(count) + setup.kernels.all_reduce(count);
                now = now + dense;
                self.run.gpu_busy += dense;
            }
        }
        now = now + setup.kernels.head(heads);
        self.memory.turn();
        self.pass.end = now;
        self.pass.changed_tokens = self.touched.iter().filter(|&&touched| touched).count() as u64;
        self.run.passes.push(self.pass);
        self.run.expert_bytes_max = self.run.expert_bytes_max.max(self.memory.used());
        self.number += 1;
        now
    }

    /// The experts of one layer, whose attention ends at `start`.
    fn layer(&mut self, layer: usize, tokens: &Tokens<'_>, start: SimTime) -> SimTime {
        let setup = self.setup;
        let count = self.pass.tokens;
        let gate = setup.kernels.gate(count);
        let shared = setup.kernels.shared_experts(count);
        let routed = start + gate;
        self.run.gpu_busy += gate + shared;
        self.route(layer, tokens);
        let costs = &setup.machine.costs;
        let handling = costs.synchronisation + costs.lookup * self.picks.asked.len() as u64;
        let timing = Timing { shared: routed + shared, known: routed + handling };
        self.pass.handling += handling;
        self.memory.advance(timing.known);
        // What is needed is known now; wishes for it are demand or wrong.
        self.memory.drop_before(u16::try_from(layer + 1).expect("layers are u16"));
        let mut end = self.experts(layer, &timing);
        end = end.max(timing.shared).max(timing.known) + setup.kernels.all_reduce(count);
        self.wish(tokens, Some(layer), timing.known);
        // What idle links do while this layer is computed.
        self.memory.advance(end);
        self.memory.end(layer);
        end
    }

    /// What the router chose, and what a rule makes of it.
    fn route(&mut self, layer: usize, tokens: &Tokens<'_>) {
        let (setup, shape) = (self.setup, &self.setup.shape);
        picks::read(&setup.trace, layer, tokens.rows, &mut self.picks.picks);
        self.pass.picks += self.picks.picks.len() as u64;
        self.picks.group(shape);
        self.foresight.routed(layer, self.picks.asked.iter().map(|&(expert, ..)| expert));
        if self.listened {
            self.tell(layer, tokens);
        }
        if setup.rule.name == "exact" {
            return;
        }
        let memory = &self.memory;
        let cached = |expert: u16, version: u8| {
            shape.parts(layer, expert, version).all(|unit| memory.is_near(unit))
        };
        let view = rule_view(shape, layer, &cached, &self.popular[layer]);
        let rule = &mut self.rule;
        let changes = self.picks.change(shape, &mut self.touched, |picks| rule.apply(&view, picks));
        self.pass.changed += changes.changed;
        self.pass.lowered += changes.lowered;
    }

    /// Policies and the prefetcher hear what the router chose.
    fn tell(&mut self, layer: usize, tokens: &Tokens<'_>) {
        self.picks.count(self.setup.shape.top_k, tokens.weighted());
        let routed = Routed {
            layer: ordinal(layer).0,
            tokens: self.pass.tokens,
            experts: &self.picks.experts,
            counts: &self.picks.counts,
            weights: &self.picks.weights,
        };
        self.memory.routed(&routed);
        if let Some(prefetcher) = &mut self.prefetcher {
            prefetcher.routed(&routed);
        }
    }

    /// Asks the prefetcher, and queues what it wishes for.
    fn wish(&mut self, tokens: &Tokens<'_>, layer: Option<usize>, now: SimTime) {
        let (shape, memory) = (&self.setup.shape, &self.memory);
        let Some(mut prefetcher) = self.prefetcher.take() else { return };
        let mut wishes = std::mem::take(&mut self.wishes);
        wishes.clear();
        let resident = |layer: usize, expert: u16| {
            shape.parts(layer, expert, 0).all(|unit| memory.is_near(unit))
        };
        let gain = |of: usize, demand: &[Demand], expert: u16| self.gain(of, demand, expert, now);
        let view = View {
            layer,
            pass: self.number,
            requests: tokens.requests,
            resident: &resident,
            gain: &gain,
            ahead: tokens,
        };
        prefetcher.wish(&view, &mut wishes);
        self.prefetcher = Some(prefetcher);
        for wish in &wishes {
            self.foresight.wish(layer, wish);
            self.queue(wish, layer, now);
        }
        self.wishes = wishes;
    }

    /// Queues a wish after the router of `layer` has spoken, in the version that would be used.
    fn queue(&mut self, wish: &Wish, layer: Option<usize>, now: SimTime) {
        let shape = &self.setup.shape;
        let Some(version) = self.forecast(wish.layer.into(), wish.expert, wish.before) else {
            return;
        };
        // A layer that is over is one of the next pass.
        let over = layer.is_some_and(|layer| usize::from(wish.layer) <= layer);
        let layers = u16::try_from(shape.layers).expect("layers are u16");
        let due = wish.layer + if over { layers } else { 0 };
        for unit in shape.parts(wish.layer.into(), wish.expert, version) {
            self.memory.wish(due, unit, wish.priority, now);
        }
    }

    /// The version in which an expert would be used that is predicted to come after the share
    /// `before` of a token's gate weight; `None` where the rule would leave it out.
    fn forecast(&self, layer: usize, expert: u16, before: f64) -> Option<u8> {
        let (shape, memory) = (&self.setup.shape, &self.memory);
        if shape.versions == 1 {
            return Some(0);
        }
        let cached = |expert: u16, version: u8| {
            shape.parts(layer, expert, version).all(|unit| memory.is_near(unit))
        };
        let view = rule_view(shape, layer, &cached, &self.popular[layer]);
        self.rule.forecast(&view, expert, before)
    }

    /// Seconds that `layer` gains at `now` where `expert`, one that `demand` asks for, is there.
    fn gain(&self, layer: usize, demand: &[Demand], expert: u16, now: SimTime) -> f64 {
        let mut asked: Vec<Asked> = Vec::with_capacity(demand.len());
        for own in demand {
            if let Some(version) = self.forecast(layer, own.expert, own.before) {
                asked.push(self.ask(layer, (own.expert, version), own.tokens, 0.0, now));
            }
        }
        let order: Vec<usize> = (0..asked.len()).collect();
        let time = |asked: &[Asked]| {
            let work = Work { asked, link_busy: 0.0, gpu_busy: 0.0, cpu_busy: 0.0 };
            let mut by = Vec::new();
            self.target.assign(&work, &mut by);
            makespan(&work, &by, &order)
        };
        let before = time(&asked);
        for own in asked.iter_mut().filter(|own| own.expert == expert) {
            own.at = At::Gpu(0.0);
        }
        before - time(&asked)
    }

    /// Facts of all passes, and what pools looked up.
    pub(super) fn finish(mut self) -> (Run, Vec<Arc<[Item]>>) {
        let memory = &self.memory;
        self.run.link_busy = memory.links.iter().map(|link| link.busy).collect();
        self.run.link_bytes = memory.links.iter().map(|link| link.bytes).sum();
        self.run.storage_busy = memory.storage.busy;
        self.run.storage_bytes = memory.storage.bytes;
        self.run.foreseen = self.foresight.counts();
        self.run.wished = memory.tally.wished;
        self.run.wishes_used = memory.tally.used;
        self.run.wishes_wasted = memory.tally.wasted;
        (self.run, self.memory.streams())
    }
}

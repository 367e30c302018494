//! One forward pass in closed form: the time of every layer is the time of its slowest rank.
//!
//! Dispatch and combine take what the scenario's exchange model says of the tokens that really
//! cross: one model for steps that read prompts, one for those that only generate. On one rank
//! nothing is exchanged. Deliberately absent: contention beyond the port, overlap of computation
//! with transfers, embedding and output head, host overheads of the engine.

use moecast_profiles::cost::exchange::{Copies, ExchangeModel, Traffic, Way};
use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::hardware::LinkClass;
use moecast_profiles::ids::{ExpertId, MoeLayer, Rank};
use moecast_profiles::units::Nanos;
use moecast_traces::{Phase, TokenColumns};

use crate::deal::deal;
use crate::dispatch::{Arrival, Dispatched, Dispatcher, tokens_seen};
use crate::record::{Parts, StepRecord, Totals};
use crate::scenario::Scenario;

/// A scenario prepared for many steps.
pub(crate) struct Stepper<'a> {
    scenario: &'a Scenario,
    cost: &'a dyn CostModel,
    dispatchers: Vec<Dispatcher<'a>>,
}

/// Work that one step leaves for the sums over steps.
pub(crate) struct StepOutcome {
    pub(crate) record: StepRecord,
    pub(crate) totals: Totals,
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let Scenario { hardware, placement, engine, seed, .. } = scenario;
        let dispatchers = layers(scenario)
            .map(|layer| {
                Dispatcher::new(placement, hardware, engine.replica_rule.value, layer, *seed)
            })
            .collect();
        Self { scenario, cost: scenario.cost.model.as_ref(), dispatchers }
    }

    /// Simulates step number `index` of the recording.
    pub(crate) fn step(&self, index: usize) -> StepOutcome {
        let Scenario { trace, model, hardware, .. } = self.scenario;
        let ranks = usize::from(hardware.ranks());
        let batches = self.attention_batches(index);
        let attention: Vec<Nanos> =
            batches.iter().map(|&batch| self.cost.attention(batch)).collect();
        let gate: Vec<Nanos> = batches.iter().map(|batch| self.cost.gate(batch.tokens())).collect();
        let shared: Vec<Nanos> =
            batches.iter().map(|batch| self.cost.shared_experts(batch.tokens())).collect();
        let tokens = u64::from(trace.step_tokens(index));
        let mut parts = Parts::default();
        let mut totals = Totals { rank_busy: vec![Nanos(0); ranks], ..Totals::default() };
        let mut bytes = [0; LinkClass::ALL.len()];
        let (mut imbalance, mut loaded) = (0.0, 0_u32);
        let prefills = batches.iter().any(|batch| batch.prefill.tokens > 0);
        let exchange = self.scenario.exchange[usize::from(!prefills)].as_ref();
        let top_k = trace.header().top_k;
        let mut copies = Copies::on(hardware);
        let mut sources = self.sources(index);
        for layer in layers(self.scenario) {
            copies.clear();
            // A layer that is chained has one attention and one pass of its shared experts.
            let opens = model.opens_layer(layer);
            let routed = self.route((index, layer), &sources, &mut copies);
            let traffic = copies.traffic();
            let layer_load = rank_loads(&routed, ranks);
            let experts: Vec<Nanos> = routed
                .tokens_per_slot
                .chunks_exact(usize::from(self.scenario.placement.slots_per_rank()))
                .zip(&layer_load)
                .zip(&shared)
                .map(|((slots, &rows), &shared)| {
                    let seen = tokens_seen(exchange.gathers(), top_k, tokens, rows);
                    self.cost.experts(seen, slots) + if opens { shared } else { Nanos(0) }
                })
                .collect();
            let before = if opens { add(&attention, &gate) } else { gate.clone() };
            parts.attention += slowest(&before);
            parts.dispatch += self.transfer(exchange, &traffic, Way::Dispatch, &mut bytes);
            parts.experts += slowest(&experts);
            parts.combine += self.transfer(exchange, &traffic, Way::Combine, &mut bytes);
            if exchange.stays() {
                sources = routed.firsts;
            }
            for (rank, busy) in totals.rank_busy.iter_mut().enumerate() {
                *busy += before[rank] + experts[rank];
            }
            let ratio = max_over_mean(&layer_load);
            totals.layer_imbalance.push((ratio.unwrap_or(0.0), u32::from(ratio.is_some())));
            imbalance += ratio.unwrap_or(0.0);
            loaded += u32::from(ratio.is_some());
            totals.rank_load.push(layer_load);
        }
        let dense_layers = u64::from(model.hidden_layers - model.distinct_moe_layers());
        let dense: Vec<Nanos> =
            batches.iter().map(|batch| self.cost.dense_layer(batch.tokens())).collect();
        parts.attention += slowest(&attention) * dense_layers;
        parts.dense += slowest(&dense) * dense_layers;
        for (rank, busy) in totals.rank_busy.iter_mut().enumerate() {
            *busy += (attention[rank] + dense[rank]) * dense_layers;
        }
        let record = StepRecord {
            step: trace.steps()[index].step,
            tokens: trace.step_tokens(index),
            parts,
            imbalance: if loaded > 0 { imbalance / f64::from(loaded) } else { 0.0 },
            bytes,
        };
        StepOutcome { record, totals }
    }

    /// The attention work of every rank. Tokens are dealt to ranks in turn, because recordings
    /// do not say which rank served them; the first rank changes with the step.
    fn attention_batches(&self, index: usize) -> Vec<AttentionBatch> {
        let Scenario { trace, hardware, context_assumed, .. } = self.scenario;
        let mut batches = vec![AttentionBatch::default(); usize::from(hardware.ranks())];
        let Some(columns) = trace.tokens() else {
            let context = u64::from(*context_assumed);
            for number in 0..trace.step_tokens(index) {
                let batch = &mut batches[self.source(index, number).index()];
                add_token(&mut batch.decode, context, context, true);
            }
            return batches;
        };
        for (number, row) in (0_u32..).zip(trace.steps()[index].rows.clone()) {
            let batch = &mut batches[self.source(index, number).index()];
            let context = u64::from(columns.position[row]) + 1;
            let decodes = Phase::from_code(columns.phase[row]) == Some(Phase::Decode);
            let work = if decodes { &mut batch.decode } else { &mut batch.prefill };
            let last = decodes || ends_its_request(columns, row);
            add_token(work, context, if last { context } else { 0 }, last);
        }
        batches
    }

    fn source(&self, step: usize, number: u32) -> Rank {
        let ranks = u64::from(self.scenario.hardware.ranks());
        let rank = (u64::from(number) + step as u64) % ranks;
        Rank(u16::try_from(rank).expect("ranks are u16"))
    }

    /// The ranks that the step's tokens start from.
    fn sources(&self, index: usize) -> Vec<Rank> {
        let tokens = self.scenario.trace.step_tokens(index);
        (0..tokens).map(|number| self.source(index, number)).collect()
    }

    /// `sources` are the ranks that tokens come from.
    fn route(
        &self,
        (index, layer): (usize, MoeLayer),
        sources: &[Rank],
        copies: &mut Copies,
    ) -> Dispatched {
        let trace = &self.scenario.trace;
        let label = format!("dispatch/step/{}/layer/{layer}", trace.steps()[index].step);
        let mut generator = self.scenario.seed.stream(&label);
        let mut chosen: Vec<ExpertId> = Vec::new();
        let mut ends: Vec<usize> = Vec::new();
        if trace.tokens().is_some() {
            for row in trace.steps()[index].rows.clone() {
                chosen.extend(trace.chosen(row, layer));
                ends.push(chosen.len());
            }
        } else {
            let mut loads = vec![0_u32; usize::from(trace.header().experts)];
            trace.add_step_loads(index, layer, &mut loads);
            (chosen, ends) = deal(&loads, trace.step_tokens(index), &mut generator);
        }
        let mut start = 0;
        let ranks = u32::from(self.scenario.hardware.ranks());
        let tokens = (0_u32..).zip(sources).zip(&ends).map(|((number, &source), &end)| {
            let experts = &chosen[start..end];
            start = end;
            (Arrival { source, index: number / ranks }, experts)
        });
        self.dispatchers[layer.index()].dispatch(tokens, copies, &mut generator)
    }

    /// Time of one way of an exchange; adds the bytes per class.
    fn transfer(
        &self,
        exchange: &dyn ExchangeModel,
        traffic: &Traffic,
        way: Way,
        bytes: &mut [u64; LinkClass::ALL.len()],
    ) -> Nanos {
        let Scenario { model, hardware, engine, .. } = self.scenario;
        let data_type = match way {
            Way::Dispatch => engine.dispatch_type.value,
            Way::Combine => engine.combine_type.value,
        };
        let copy = data_type.bytes_of(u64::from(model.hidden)).0;
        let copies = exchange.rule().copies(traffic, hardware);
        for (sum, copies) in bytes.iter_mut().zip(copies) {
            *sum += (exchange.sends(way) * (copies * copy) as f64) as u64;
        }
        if hardware.ranks() == 1 { Nanos(0) } else { exchange.time(way, traffic) }
    }
}

fn layers(scenario: &Scenario) -> impl Iterator<Item = MoeLayer> + use<> {
    let count = u16::try_from(scenario.model.moe_layers.len()).expect("layer numbers are u16");
    (0..count).map(MoeLayer)
}

fn add_token(work: &mut Attended, context: u64, cached: u64, last: bool) {
    work.requests += u32::from(last);
    work.tokens += 1;
    work.attended += context;
    work.cached += cached;
}

/// Whether the token at `row` is the last of its request in its step: with it the context of a
/// prompt is read once.
fn ends_its_request(columns: &TokenColumns, row: usize) -> bool {
    columns.step.get(row + 1) != Some(&columns.step[row])
        || columns.request.get(row + 1) != Some(&columns.request[row])
}

fn rank_loads(routed: &Dispatched, ranks: usize) -> Vec<u64> {
    let per_rank = routed.tokens_per_slot.len() / ranks;
    routed
        .tokens_per_slot
        .chunks_exact(per_rank)
        .map(|slots| slots.iter().map(|&tokens| u64::from(tokens)).sum())
        .collect()
}

/// Largest over mean; `None` where there is no load at all.
#[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^53")]
fn max_over_mean(loads: &[u64]) -> Option<f64> {
    let total: u64 = loads.iter().sum();
    let max = loads.iter().copied().max().unwrap_or(0);
    (total > 0).then(|| max as f64 * loads.len() as f64 / total as f64)
}

fn slowest(times: &[Nanos]) -> Nanos {
    times.iter().copied().max().unwrap_or_default()
}

fn add(left: &[Nanos], right: &[Nanos]) -> Vec<Nanos> {
    left.iter().zip(right).map(|(&a, &b)| a + b).collect()
}

#[cfg(test)]
mod tests;

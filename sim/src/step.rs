//! One forward pass in closed form: the time of every layer is the time of its slowest rank.
//!
//! Links: each rank sends and receives over its own port; a transfer takes the latency of the
//! class plus the bytes of the busiest port over its bandwidth, and the classes run side by
//! side. Deliberately absent: contention beyond the port, overlap of computation with
//! transfers, embedding and output head, host overheads of the engine.

use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::hardware::{Hardware, LinkClass};
use moecast_profiles::ids::{ExpertId, MoeLayer, Rank};
use moecast_profiles::units::{Bytes, Nanos};
use moecast_traces::{Phase, TokenColumns};

use crate::deal::deal;
use crate::dispatch::{Arrival, Dispatched, Dispatcher};
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
        for layer in layers(self.scenario) {
            let routed = self.route(index, layer);
            let layer_load = rank_loads(&routed, ranks);
            let experts: Vec<Nanos> = routed
                .tokens_per_slot
                .chunks_exact(usize::from(self.scenario.placement.slots_per_rank()))
                .zip(&shared)
                .map(|(slots, &shared)| self.cost.experts(tokens, slots) + shared)
                .collect();
            parts.attention += slowest(&add(&attention, &gate));
            parts.dispatch += self.transfer(&routed, Way::Dispatch, &mut bytes);
            parts.experts += slowest(&experts);
            parts.combine += self.transfer(&routed, Way::Combine, &mut bytes);
            for (rank, busy) in totals.rank_busy.iter_mut().enumerate() {
                *busy += attention[rank] + gate[rank] + experts[rank];
            }
            let ratio = max_over_mean(&layer_load);
            totals.layer_imbalance.push((ratio.unwrap_or(0.0), u32::from(ratio.is_some())));
            imbalance += ratio.unwrap_or(0.0);
            loaded += u32::from(ratio.is_some());
            totals.rank_load.push(layer_load);
        }
        let dense_layers = u64::from(model.hidden_layers) - model.moe_layers.len() as u64;
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

    fn arrival(&self, step: usize, number: u32) -> Arrival {
        let index = number / u32::from(self.scenario.hardware.ranks());
        Arrival { source: self.source(step, number), index }
    }

    fn route(&self, index: usize, layer: MoeLayer) -> Dispatched {
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
        let tokens = (0_u32..).zip(&ends).map(|(number, &end)| {
            let experts = &chosen[start..end];
            start = end;
            (self.arrival(index, number), experts)
        });
        self.dispatchers[layer.index()].dispatch(tokens, &mut generator)
    }

    fn transfer(&self, routed: &Dispatched, way: Way, bytes: &mut [u64; 3]) -> Nanos {
        let Scenario { model, hardware, engine, .. } = self.scenario;
        let data_type = match way {
            Way::Dispatch => engine.dispatch_type.value,
            Way::Combine => engine.combine_type.value,
        };
        let copy = data_type.bytes_of(u64::from(model.hidden));
        exchange(hardware, &routed.copies, copy, bytes)
    }
}

/// The two transfers of a layer. Both load the same ports: what one sends the other receives.
#[derive(Clone, Copy)]
enum Way {
    Dispatch,
    Combine,
}

/// Time of an all-to-all of `copies` `[R x R]` of `copy` bytes each; adds the bytes per class.
fn exchange(hardware: &Hardware, copies: &[u32], copy: Bytes, bytes: &mut [u64; 3]) -> Nanos {
    let ranks = usize::from(hardware.ranks());
    // Copies through every port, `[class][rank]`, one direction after the other.
    let mut sent = vec![0_u64; LinkClass::ALL.len() * ranks];
    let mut received = vec![0_u64; LinkClass::ALL.len() * ranks];
    for (source, row) in (0..).zip(copies.chunks_exact(ranks)) {
        for (target, &count) in (0..).zip(row).filter(|(_, count)| **count > 0) {
            let class = hardware.route(Rank(source), Rank(target)) as usize;
            sent[class * ranks + usize::from(source)] += u64::from(count);
            received[class * ranks + usize::from(target)] += u64::from(count);
        }
    }
    let mut slowest = Nanos(0);
    for (index, class) in LinkClass::ALL.into_iter().enumerate() {
        let ports = index * ranks..(index + 1) * ranks;
        let (sent, received) = (&sent[ports.clone()], &received[ports]);
        bytes[index] += sent.iter().sum::<u64>() * copy.0;
        let busiest = sent.iter().chain(received).copied().max().unwrap_or(0);
        if let Some(bandwidth) = hardware.bandwidth(class).filter(|_| busiest > 0) {
            let time = hardware.latency(class) + bandwidth.time_for(copy * busiest);
            slowest = slowest.max(time);
        }
    }
    slowest
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

//! Expert layers token by token: every simulated request borrows the routing of one recorded
//! request, so that correlation between layers, between neighbouring tokens and within a request
//! survives.
//!
//! Sums of counts at every few rows of a recorded request make a chunk of a prompt cost experts,
//! not tokens. A request that is longer than its recording reads it again from the start of the
//! phase. Cost of a generated token: one addition a pick.

mod picks;

use std::ops::Range;

use moecast_profiles::cost::CostModel;
use moecast_profiles::seed::Generator;
use moecast_traces::{Phase, RoutingTrace};
use rand::RngExt;
use rayon::prelude::*;

use self::picks::Picks;
use super::moe::{ExpertMap, MoeTime};
use super::sparse::Sparse;
use crate::error::{Error, Result};

/// Memory of the sums of all requests.
const SUMS_BYTES_MAX: usize = 128 << 20;
/// Passes with at most this share of picks for experts are counted pick by pick: 1 in so many.
const SPARSE: usize = 2;
/// Chunks of layers that are counted apart.
const CHUNKS: usize = 4;
/// Picks of a pass from which threads are worth waking.
const SPLIT_PICKS_MIN: usize = 16_384;
/// Minus one time.
const AWAY: u32 = u32::MAX;
/// Rows between two sums, at least.
const STRIDE_MIN: usize = 32;

/// A recording, request by request.
pub(crate) struct Library {
    layers: usize,
    experts: usize,
    top_k: usize,
    /// Counters of a layer: its experts, and one for picks that were skipped.
    counters: usize,
    picks: Picks,
    requests: Vec<Rows>,
    stride: usize,
    /// Sums before every `stride`-th row of a prompt, `[.., M x E]`.
    sums: Vec<u32>,
}

/// Rows of one recorded request.
#[derive(Clone, Debug)]
struct Rows {
    prompt: Range<usize>,
    generated: Range<usize>,
    /// First of its sums.
    sums: usize,
}

/// What a pass works on, token by token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    decode: Vec<Tokens>,
    prompts: Vec<Tokens>,
    /// Tokens that are generated, and tokens of prompts.
    tokens: [u64; 2],
}

impl Told {
    pub(crate) fn generated(&mut self, tokens: Tokens) {
        self.tokens[0] += u64::from(tokens.count);
        self.decode.push(tokens);
    }

    pub(crate) fn prompt(&mut self, tokens: Tokens) {
        self.tokens[1] += u64::from(tokens.count);
        self.prompts.push(tokens);
    }

    pub(crate) fn clear(&mut self) {
        self.decode.clear();
        self.prompts.clear();
        self.tokens = [0; 2];
    }

    /// Rows of the recording that are looked at, about: a chunk of a prompt looks at few.
    fn rows(&self) -> usize {
        self.tokens[0] as usize + self.prompts.len() * STRIDE_MIN
    }
}

/// Counts of a chunk of layers, and what they take.
pub(crate) struct Tally {
    layers: Range<usize>,
    /// `[M][counters]`
    decode: Vec<u32>,
    all: Vec<u32>,
    rows: Vec<u32>,
    /// Time that every expert-parallel rank computed in the last times.
    pub(crate) busy: Vec<f64>,
    times: [MoeTime; 2],
    sparse: Sparse,
}

/// Tokens of one simulated request in a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// Which recorded request it borrows.
    pub(crate) borrowed: u32,
    /// First token, counted from the first of its phase.
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Library {
    /// Of `trace`, which must know tokens.
    pub(crate) fn new(trace: &RoutingTrace) -> Result<Self> {
        let header = trace.header();
        let (layers, experts) = (header.moe_layers(), usize::from(header.experts));
        let Some(columns) = trace.tokens().filter(|columns| !columns.step.is_empty()) else {
            let expected = "a recording of tokens".to_owned();
            return Err(Error::scenario("routing", "a recording of counts", expected));
        };
        let top_k = usize::from(header.top_k);
        let width = layers * top_k;
        let mut order: Vec<usize> = (0..columns.step.len()).collect();
        order.sort_by_key(|row| (columns.request[*row], columns.position[*row], *row));
        let mut requests: Vec<Rows> = Vec::new();
        let mut start = 0;
        for of_one in order.chunk_by(|a, b| columns.request[*a] == columns.request[*b]) {
            let is_prompt =
                |row: &&usize| Phase::from_code(columns.phase[**row]) == Some(Phase::Prefill);
            let (end, middle) =
                (start + of_one.len(), start + of_one.iter().filter(is_prompt).count());
            // A recording of one phase stands for the other too.
            let all = start..end;
            let one_phase = middle == start || middle == end;
            let (prompt, generated) =
                if one_phase { (all.clone(), all) } else { (start..middle, middle..end) };
            requests.push(Rows { prompt, generated, sums: 0 });
            start = end;
        }
        let picks = Picks::new(&order, columns.experts.as_ref(), width, experts);
        let counters = picks.counters(experts);
        let (stride, sums) = (0, Vec::new());
        let mut library = Self { layers, experts, top_k, counters, picks, requests, stride, sums };
        library.sum_up();
        Ok(library)
    }

    /// Picks of a row.
    fn width(&self) -> usize {
        self.layers * self.top_k
    }

    fn sum_up(&mut self) {
        let rows: usize = self.requests.iter().map(|rows| rows.prompt.len()).sum();
        let used = self.layers * self.experts;
        let sums_max = (SUMS_BYTES_MAX / 4 / used.max(1)).max(1);
        self.stride = rows.div_ceil(sums_max).max(STRIDE_MIN).next_power_of_two();
        let layers = 0..self.layers;
        let mut sum = vec![0_u32; self.layers * self.counters];
        let mut requests = std::mem::take(&mut self.requests);
        let mut sums = Vec::new();
        for rows in &mut requests {
            rows.sums = sums.len() / used;
            sum.fill(0);
            for (number, row) in rows.prompt.clone().enumerate() {
                if number.is_multiple_of(self.stride) {
                    self.put(&sum, &mut sums);
                }
                self.add_row(row, &layers, &mut sum, 1);
            }
            // And once more behind the last row: a whole reading.
            self.put(&sum, &mut sums);
        }
        (self.requests, self.sums) = (requests, sums);
    }

    /// Adds the counts of experts to the end of `sums`.
    fn put(&self, counts: &[u32], sums: &mut Vec<u32>) {
        for layer in counts.chunks_exact(self.counters) {
            sums.extend_from_slice(&layer[..self.experts]);
        }
    }

    /// A recorded request at random.
    pub(crate) fn borrow(&self, generator: &mut Generator) -> u32 {
        generator.random_range(0..self.requests.len() as u64) as u32
    }

    /// The times of all layers over what was `told`: of the tokens that are generated, and of all
    /// together where prompts are read. `tallies` are those of [`Self::tallies`].
    ///
    /// Chunks of layers are counted on as many threads as there are; the chunks, and with them
    /// the order of sums, are the same on one.
    pub(crate) fn times(
        &self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        told: &Told,
        tallies: &mut [Tally],
    ) -> [MoeTime; 2] {
        let large = told.rows() * self.width() > SPLIT_PICKS_MIN;
        let count = |tally: &mut Tally| self.tally(map, cost, told, tally);
        if large {
            tallies.par_iter_mut().with_max_len(1).for_each(count);
        } else {
            tallies.iter_mut().for_each(count);
        }
        let mut sums = [MoeTime::default(); 2];
        for tally in tallies {
            for (sum, time) in sums.iter_mut().zip(&tally.times) {
                sum.add(time);
            }
        }
        sums
    }

    /// One tally for each chunk of layers, on `ranks` expert-parallel ranks.
    pub(crate) fn tallies(&self, ranks: usize) -> Vec<Tally> {
        let chunk = self.layers.div_ceil(CHUNKS).max(1);
        let tally = |start: usize| {
            let layers = start..(start + chunk).min(self.layers);
            let counts = vec![0; layers.len() * self.counters];
            Tally {
                layers,
                decode: counts.clone(),
                all: counts,
                rows: Vec::new(),
                busy: vec![0.0; ranks],
                times: [MoeTime::default(); 2],
                sparse: Sparse::new(),
            }
        };
        (0..self.layers).step_by(chunk).map(tally).collect()
    }

    fn tally(&self, map: &ExpertMap, cost: &dyn CostModel, told: &Told, tally: &mut Tally) {
        let Tally { layers, decode, all, rows, busy, times, sparse } = tally;
        *times = [MoeTime::default(); 2];
        let picks = told.tokens[0] as usize * self.top_k;
        if told.prompts.is_empty() && picks * SPARSE <= self.experts {
            busy.fill(0.0);
            times[0] = self.sparse_time(map, cost, told, (layers, decode), sparse, busy);
            return;
        }
        for tokens in &told.decode {
            self.add_generated(*tokens, layers, decode);
        }
        if !told.decode.is_empty() {
            times[0] = self.time(map, cost, (told.tokens[0], false), (layers, decode), rows, busy);
        }
        if !told.prompts.is_empty() {
            for tokens in &told.prompts {
                self.add_prompt(*tokens, layers, all);
            }
            for (sum, count) in all.iter_mut().zip(&*decode) {
                *sum += count;
            }
            let tokens = told.tokens[0] + told.tokens[1];
            times[1] = self.time(map, cost, (tokens, true), (layers, all), rows, busy);
            all.fill(0);
        }
        decode.fill(0);
    }

    /// A small pass that only generates: the same answer as [`Self::time`], pick by pick.
    fn sparse_time(
        &self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        told: &Told,
        (layers, counts): (&Range<usize>, &mut [u32]),
        sparse: &mut Sparse,
        busy: &mut [f64],
    ) -> MoeTime {
        let mut sum = MoeTime::default();
        for (layer, counts) in layers.clone().zip(counts.chunks_exact_mut(self.counters)) {
            for tokens in &told.decode {
                let rows = &self.requests[tokens.borrowed as usize].generated;
                for number in 0..tokens.count {
                    let row = rows.start + (tokens.first + number) as usize % rows.len();
                    let first = row * self.width() + layer * self.top_k;
                    for pick in first..first + self.top_k {
                        self.touch(self.picks.at(pick), counts, &mut sparse.touched);
                    }
                }
            }
            sum.add(&sparse.layer_time(map, cost, told.tokens[0], (layer, counts), busy));
        }
        sum
    }

    fn touch(&self, expert: u16, counts: &mut [u32], touched: &mut Vec<u16>) {
        if usize::from(expert) < self.experts {
            let count = &mut counts[usize::from(expert)];
            if *count == 0 {
                touched.push(expert);
            }
            *count += 1;
        }
    }

    /// Adds generated tokens.
    fn add_generated(&self, tokens: Tokens, layers: &Range<usize>, counts: &mut [u32]) {
        let rows = &self.requests[tokens.borrowed as usize].generated;
        for number in 0..tokens.count {
            let row = rows.start + (tokens.first + number) as usize % rows.len();
            self.add_row(row, layers, counts, 1);
        }
    }

    /// Adds tokens of a prompt.
    fn add_prompt(&self, tokens: Tokens, layers: &Range<usize>, counts: &mut [u32]) {
        let rows = &self.requests[tokens.borrowed as usize];
        let length = rows.prompt.len();
        let first = tokens.first as usize;
        let (from, to) = (first, first + tokens.count as usize);
        // All readings up to `to`, less those up to `from`.
        let readings = (to / length) as u32 - (from / length) as u32;
        if readings > 0 {
            let whole = rows.sums + length.div_ceil(self.stride);
            self.add_sum(whole, layers, counts, readings);
        }
        self.add_up_to(rows, to % length, layers, counts, 1);
        self.add_up_to(rows, from % length, layers, counts, AWAY);
    }

    /// Adds the sum of that `number`, so many `times`.
    fn add_sum(&self, number: usize, layers: &Range<usize>, counts: &mut [u32], times: u32) {
        let start = number * self.layers * self.experts;
        let sums = &self.sums[start + layers.start * self.experts..];
        let of_layers = sums.chunks_exact(self.experts).take(layers.len());
        for (counts, sums) in counts.chunks_exact_mut(self.counters).zip(of_layers) {
            for (count, sum) in counts.iter_mut().zip(sums) {
                *count = count.wrapping_add(sum.wrapping_mul(times));
            }
        }
    }

    /// Adds the first `count` rows of a prompt, so many `times`.
    fn add_up_to(
        &self,
        rows: &Rows,
        count: usize,
        layers: &Range<usize>,
        counts: &mut [u32],
        times: u32,
    ) {
        let steps = count / self.stride;
        self.add_sum(rows.sums + steps, layers, counts, times);
        for row in rows.prompt.start + steps * self.stride..rows.prompt.start + count {
            self.add_row(row, layers, counts, times);
        }
    }

    /// Adds the picks of `row` in `layers`, so many `times`.
    fn add_row(&self, row: usize, layers: &Range<usize>, counts: &mut [u32], times: u32) {
        let start = row * self.width();
        let picks = start + layers.start * self.top_k..start + layers.end * self.top_k;
        self.picks.add(picks, self.top_k, self.counters, counts, times);
    }

    /// A pass of `tokens` tokens, with or without prompts, in some layers with their counts, and
    /// the `busy` time of expert-parallel ranks. Exchanges are not among them.
    fn time(
        &self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        tokens: (u64, bool),
        (layers, counts): (&Range<usize>, &[u32]),
        rows: &mut Vec<u32>,
        busy: &mut [f64],
    ) -> MoeTime {
        let mut sum = MoeTime::default();
        rows.resize(map.slots(), 0);
        busy.fill(0.0);
        for (layer, counts) in layers.clone().zip(counts.chunks_exact(self.counters)) {
            map.deal(layer, &counts[..self.experts], rows);
            sum.add(&map.layer_time(cost, tokens, rows, Some(&mut *busy)));
        }
        sum
    }
}

#[cfg(test)]
mod tests;

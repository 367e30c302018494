//! Expert layers token by token: every simulated request borrows the routing of one recorded
//! request, so that correlation between layers, between neighbouring tokens and within a request
//! survives.
//!
//! Sums of counts at every few rows of a recorded request make a chunk of a prompt cost experts,
//! not tokens. A request that is longer than its recording reads it again from the start of the
//! phase. Cost of a generated token: one addition a pick.

use moecast_profiles::cost::CostModel;
use moecast_profiles::seed::Generator;
use moecast_traces::{NO_EXPERT, Phase, RoutingTrace};
use rand::RngExt;

use super::moe::{ExpertMap, MoeTime};
use crate::error::{Error, Result};

/// Memory of the sums of all requests.
const SUMS_BYTES_MAX: usize = 128 << 20;
/// Rows between two sums, at least.
const STRIDE_MIN: usize = 16;
/// Counters that 16 bits can name, the one for skipped picks included.
const COUNTERS: usize = 1 << 16;

/// Counts by layer and expert, `layer x E + expert`.
pub(crate) type Counts = Box<[u32; COUNTERS]>;

/// No counts.
pub(crate) fn counts() -> Counts {
    vec![0; COUNTERS].into_boxed_slice().try_into().expect("as many as asked for")
}

/// A recording, request by request.
pub(crate) struct Library {
    /// Layers times experts.
    used: usize,
    /// Layers times picks.
    width: usize,
    experts: usize,
    /// `[T][M x k]` counters; rows of a request stand together, in the order of positions.
    picks: Vec<u16>,
    requests: Vec<Rows>,
    stride: usize,
    /// Sums before every `stride`-th row of a prompt, `[.., M x E]`.
    sums: Vec<u32>,
}

/// Rows of one recorded request.
#[derive(Clone, Debug)]
struct Rows {
    prompt: std::ops::Range<usize>,
    generated: std::ops::Range<usize>,
    /// First of its sums.
    sums: usize,
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
        let used = layers * experts;
        let Some(columns) = trace.tokens().filter(|columns| !columns.step.is_empty()) else {
            let expected = "a recording of tokens".to_owned();
            return Err(Error::scenario("routing", "a recording of counts", expected));
        };
        if used >= COUNTERS {
            let found = format!("{layers} layers of {experts} experts");
            return Err(Error::scenario("routing", found, format!("fewer than {COUNTERS} in all")));
        }
        let width = layers * usize::from(header.top_k);
        let mut order: Vec<usize> = (0..columns.step.len()).collect();
        order.sort_by_key(|row| (columns.request[*row], columns.position[*row], *row));
        let mut picks = Vec::with_capacity(order.len() * width);
        let mut requests: Vec<Rows> = Vec::new();
        for of_one in order.chunk_by(|a, b| columns.request[*a] == columns.request[*b]) {
            let start = picks.len() / width;
            let mut prompt = 0;
            for row in of_one {
                let chosen = &columns.experts[row * width..(row + 1) * width];
                for (place, expert) in chosen.iter().enumerate() {
                    let layer = place / usize::from(header.top_k);
                    let counter = layer * experts + usize::from(*expert);
                    picks.push(if *expert == NO_EXPERT { used as u16 } else { counter as u16 });
                }
                let phase = Phase::from_code(columns.phase[*row]);
                prompt += usize::from(phase == Some(Phase::Prefill));
            }
            let (end, middle) = (start + of_one.len(), start + prompt);
            // A recording of one phase stands for the other too.
            let all = start..end;
            let one_phase = middle == start || middle == end;
            let (prompt, generated) =
                if one_phase { (all.clone(), all) } else { (start..middle, middle..end) };
            requests.push(Rows { prompt, generated, sums: 0 });
        }
        let mut library =
            Self { used, width, experts, picks, requests, stride: 0, sums: Vec::new() };
        library.sum_up();
        Ok(library)
    }

    fn sum_up(&mut self) {
        let rows: usize = self.requests.iter().map(|rows| rows.prompt.len()).sum();
        let sums_max = (SUMS_BYTES_MAX / 4 / self.used.max(1)).max(1);
        self.stride = rows.div_ceil(sums_max).max(STRIDE_MIN).next_power_of_two();
        let mut sum = vec![0_u32; self.used + 1];
        for rows in &mut self.requests {
            rows.sums = self.sums.len() / self.used;
            sum.fill(0);
            for (number, row) in rows.prompt.clone().enumerate() {
                if number.is_multiple_of(self.stride) {
                    self.sums.extend_from_slice(&sum[..self.used]);
                }
                for pick in &self.picks[row * self.width..(row + 1) * self.width] {
                    sum[usize::from(*pick)] += 1;
                }
            }
            // And once more behind the last row: a whole reading.
            self.sums.extend_from_slice(&sum[..self.used]);
        }
    }

    /// A recorded request at random.
    pub(crate) fn borrow(&self, generator: &mut Generator) -> u32 {
        generator.random_range(0..self.requests.len() as u64) as u32
    }

    /// Adds generated tokens.
    pub(crate) fn add_generated(&self, tokens: Tokens, counts: &mut Counts) {
        let rows = &self.requests[tokens.borrowed as usize].generated;
        for number in 0..tokens.count {
            let row = rows.start + (tokens.first + number) as usize % rows.len();
            self.add_row(row, counts);
        }
    }

    /// Adds tokens of a prompt.
    pub(crate) fn add_prompt(&self, tokens: Tokens, counts: &mut Counts) {
        let rows = &self.requests[tokens.borrowed as usize];
        let length = rows.prompt.len();
        let first = tokens.first as usize;
        let (from, to) = (first, first + tokens.count as usize);
        // All readings up to `to`, less those up to `from`.
        let readings = (to / length) as u32 - (from / length) as u32;
        if readings > 0 {
            let whole = (rows.sums + length.div_ceil(self.stride)) * self.used;
            for (count, sum) in counts.iter_mut().zip(&self.sums[whole..whole + self.used]) {
                *count += readings * sum;
            }
        }
        self.add_up_to(rows, to % length, counts, false);
        self.add_up_to(rows, from % length, counts, true);
    }

    /// Adds the first `count` rows of a prompt, or takes them away.
    fn add_up_to(&self, rows: &Rows, count: usize, counts: &mut Counts, away: bool) {
        let at = (rows.sums + count / self.stride) * self.used;
        let sums = &self.sums[at..at + self.used];
        let rest = rows.prompt.start + count / self.stride * self.stride..rows.prompt.start + count;
        if away {
            for (count, sum) in counts.iter_mut().zip(sums) {
                *count = count.wrapping_sub(*sum);
            }
            for pick in &self.picks[rest.start * self.width..rest.end * self.width] {
                let count = &mut counts[usize::from(*pick)];
                *count = count.wrapping_sub(1);
            }
        } else {
            for (count, sum) in counts.iter_mut().zip(sums) {
                *count = count.wrapping_add(*sum);
            }
            for row in rest {
                self.add_row(row, counts);
            }
        }
    }

    fn add_row(&self, row: usize, counts: &mut Counts) {
        for pick in &self.picks[row * self.width..(row + 1) * self.width] {
            let count = &mut counts[usize::from(*pick)];
            *count = count.wrapping_add(1);
        }
    }

    /// Forgets `counts`.
    pub(crate) fn clear(&self, counts: &mut Counts) {
        counts[..=self.used].fill(0);
    }

    /// Adds `counts` to `into`.
    pub(crate) fn add(&self, counts: &Counts, into: &mut Counts) {
        for (sum, count) in into[..self.used].iter_mut().zip(&counts[..self.used]) {
            *sum += count;
        }
    }

    /// All layers of a pass of `tokens` tokens with these `counts`; adds to the `busy` time of
    /// expert-parallel ranks. Exchanges are not among them.
    pub(crate) fn time(
        &self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        tokens: u64,
        counts: &Counts,
        busy: &mut [f64],
    ) -> MoeTime {
        let mut sum = MoeTime::default();
        let mut rows = vec![0_u32; map.slots()];
        for (layer, loads) in counts[..self.used].chunks_exact(self.experts).enumerate() {
            map.deal(layer, loads, &mut rows);
            sum.add(&map.layer_time(cost, tokens, &rows, Some(busy)));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use moecast_traces::{Header, TokenRow, TraceBuilder};
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    /// Two requests: `lengths` rows of prompt, three generated, of random picks: 2 of 8, 3 layers.
    fn trace(lengths: [u32; 2], seed: u64) -> RoutingTrace {
        let mut generator = Generator::seed_from_u64(seed);
        let header = Header::new("test", "toy", 8, 2, vec![0, 1, 2]);
        let mut builder = TraceBuilder::new(header);
        for (request, length) in (0..).zip(lengths) {
            for position in 0..length + 3 {
                let mut experts = Vec::new();
                for _ in 0..3 {
                    let first = generator.random_range(0..8_u16);
                    experts.extend([first, (first + generator.random_range(1..8)) % 8]);
                }
                let phase = if position < length { Phase::Prefill } else { Phase::Decode };
                let step = request * 1000 + position;
                let experts = &experts;
                let row = TokenRow { request, position, step, phase, experts, weights: None };
                builder.push_token(row);
            }
        }
        builder.finish("test").unwrap()
    }

    proptest! {
        #[test]
        fn a_chunk_is_the_sum_of_its_tokens(
            lengths in [1_u32..70, 1_u32..70],
            first in 0_u32..200,
            count in 0_u32..200,
            borrowed in 0_u32..2,
            seed in 0_u64..100,
        ) {
            let library = Library::new(&trace(lengths, seed)).unwrap();
            let (mut chunk, mut single) = (counts(), counts());
            library.add_prompt(Tokens { borrowed, first, count }, &mut chunk);
            for number in first..first + count {
                library.add_prompt(Tokens { borrowed, first: number, count: 1 }, &mut single);
            }
            prop_assert!(chunk[..24] == single[..24]);
            // Every token picks twice in each of three layers.
            prop_assert_eq!(chunk[..24].iter().sum::<u32>(), count * 6);
            let rows = &library.requests[borrowed as usize];
            let length = rows.prompt.len() as u32;
            let mut direct = counts();
            for number in first..first + count {
                library.add_row(rows.prompt.start + (number % length) as usize, &mut direct);
            }
            prop_assert!(chunk[..24] == direct[..24]);
        }
    }
}

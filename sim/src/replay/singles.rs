//! Single look-ups, each an event of its own, where no policy listens to routers: the picks of many
//! tokens are handed over at once, so that little is lost between a policy and the recording.

use moecast_traces::{NO_EXPERT, Phase, TokenColumns};

use super::{Job, Outcome, Tally};
use crate::cache::Item;

/// Picks that are handed over at once, about: what they take stays in the nearest cache.
const AT_ONCE: usize = 2048;

/// Replays the whole recording of `job`.
pub(super) fn run(job: &mut Job<'_, '_>, outcome: &mut Outcome) {
    let trace = job.replay.trace;
    let columns = trace.tokens().expect("a replay is of tokens");
    let layers = job.replay.layers();
    let width = usize::from(trace.header().top_k);
    let rows_at_once = (AT_ONCE / (layers * width).max(1)).max(1);
    let mut chunk = Chunk::new(columns, layers, width, job.replay.experts());
    for (step, span) in trace.steps().iter().enumerate() {
        for row in span.rows.clone() {
            let decode = columns.phase[row] == Phase::Decode.code();
            let same = chunk.decode == decode && outcome.same_window(chunk.step, step);
            if !same || chunk.rows.len() == rows_at_once {
                chunk.run(job, outcome);
                (chunk.step, chunk.decode) = (step, decode);
            }
            chunk.rows.push(row);
        }
    }
    chunk.run(job, outcome);
}

/// Tokens that follow each other, of one phase and one window of time.
struct Chunk<'a> {
    columns: &'a TokenColumns,
    layers: usize,
    width: usize,
    experts: usize,
    rows: Vec<usize>,
    /// Index of the step of the first one.
    step: usize,
    decode: bool,
    /// `[rows, layers, k]` items that one pool is asked for, without those of dropped tokens.
    items: Vec<Item>,
    /// `[rows, layers]` where the items of each cell end.
    ends: Vec<usize>,
    /// Which of the items were resident.
    found: Vec<bool>,
}

impl<'a> Chunk<'a> {
    fn new(columns: &'a TokenColumns, layers: usize, width: usize, experts: usize) -> Self {
        let (rows, ends, decode) = (Vec::new(), Vec::new(), false);
        let (items, found) = (Vec::new(), Vec::new());
        Self { columns, layers, width, experts, rows, step: 0, decode, items, ends, found }
    }

    /// Asks all pools for the picks of all rows, and forgets the rows.
    fn run(&mut self, job: &mut Job<'_, '_>, outcome: &mut Outcome) {
        if self.rows.is_empty() {
            return;
        }
        for (index, seat) in job.seats.iter_mut().enumerate() {
            let layers = job.replay.pool_layers(index);
            self.gather(layers.clone());
            seat.run(&self.items, &mut self.found);
            for (place, layer) in layers.clone().enumerate() {
                let tally = self.tally(place, layers.len());
                outcome.add(self.step, layer, self.decode, tally);
            }
        }
        self.rows.clear();
    }

    /// Lists the picks of all rows in `layers`.
    fn gather(&mut self, layers: std::ops::Range<usize>) {
        let most = self.rows.len() * layers.len() * self.width;
        self.items.resize(most, 0);
        self.ends.clear();
        let mut filled = 0;
        for &row in &self.rows {
            let mut first = 0;
            for layer in layers.clone() {
                let start = (row * self.layers + layer) * self.width;
                for &id in &self.columns.experts[start..start + self.width] {
                    // Written in any case: whether somebody was picked is not worth a branch.
                    self.items[filled] = first + Item::from(id);
                    filled += usize::from(id != NO_EXPERT);
                }
                first += self.experts as Item;
                self.ends.push(filled);
            }
        }
        self.items.truncate(filled);
        self.found.resize(filled, false);
    }

    /// What all rows found in the pool's layer `place`.
    fn tally(&self, place: usize, layers: usize) -> Tally {
        let mut tally = Tally::default();
        for cell in (place..self.ends.len()).step_by(layers) {
            let start = cell.checked_sub(1).map_or(0, |before| self.ends[before]);
            let found = &self.found[start..self.ends[cell]];
            tally.look_ups += found.len() as u64;
            tally.hits += found.iter().map(|&hit| u64::from(hit)).sum::<u64>();
        }
        tally
    }
}

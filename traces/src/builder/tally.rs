//! What is known of a recording without its columns: steps, tokens and requests, counted as rows
//! are pushed.

use crate::error::Result;
use crate::header::Header;
use crate::spill::Pile;

/// Requests that are looked for at a time: 64 MiB of bits.
const WINDOW_IDS: u64 = 1 << 29;

/// The extent of a recording so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    steps: usize,
    last_step: Option<u32>,
    request_max: u32,
    /// Tokens of all whole steps of a count recording.
    counted: u64,
    /// Sum of the layer that is being added, and values of it that were seen.
    layer_sum: u64,
    layer_len: usize,
    /// Largest sum of the layers of this step, and their number.
    busiest: u64,
    layers: usize,
}

impl Tally {
    pub(super) fn last_step(&self) -> Option<u32> {
        self.last_step
    }

    pub(super) fn request_max(&self) -> u32 {
        self.request_max
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Tokens and steps of a count recording.
    pub(super) fn counted(&self) -> (u64, usize) {
        (self.counted, self.steps)
    }

    pub(super) fn add_token(&mut self, request: u32, step: u32) {
        self.steps += usize::from(self.last_step != Some(step));
        self.last_step = Some(step);
        self.request_max = self.request_max.max(request);
    }

    /// Counts may come in pieces of any size.
    pub(super) fn add_counts(&mut self, header: &Header, mut counts: &[u32]) {
        let experts = usize::from(header.experts).max(1);
        while !counts.is_empty() {
            let (piece, rest) = counts.split_at(counts.len().min(experts - self.layer_len));
            counts = rest;
            self.layer_sum += piece.iter().map(|&count| u64::from(count)).sum::<u64>();
            self.layer_len += piece.len();
            if self.layer_len == experts {
                self.end_layer(header);
            }
        }
    }

    fn end_layer(&mut self, header: &Header) {
        self.busiest = self.busiest.max(std::mem::take(&mut self.layer_sum));
        self.layer_len = 0;
        self.layers += 1;
        if self.layers == header.moe_layers() {
            let tokens = self.busiest.div_ceil(u64::from(header.top_k).max(1));
            self.counted += tokens.min(u64::from(u32::MAX));
            self.steps += 1;
            (self.busiest, self.layers) = (0, 0);
        }
    }
}

/// Number of distinct `values`, none of which is larger than `max`. One bit an id: a recording
/// that numbers its requests from 0 takes one pass, and the worst takes eight.
pub(super) fn distinct(values: &Pile<u32>, max: u32) -> Result<usize> {
    let end = u64::from(max) + 1;
    let mut count = 0;
    for start in (0..end).step_by(1 << 29) {
        let ids = (end - start).min(WINDOW_IDS);
        let mut seen = vec![0_u64; usize::try_from(ids.div_ceil(64)).expect("a window")];
        let mut reader = values.reader();
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                break;
            }
            for &value in chunk {
                let Some(id) = u64::from(value).checked_sub(start).filter(|&id| id < ids) else {
                    continue;
                };
                let word = &mut seen[usize::try_from(id / 64).expect("in the window")];
                let bit = 1 << (id % 64);
                count += usize::from(*word & bit == 0);
                *word |= bit;
            }
        }
    }
    Ok(count)
}

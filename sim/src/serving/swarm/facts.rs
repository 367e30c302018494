//! Everything that a run tells, kept as it was told.

use moecast_profiles::units::{Nanos, SimTime};

use crate::serving::record::{Observer, PassRecord, RequestRecord};

/// A pass, with a copy of what it borrowed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pass {
    pub(super) replica: u16,
    pub(super) start: SimTime,
    pub(super) end: SimTime,
    pub(super) prefill_tokens: u64,
    pub(super) decode_tokens: u64,
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) kv_blocks_used: u64,
    pub(super) kv_blocks: u64,
    pub(super) imbalance: f64,
    pub(super) busy: Vec<Nanos>,
}

/// What an observer was told, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) requests: Vec<RequestRecord>,
    pub(super) passes: Vec<Pass>,
    pub(super) gaps: Vec<(Nanos, u32)>,
}

/// A tiny service that takes more passes than this goes in circles.
const PASSES_MAX: usize = 50_000;

impl Observer for Facts {
    fn request(&mut self, record: &RequestRecord) {
        self.requests.push(record.clone());
    }

    fn pass(&mut self, pass: &PassRecord<'_>) {
        assert!(self.passes.len() < PASSES_MAX, "{PASSES_MAX} passes, and no end");
        self.passes.push(Pass {
            replica: pass.replica,
            start: pass.start,
            end: pass.start + pass.time,
            prefill_tokens: u64::from(pass.prefill_tokens),
            decode_tokens: u64::from(pass.decode_tokens),
            running: pass.running,
            waiting: pass.waiting,
            kv_blocks_used: pass.kv_blocks_used,
            kv_blocks: pass.kv_blocks,
            imbalance: pass.imbalance,
            busy: pass.rank_busy.to_vec(),
        });
    }

    fn token_gaps(&mut self, gap: Nanos, count: u32) {
        self.gaps.push((gap, count));
    }
}

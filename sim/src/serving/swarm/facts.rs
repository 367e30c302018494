//! Everything that a run tells, kept as it was told.

use moecast_profiles::units::{Nanos, SimTime};

use crate::serving::faults::FaultRecord;
use crate::serving::record::{Observer, PassRecord, RequestRecord};

/// A pass, with a copy of what it borrowed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::serving) struct Pass {
    pub(in crate::serving) replica: u16,
    pub(in crate::serving) start: SimTime,
    pub(in crate::serving) end: SimTime,
    pub(in crate::serving) prefill_tokens: u64,
    pub(in crate::serving) decode_tokens: u64,
    pub(in crate::serving) running: u32,
    pub(in crate::serving) waiting: u32,
    pub(in crate::serving) kv_blocks_used: u64,
    pub(in crate::serving) kv_blocks: u64,
    pub(in crate::serving) imbalance: f64,
    pub(in crate::serving) busy: Vec<Nanos>,
    /// Of all stages together, without copies to the host.
    pub(in crate::serving) work: Nanos,
}

/// What an observer was told, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::serving) struct Facts {
    pub(in crate::serving) requests: Vec<RequestRecord>,
    pub(in crate::serving) passes: Vec<Pass>,
    pub(in crate::serving) gaps: Vec<(Nanos, u32)>,
    pub(in crate::serving) faults: Vec<FaultRecord>,
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
            work: pass.parts.decode + pass.parts.prefill + pass.parts.host,
        });
    }

    fn fault(&mut self, record: &FaultRecord) {
        self.faults.push(record.clone());
    }

    fn token_gaps(&mut self, gap: Nanos, count: u32) {
        self.gaps.push((gap, count));
    }
}

//! stub
#![allow(missing_docs)]
use moecast_profiles::units::{Nanos, SimTime};
#[derive(Clone, Debug)]
pub struct RequestRecord { pub id: u64, pub replica: u16, pub arrival: SimTime, pub started: SimTime, pub first_token: SimTime, pub finished: SimTime, pub input_tokens: u32, pub output_tokens: u32, pub cached_tokens: u32, pub preemptions: u32 }
pub struct PassRecord<'a> { pub replica: u16, pub start: SimTime, pub time: Nanos, pub prefill_tokens: u32, pub decode_tokens: u32, pub running: u32, pub waiting: u32, pub kv_blocks_used: u64, pub kv_blocks: u64, pub imbalance: f64, pub rank_busy: &'a [Nanos] }
pub trait Observer { fn request(&mut self, record: &RequestRecord); fn pass(&mut self, _pass: &PassRecord) {} fn token_gaps(&mut self, _gap: Nanos, _count: u32) {} fn enough(&self) -> bool { false } }

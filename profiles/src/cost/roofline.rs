//! Roofline: a kernel takes the larger of its bytes over bandwidth and its operations over rate,
//! each at a stated efficiency, after a fixed launch time.
//!
//! Source of the form: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009. The three
//! constants below are assumed, not fitted; a calibrated profile replaces them. Cost per call:
//! one pass over the slots, no allocation.

use std::sync::Arc;

use super::{Attended, AttentionBatch, CostModel, Entry, Setting};
use crate::model::{Attention, DataType, ModelShape};
use crate::units::{Bandwidth, Bytes, Flops, Nanos};

pub(super) const ENTRY: Entry = Entry {
    name: "roofline",
    about: "bytes over bandwidth or operations over rate, at assumed efficiencies of 80% and 70%",
    build: |setting| Ok(Arc::new(Roofline::new(setting))),
};

/// Share of the peak memory bandwidth that a kernel reaches. Assumed.
const MEMORY_EFFICIENCY: f64 = 0.80;
/// Share of the peak arithmetic rate that a kernel reaches. Assumed.
const COMPUTE_EFFICIENCY: f64 = 0.70;
/// Time of one kernel before its first byte or operation counts. Assumed.
const LAUNCH: Nanos = Nanos(4_000);
/// Rows of one tile of a grouped GEMM: fewer rows cost as much as a full tile. Assumed.
const TILE_ROWS: u64 = 16;

pub(super) struct Roofline {
    model: ModelShape,
    bandwidth: Bandwidth,
    flops_expert: Flops,
    flops_dense: Flops,
    flops_bf16: Flops,
    /// Ranks that reduce together, and the link between them.
    tensor_ranks: u64,
    link_bandwidth: Bandwidth,
    link_latency: Nanos,
}

impl Roofline {
    pub(super) fn new(setting: &Setting) -> Self {
        let (model, device) = (setting.model, setting.device);
        let rate = |data_type| device.flops(data_type).scaled(COMPUTE_EFFICIENCY);
        Self {
            bandwidth: device.memory_bandwidth.value.scaled(MEMORY_EFFICIENCY),
            flops_expert: rate(model.expert_type),
            flops_dense: rate(model.dense_type),
            flops_bf16: rate(DataType::Bf16),
            tensor_ranks: u64::from(setting.tensor_ranks.max(1)),
            link_bandwidth: device.domain_bandwidth.value.scaled(MEMORY_EFFICIENCY),
            link_latency: device.domain_latency.value,
            model: ModelShape {
                expert_inter: model.expert_inter / u32::from(setting.expert_tensor_ranks.max(1)),
                ..model.clone()
            },
        }
    }

    fn kernel(&self, bytes: Bytes, operations: u128, rate: Flops) -> Nanos {
        LAUNCH + self.bandwidth.time_for(bytes).max(rate.time_for(operations))
    }

    /// How much longer than with one query a request attention over the cache takes with as many
    /// queries as `decode` has: the cache is read once for all of them. At least 1.
    pub(super) fn query_growth(&self, decode: &Attended) -> f64 {
        if decode.tokens <= decode.requests {
            return 1.0;
        }
        let read = self.bandwidth.time_for(self.model.kv_bytes_per_token() * decode.cached).0;
        let time = |pairs: u64| {
            let operations = 2 * u128::from(self.values_per_pair()) * u128::from(pairs);
            read.max(self.flops_bf16.time_for(operations).0).max(1) as f64
        };
        time(decode.attended.max(decode.cached)) / time(decode.cached)
    }

    /// A gated feed-forward network of intermediate width `inter`: three matrices.
    fn feed_forward(&self, tokens: u32, inter: u32) -> Nanos {
        if tokens == 0 || inter == 0 {
            return Nanos(0);
        }
        let (rows, hidden) = (u64::from(tokens), u64::from(self.model.hidden));
        let params = 3 * hidden * u64::from(inter);
        let activations = rows * 2 * (2 * hidden + 3 * u64::from(inter));
        let bytes = self.model.dense_type.bytes_of(params) + Bytes(activations);
        self.kernel(bytes, 2 * u128::from(params) * u128::from(rows), self.flops_dense)
    }

    /// Multiply-adds between one new token and one attended token, all heads together, and
    /// whether it is the absorbed form of latent attention.
    fn values_per_pair(&self) -> u64 {
        match self.model.attention {
            Attention::Gqa { heads, head_dim, .. } => 2 * u64::from(heads) * u64::from(head_dim),
            Attention::Mla { heads, kv_lora_rank, rope_head_dim, .. } => {
                u64::from(heads) * u64::from(2 * kv_lora_rank + rope_head_dim)
            }
        }
    }
}

impl CostModel for Roofline {
    fn experts(&self, _: u64, rows_per_slot: &[u32]) -> Nanos {
        let (mut active, mut rows, mut padded) = (0_u64, 0_u64, 0_u64);
        for &tokens in rows_per_slot {
            let tokens = u64::from(tokens);
            active += u64::from(tokens > 0);
            rows += tokens;
            padded += tokens.div_ceil(TILE_ROWS) * TILE_ROWS;
        }
        if active == 0 {
            return Nanos(0);
        }
        let (hidden, inter) = (u64::from(self.model.hidden), u64::from(self.model.expert_inter));
        let weights = self.model.expert_bytes() * active;
        let activations = Bytes(rows * (3 * hidden + 5 * inter));
        let operations = 6 * u128::from(padded) * u128::from(hidden) * u128::from(inter);
        self.kernel(weights + activations, operations, self.flops_expert)
    }

    fn shared_experts(&self, tokens: u32) -> Nanos {
        self.feed_forward(tokens, self.model.shared_inter)
    }

    fn dense_layer(&self, tokens: u32) -> Nanos {
        self.feed_forward(tokens, self.model.dense_inter)
    }

    fn attention(&self, batch: AttentionBatch) -> Nanos {
        let tokens = batch.tokens();
        if tokens == 0 {
            return Nanos(0);
        }
        let params = self.model.attention_params();
        let projections = self.kernel(
            self.model.dense_type.bytes_of(params),
            2 * u128::from(params) * u128::from(tokens),
            self.flops_dense,
        );
        let (cached, attended) = (
            batch.decode.cached + batch.prefill.cached,
            batch.decode.attended + batch.prefill.attended,
        );
        let cache = self.model.kv_bytes_per_token() * cached;
        let operations = 2 * u128::from(self.values_per_pair()) * u128::from(attended);
        projections + self.kernel(cache, operations, self.flops_bf16)
    }

    fn gate(&self, tokens: u32) -> Nanos {
        if tokens == 0 {
            return Nanos(0);
        }
        let params = u64::from(self.model.hidden) * u64::from(self.model.experts);
        self.kernel(Bytes(params * 2), 2 * u128::from(params) * u128::from(tokens), self.flops_bf16)
    }

    fn head(&self, tokens: u32) -> Nanos {
        if tokens == 0 {
            return Nanos(0);
        }
        let params = u64::from(self.model.hidden) * u64::from(self.model.vocab);
        self.kernel(Bytes(params * 2), 2 * u128::from(params) * u128::from(tokens), self.flops_bf16)
    }

    /// A ring: every rank sends and receives the buffer almost twice.
    fn all_reduce(&self, tokens: u32) -> Nanos {
        if tokens == 0 || self.tensor_ranks == 1 {
            return Nanos(0);
        }
        let bytes = u64::from(tokens) * u64::from(self.model.hidden) * 2;
        let share = Bytes(2 * bytes * (self.tensor_ranks - 1) / self.tensor_ranks);
        LAUNCH + self.link_latency * 2 + self.link_bandwidth.time_for(share)
    }
}

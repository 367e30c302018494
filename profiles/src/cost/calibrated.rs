//! Measured kernels: a profile's tables, bound to one model's shapes.
//!
//! Where the profile has no table for a kernel, the roofline answers and [`CostModel::known`]
//! says so. Norms, rotary embeddings and other small kernels are a roofline too: bytes over
//! bandwidth after an assumed start. Cost per call: a table lookup, no allocation.

mod choose;

use std::sync::Arc;

use super::roofline::Roofline;
use super::{AttentionBatch, CostModel, Entry, Known, Setting};
use crate::model::{Attention, DataType};
use crate::profile::{Curve, ExpertTimer, Surface};
use crate::table::Source;
use crate::units::Nanos;
use crate::{Error, Result};
use choose::{Chooser, Context};

pub(super) const ENTRY: Entry = Entry {
    name: "calibrated",
    about: "measured kernels of a profile (--profile); roofline where it has none",
    build: |setting| Ok(Arc::new(Calibrated::new(setting)?)),
};

/// Start of a small kernel inside a captured graph. Assumed.
const SMALL_START: Nanos = Nanos(1_500);
/// Small kernels around the attention of a layer (two norms, rotary embedding, cache write), and
/// around a feed-forward network (activation, quantisation). Assumed.
const SMALL_ATTENTION: u64 = 4;
const SMALL_FEED_FORWARD: u64 = 2;
/// Share of the memory bandwidth that small kernels reach. Assumed.
const SMALL_EFFICIENCY: f64 = 0.7;

struct Calibrated {
    roofline: Roofline,
    experts: Option<ExpertTimer>,
    /// Nanoseconds a row that expert kernels at full speed need at least.
    expert_row_ns: f64,
    shared: Option<FeedForward>,
    dense: Option<FeedForward>,
    gate: Option<Curve>,
    head: Option<Curve>,
    /// All-reduces over bytes; the fastest serves.
    all_reduce: Vec<Curve>,
    tensor_ranks: u16,
    attention: AttentionTimer,
    hidden: u64,
    bandwidth: crate::units::Bandwidth,
    known: Vec<Known>,
}

/// The two products of a gated feed-forward network.
struct FeedForward {
    up: Curve,
    down: Curve,
}

/// Attention of one layer: kernels over cached tokens, and products around them.
struct AttentionTimer {
    decode: Option<Context>,
    prefill: Option<Context>,
    /// Layers with a sliding window, as a share of all, and their kernels.
    windowed: Option<(f64, Surface, Surface)>,
    projections: Vec<Curve>,
    /// Tokens of a prompt that look at as many again as one token more in a pair: microseconds
    /// per attended token beyond the causal triangle.
    pair_us: f64,
}

impl Calibrated {
    fn new(setting: &Setting) -> Result<Self> {
        let Some(profile) = setting.profile else {
            return Err(Error::Invalid {
                path: "cost model calibrated".to_owned(),
                key: "profile".to_owned(),
                found: format!("no profile of {}", setting.device.name),
                expected: "one of `moecast list profiles`, or the path of one".to_owned(),
            });
        };
        let model = setting.model;
        let mut chooser = Chooser::new(profile, model);
        let experts = chooser.experts(setting);
        let expert_row_ns = chooser.expert_row_ns(setting);
        let feed_forward = |chooser: &mut Chooser, name, inter: u32| {
            let up = chooser.gemm(name, model.dense_type, 2 * inter, model.hidden)?;
            let down = chooser.gemm(name, model.dense_type, model.hidden, inter)?;
            Some(FeedForward { up, down })
        };
        let shared = (model.shared_inter > 0)
            .then(|| feed_forward(&mut chooser, "shared experts", model.shared_inter))
            .flatten();
        let dense = (model.dense_inter > 0)
            .then(|| feed_forward(&mut chooser, "dense layers", model.dense_inter))
            .flatten();
        let gate = chooser.gemm("gate", DataType::Bf16, u32::from(model.experts), model.hidden);
        let head = chooser.gemm("head", DataType::Bf16, model.vocab, model.hidden);
        let all_reduce = chooser.all_reduce(setting.tensor_ranks);
        let attention = AttentionTimer::new(&mut chooser);
        Ok(Self {
            roofline: Roofline::new(setting),
            experts,
            expert_row_ns,
            shared,
            dense,
            gate,
            head,
            all_reduce,
            tensor_ranks: setting.tensor_ranks,
            attention,
            hidden: u64::from(model.hidden),
            bandwidth: setting.device.memory_bandwidth.value.scaled(SMALL_EFFICIENCY),
            known: chooser.known,
        })
    }

    /// `count` small kernels that read and write the residual stream of `tokens` tokens.
    fn small(&self, count: u64, tokens: u32) -> Nanos {
        let bytes = crate::units::Bytes(u64::from(tokens) * self.hidden * 4);
        (SMALL_START + self.bandwidth.time_for(bytes)) * count
    }

    fn feed_forward(&self, timer: Option<&FeedForward>, tokens: u32) -> Option<Nanos> {
        let timer = timer.filter(|_| tokens > 0)?;
        let products = timer.up.time(u64::from(tokens)) + timer.down.time(u64::from(tokens));
        Some(products + self.small(SMALL_FEED_FORWARD, tokens))
    }
}

impl AttentionTimer {
    fn new(chooser: &mut Chooser) -> Self {
        let [decode, prefill] = chooser.attention();
        let windowed = chooser.windowed();
        let all = whole(decode.as_ref()) && whole(prefill.as_ref());
        let projections = if all { Vec::new() } else { chooser.projections() };
        // One prompt of 16,384 tokens against one of 8,192: what attending costs at full speed.
        let pair_us = prefill.as_ref().map_or(0.0, |own| {
            let at = |tokens: u64| own.surface.time(1, tokens).0 as f64 * 1e-3;
            let pairs = |tokens: f64| tokens * (tokens + 1.0) / 2.0;
            ((at(16_384) - at(8_192)) / (pairs(16_384.0) - pairs(8_192.0))).max(0.0)
        });
        Self { decode, prefill, windowed, projections, pair_us }
    }

    /// Time of the kernels over `batch`; `None` where a table is missing. `growth` is what more
    /// than one query a generating request costs: the tables have one.
    fn kernels(&self, batch: AttentionBatch, growth: f64) -> Option<f64> {
        let mut sum = 0.0;
        let us = |time: Nanos| time.0 as f64 * 1e-3;
        let mix = |full: f64, windowed: f64| match &self.windowed {
            Some((share, ..)) => full * (1.0 - share) + windowed * share,
            None => full,
        };
        if batch.decode.tokens > 0 {
            let requests = u64::from(batch.decode.requests.max(1));
            let context = batch.decode.cached.div_ceil(requests).max(1);
            let (table, windowed) = (&self.decode.as_ref()?.surface, self.windowed.as_ref());
            let of = |requests: u64| {
                let full = us(table.time(requests, context));
                mix(full, windowed.map_or(full, |(_, own, _)| us(own.time(requests, context))))
            };
            let mut time = of(requests);
            let tokens = u64::from(batch.decode.tokens);
            if tokens > requests {
                // At most what as many requests take, each with a cache of its own.
                time = (growth * time).min(of(tokens).max(time));
            }
            sum += time;
        }
        if batch.prefill.tokens > 0 {
            let work = batch.prefill;
            let requests = u64::from(work.requests.max(1));
            let tokens = u64::from(work.tokens).div_ceil(requests);
            let full = us(self.prefill.as_ref()?.surface.time(requests, tokens));
            let windowed = self.windowed.as_ref();
            let windowed = windowed.map_or(full, |(_, _, own)| us(own.time(requests, tokens)));
            let causal = requests * (tokens * (tokens + 1) / 2);
            // What a prompt attends to before its own chunk; the tables have no prefixes.
            let before = work.attended.saturating_sub(causal) as f64;
            sum += mix(full + before * self.pair_us, windowed);
        }
        Some(sum)
    }
}

/// Whether the times of `own` hold the products around it.
fn whole(own: Option<&Context>) -> bool {
    own.is_some_and(|own| own.whole)
}

impl CostModel for Calibrated {
    fn experts(&self, tokens: u64, rows_per_slot: &[u32]) -> Nanos {
        match &self.experts {
            Some(timer) => {
                let rows: u64 = rows_per_slot.iter().map(|rows| u64::from(*rows)).sum();
                let least = Nanos((rows as f64 * self.expert_row_ns) as u64);
                timer.time(tokens, rows_per_slot).max(least)
            }
            None => self.roofline.experts(tokens, rows_per_slot),
        }
    }

    fn shared_experts(&self, tokens: u32) -> Nanos {
        let measured = self.feed_forward(self.shared.as_ref(), tokens);
        measured.unwrap_or_else(|| self.roofline.shared_experts(tokens))
    }

    fn dense_layer(&self, tokens: u32) -> Nanos {
        let measured = self.feed_forward(self.dense.as_ref(), tokens);
        measured.unwrap_or_else(|| self.roofline.dense_layer(tokens))
    }

    fn attention(&self, batch: AttentionBatch) -> Nanos {
        let tokens = batch.tokens();
        if tokens == 0 {
            return Nanos(0);
        }
        let growth = self.roofline.query_growth(&batch.decode);
        let AttentionTimer { decode, prefill, projections, .. } = &self.attention;
        // Tokens whose kernels hold no projections.
        let bare = |own: &Option<Context>, tokens| if whole(own.as_ref()) { 0 } else { tokens };
        let bare = bare(decode, batch.decode.tokens) + bare(prefill, batch.prefill.tokens);
        let complete = bare == 0 || !projections.is_empty();
        let Some(kernels) = self.attention.kernels(batch, growth).filter(|_| complete) else {
            return self.roofline.attention(batch);
        };
        let mut time = Nanos((kernels * 1e3).ceil() as u64) + self.small(SMALL_ATTENTION, tokens);
        if bare > 0 {
            for projection in projections {
                time += projection.time(u64::from(bare));
            }
        }
        time
    }

    fn gate(&self, tokens: u32) -> Nanos {
        match &self.gate {
            Some(curve) => curve.time(u64::from(tokens)),
            None => self.roofline.gate(tokens),
        }
    }

    fn head(&self, tokens: u32) -> Nanos {
        match &self.head {
            Some(curve) => curve.time(u64::from(tokens)),
            None => self.roofline.head(tokens),
        }
    }

    fn all_reduce(&self, tokens: u32) -> Nanos {
        if tokens == 0 || self.tensor_ranks <= 1 {
            return Nanos(0);
        }
        let bytes = u64::from(tokens) * self.hidden * 2;
        let measured = self.all_reduce.iter().map(|curve| curve.time(bytes)).min();
        measured.unwrap_or_else(|| self.roofline.all_reduce(tokens))
    }

    fn known(&self) -> Vec<Known> {
        let mut known = self.known.clone();
        known.push(Known {
            kernel: "small kernels".to_owned(),
            by: "bytes over bandwidth after 1.5 us".to_owned(),
            source: Source::Assumed,
            error: 0.3,
        });
        known
    }
}

/// The attention kernel's shape: heads, key and value heads, width and window.
fn attention_shape(attention: &Attention, window: u32) -> Option<[u32; 4]> {
    match *attention {
        Attention::Gqa { heads, kv_heads, head_dim, .. } => {
            Some([heads, kv_heads, head_dim, window])
        }
        Attention::Mla { .. } => None,
    }
}

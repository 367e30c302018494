//! How many tokens of context fit beside the weights of a GPU.
//!
//! Layers with a sliding window hold at most a window of every request, so they count per request,
//! not per token. Deliberately absent: fragmentation, caches in 8 bits.

use moecast_profiles::engine::{Engine, MemoryBase};
use moecast_profiles::hardware::Device;
use moecast_profiles::model::{Attention, ModelShape};
use moecast_profiles::units::Bytes;

use super::layout::Layout;
use crate::error::{Error, Result};

/// Memory of the CUDA context, communication buffers and captured graphs. Assumed: vLLM and SGLang
/// report 2 to 5 GiB.
const OVERHEAD: Bytes = Bytes(3 << 30);

/// The memory of one GPU of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights.
    pub weights: Bytes,
    /// Keys and values of one token in the layers of one stage.
    pub kv_bytes_per_token: Bytes,
    /// What the windowed layers hold of one request, in tokens of the other layers.
    pub kv_tokens_per_request: u32,
    /// Tokens of context that fit, of all requests of one data-parallel rank.
    pub kv_tokens: u64,
}

impl Memory {
    /// The memory of `model` in `layout` under `engine`, with `slots` expert slots on every
    /// expert-parallel rank.
    ///
    /// # Errors
    /// [`Error::Scenario`] when the weights leave no room for a context.
    pub fn new(
        model: &ModelShape,
        device: &Device,
        engine: &Engine,
        layout: &Layout,
        slots: u16,
    ) -> Result<Self> {
        let weights = weights(model, layout, slots)?;
        let (per_token, per_request) = cache(model, layout)?;
        let (total, kv) = (device.memory.value.0, engine.kv_memory.value);
        let share = |bytes: u64| (bytes as f64 * kv.share) as u64;
        let taken = weights.0 + OVERHEAD.0;
        let free = match kv.of {
            MemoryBase::Static => share(total).saturating_sub(weights.0),
            MemoryBase::Total => share(total).saturating_sub(taken),
            MemoryBase::Free => share(total.saturating_sub(taken)),
        };
        let kv_tokens = free / per_token.0.max(1);
        if kv_tokens < u64::from(engine.kv_block_tokens.value) {
            let room = match kv.of {
                MemoryBase::Static => share(total),
                MemoryBase::Total => share(total).saturating_sub(OVERHEAD.0),
                MemoryBase::Free => total.saturating_sub(OVERHEAD.0),
            };
            let block = per_token.0 * u64::from(engine.kv_block_tokens.value);
            let room = room.saturating_sub(block);
            let missing = Bytes(weights.0.saturating_sub(room).max(1));
            let found = format!("{weights} of weights on every GPU");
            let expected = format!(
                "at most {} beside a cache in the {} of {}; {missing} are missing: more GPUs a \
                 replica, or larger ones",
                Bytes(room),
                device.memory.value,
                device.name
            );
            return Err(Error::scenario("memory", found, expected));
        }
        Ok(Self {
            weights,
            kv_bytes_per_token: per_token,
            kv_tokens_per_request: per_request,
            kv_tokens,
        })
    }
}

fn share_of(model: &ModelShape, layout: &Layout) -> Result<ModelShape> {
    model.sharded(layout.tensor).map_err(|error| {
        Error::scenario("layout", error.to_string(), "ranks that divide the heads".to_owned())
    })
}

/// Everything but routed experts, on one GPU.
///
/// # Errors
/// None on one GPU: heads are divided by nothing.
pub fn weights_beside_experts(model: &ModelShape) -> Result<Bytes> {
    weights(model, &Layout::ONE, 0)
}

/// Weights of one GPU; stages are alike.
fn weights(model: &ModelShape, layout: &Layout, slots: u16) -> Result<Bytes> {
    let share = share_of(model, layout)?;
    let (layers, moe) = (u64::from(model.hidden_layers), u64::from(model.distinct_moe_layers()));
    let hidden = u64::from(model.hidden);
    let of_dense = |params: u64| model.dense_type.bytes_of(params).0;
    let attention = of_dense(share.attention_params()) * layers;
    let dense = of_dense(3 * hidden * u64::from(share.dense_inter)) * (layers - moe);
    let shared = of_dense(3 * hidden * u64::from(share.shared_inter)) * moe;
    let width = u64::from(model.expert_inter.div_ceil(u32::from(layout.expert_tensor)));
    let expert = model.expert_type.bytes_of(3 * hidden * width).0;
    let gate = 2 * hidden * u64::from(model.experts) * moe;
    let head = 2 * 2 * hidden * u64::from(share.vocab);
    let experts = expert * u64::from(slots) * moe;
    let body = attention + dense + shared + experts + gate;
    Ok(Bytes(body.div_ceil(u64::from(layout.pipeline)) + head))
}

/// Cache bytes of a token on one GPU, and what a request adds for its windows, in tokens.
fn cache(model: &ModelShape, layout: &Layout) -> Result<(Bytes, u32)> {
    let share = share_of(model, layout)?;
    let layers = model.hidden_layers.div_ceil(layout.pipeline);
    let (windowed, window) = match model.attention {
        Attention::Gqa { window: Some(window), windowed_layers, .. } => {
            (windowed_layers.div_ceil(layout.pipeline).min(layers), window)
        }
        _ => (0, 0),
    };
    // Where every layer has a window the cache is bounded by it; one layer counts as whole.
    let whole = (layers - windowed).max(1);
    let per_token = share.kv_bytes_per_token() * u64::from(whole);
    let extra = u64::from(window) * u64::from(windowed) / u64::from(whole);
    Ok((per_token, u32::try_from(extra).unwrap_or(u32::MAX)))
}

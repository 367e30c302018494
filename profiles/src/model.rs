//! The shape of a Mixture-of-Experts model: the only place that knows dense layers and absolute
//! layer numbers. Everything else counts MoE layers by [`MoeLayer`].

use serde::{Deserialize, Serialize};

use crate::ids::MoeLayer;
use crate::units::Bytes;
use crate::{Error, Result};

mod config;
mod validate;

pub use config::read_config;

/// How weights or activations are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// 16-bit brain float.
    Bf16,
    /// 8-bit float, with one 32-bit scale per 128 values where a block scale is used.
    Fp8,
    /// 4-bit microscaling float: 4 bits a value and one 8-bit scale per 32 values.
    Mxfp4,
    /// 4-bit integers, with one 16-bit scale per 32 values.
    Int4,
}

impl DataType {
    /// Bytes of `values` values including their scales, rounded up.
    #[must_use]
    pub fn bytes_of(self, values: u64) -> Bytes {
        Bytes(match self {
            Self::Bf16 => values * 2,
            Self::Fp8 => values + values.div_ceil(128) * 4,
            Self::Mxfp4 => values.div_ceil(2) + values.div_ceil(32),
            Self::Int4 => values.div_ceil(2) + values.div_ceil(32) * 2,
        })
    }
}

/// The attention of every layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Attention {
    /// Grouped-query attention (multi-head when `kv_heads == heads`).
    Gqa {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Values per head.
        head_dim: u32,
        /// Sliding window in tokens of the layers that have one.
        window: Option<u32>,
        /// How many of the hidden layers have the window.
        windowed_layers: u16,
    },
    /// Multi-head latent attention (DeepSeek-V2 and later).
    Mla {
        /// Query heads.
        heads: u32,
        /// Rank of the compressed query; 0 where queries are not compressed.
        q_lora_rank: u32,
        /// Rank of the compressed keys and values: what the cache holds.
        kv_lora_rank: u32,
        /// Values per head without rotary embedding.
        nope_head_dim: u32,
        /// Values per head with rotary embedding.
        rope_head_dim: u32,
        /// Values per head of the attention output.
        v_head_dim: u32,
    },
}

/// The shape of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// The name of the preset, or the file stem of the configuration.
    pub name: String,
    /// Where these figures come from.
    pub source: String,
    /// All transformer layers, dense ones included; multi-token-prediction layers excluded.
    pub hidden_layers: u16,
    /// Absolute numbers of the layers that have routed experts, ascending. A layer whose router
    /// sends tokens through its experts several times in a row (Chain-of-Experts) stands as often:
    /// every occurrence is one routing, of the same weights.
    pub moe_layers: Vec<u16>,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Routed experts per MoE layer.
    pub experts: u16,
    /// Experts that the router knows beside these and that compute nothing, numbered behind them:
    /// zero, copy and constant experts (MoE++, arXiv 2410.07348), null experts (AdaMoE, arXiv
    /// 2406.13233). They take no slot, and what chooses them travels nowhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zero_experts: u16,
    /// Experts chosen per token, those that compute nothing among them.
    pub top_k: u16,
    /// Intermediate width of one routed expert.
    pub expert_inter: u32,
    /// Intermediate width of all shared experts together; 0 where there are none.
    pub shared_inter: u32,
    /// Intermediate width of the dense layers; 0 where there are none.
    pub dense_inter: u32,
    /// Groups of experts that the router limits its choice to; 1 where it does not.
    pub expert_groups: u16,
    /// Attention of every layer.
    pub attention: Attention,
    /// Entries of the vocabulary.
    pub vocab: u32,
    /// How the routed experts' weights are stored.
    pub expert_type: DataType,
    /// How all other weights are stored.
    pub dense_type: DataType,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(count: &u16) -> bool {
    *count == 0
}

impl ModelShape {
    /// Layers with routed experts, each counted once however often its experts are chained.
    #[must_use]
    pub fn distinct_moe_layers(&self) -> u16 {
        let repeated = self.moe_layers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        u16::try_from(self.moe_layers.len() - repeated).expect("layer numbers are u16")
    }

    /// Whether `layer` is the first occurrence of its absolute layer: what belongs to the layer and
    /// not to a routing (attention, shared experts) runs with it.
    #[must_use]
    pub fn opens_layer(&self, layer: MoeLayer) -> bool {
        let at = layer.index();
        at == 0 || self.moe_layers.get(at) != self.moe_layers.get(at - 1)
    }

    /// One rank's share under tensor parallelism of `ranks`: heads, dense and shared experts'
    /// widths and vocabulary divided (key and value heads are copied where there are fewer than
    /// ranks); routed experts as they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] when heads do not divide.
    pub fn sharded(&self, ranks: u16) -> Result<Self> {
        let ranks = u32::from(ranks.max(1));
        let mut share = self.clone();
        let (heads, all) = match &mut share.attention {
            Attention::Gqa { heads, kv_heads, .. } => {
                *kv_heads = kv_heads.div_ceil(ranks);
                let all = *heads;
                (heads, all)
            }
            Attention::Mla { heads, .. } => {
                let all = *heads;
                (heads, all)
            }
        };
        if !all.is_multiple_of(ranks) {
            return Err(Error::Invalid {
                path: self.name.clone(),
                key: "heads".to_owned(),
                found: format!("{all} heads on {ranks} tensor-parallel ranks"),
                expected: "ranks that divide the heads".to_owned(),
            });
        }
        *heads = all / ranks;
        share.dense_inter = self.dense_inter.div_ceil(ranks);
        share.shared_inter = self.shared_inter.div_ceil(ranks);
        share.vocab = self.vocab.div_ceil(ranks);
        Ok(share)
    }

    /// The absolute layer number of `layer`.
    #[must_use]
    pub fn absolute(&self, layer: MoeLayer) -> Option<u16> {
        self.moe_layers.get(layer.index()).copied()
    }

    /// The ordinal among MoE layers of absolute layer `number`, of its first occurrence; `None` for
    /// dense layers.
    #[must_use]
    pub fn ordinal(&self, number: u16) -> Option<MoeLayer> {
        let position = self.moe_layers.partition_point(|layer| *layer < number);
        self.moe_layers.get(position).filter(|layer| **layer == number)?;
        Some(MoeLayer(u16::try_from(position).expect("layer numbers are u16")))
    }

    /// Weight bytes of one routed expert: gate, up and down projections with their scales.
    #[must_use]
    pub fn expert_bytes(&self) -> Bytes {
        self.expert_type.bytes_of(3 * u64::from(self.hidden) * u64::from(self.expert_inter))
    }

    /// Rows and columns `[n x k]` of the attention projections of one layer, as engines multiply
    /// by them: those of the same input are one matrix.
    pub fn attention_matrices(&self) -> impl Iterator<Item = (u32, u32)> {
        let hidden = self.hidden;
        let (count, matrices) = match self.attention {
            Attention::Gqa { heads, kv_heads, head_dim, .. } => {
                let qkv = ((heads + 2 * kv_heads) * head_dim, hidden);
                (2, [qkv, (hidden, heads * head_dim), (0, 0), (0, 0)])
            }
            Attention::Mla {
                heads,
                q_lora_rank,
                kv_lora_rank,
                nope_head_dim,
                rope_head_dim,
                v_head_dim,
            } => {
                let query = heads * (nope_head_dim + rope_head_dim);
                let matrices = [
                    (q_lora_rank + kv_lora_rank + rope_head_dim, hidden),
                    (query, if q_lora_rank > 0 { q_lora_rank } else { hidden }),
                    // The absorbed key and value matrices, as one product of the same bytes.
                    (heads * (nope_head_dim + v_head_dim), kv_lora_rank),
                    (hidden, heads * v_head_dim),
                ];
                (4, matrices)
            }
        };
        matrices.into_iter().take(count)
    }

    /// Parameters of the attention projections of one layer.
    #[must_use]
    pub fn attention_params(&self) -> u64 {
        self.attention_matrices().map(|(n, k)| u64::from(n) * u64::from(k)).sum()
    }

    /// Cache bytes of one token in one layer, keys and values in 16 bits.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> Bytes {
        Bytes(match self.attention {
            Attention::Gqa { kv_heads, head_dim, .. } => {
                2 * 2 * u64::from(kv_heads) * u64::from(head_dim)
            }
            Attention::Mla { kv_lora_rank, rope_head_dim, .. } => {
                2 * (u64::from(kv_lora_rank) + u64::from(rope_head_dim))
            }
        })
    }
}

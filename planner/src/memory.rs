//! A plan for experts that do not all fit a GPU: which ones stay, how many slots cache the others,
//! in how many bits they are stored, who computes what is missing. `memory.json`.
//!
//! Beside it stand what makes one: [`slots`], [`pinned`] and [`bits`], and [`export`], the files
//! that engines load.

use moecast_profiles::ids::ExpertId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::export::node::one_line;
use crate::plan::{finite, finite_or_none, shape_text};

pub mod bits;
mod check;
pub mod export;
pub mod pinned;
mod read;
pub mod slots;
#[cfg(test)]
pub(crate) mod tests;
mod write;

/// Version of `memory.json` that this build reads and writes.
pub const VERSION: u32 = 1;

/// Widest representation of a weight, in bits.
pub const BITS_MAX: u8 = 16;

/// Most experts of all layers together: far above any model, far below what fills a memory.
pub const CELLS_MAX: usize = 1 << 22;

/// Bytes in `width` bits a weight of what takes `stored` bytes in `of` bits, rounded up; scales are
/// thought to shrink with the weights. Of 0 bits it stays what it is.
#[must_use]
pub fn scaled_bytes(stored: u64, width: u8, of: u8) -> u64 {
    if of == 0 {
        return stored;
    }
    let scaled = (u128::from(stored) * u128::from(width)).div_ceil(u128::from(of));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Cache slots beside the pinned experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Slots {
    /// `[M]` slots of each layer, used by that layer alone.
    PerLayer(Vec<u32>),
    /// Slots that experts of all layers compete for.
    Global(u32),
}

/// Who loads experts before they are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefetcher {
    /// Its name; "none" where nobody does.
    pub name: String,
    /// How many layers ahead it looks.
    pub depth: u16,
    /// Share of its guesses that are right, 0 to 1, where it was given and not measured.
    #[serde(serialize_with = "finite_or_none")]
    pub accuracy: Option<f64>,
}

/// What was simulated, on one part of the recording. A figure that nobody asked for is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Generated tokens a second.
    #[serde(serialize_with = "finite_or_none")]
    pub tokens_per_second: Option<f64>,
    /// Look-ups that found their expert in GPU memory, 0 to 1.
    #[serde(serialize_with = "finite_or_none")]
    pub hit_rate: Option<f64>,
    /// Bytes of experts over the link, per generated token.
    #[serde(serialize_with = "finite_or_none")]
    pub link_bytes_per_token: Option<f64>,
    /// Time to the first token, milliseconds.
    #[serde(serialize_with = "finite_or_none")]
    pub ttft_ms: Option<f64>,
    /// Share of the time that the GPU waited for experts, 0 to 1.
    #[serde(serialize_with = "finite_or_none")]
    pub stall_share: Option<f64>,
}

impl Figures {
    fn named(&self) -> [(&'static str, Option<f64>); 5] {
        let Self { tokens_per_second, hit_rate, link_bytes_per_token, ttft_ms, stall_share } =
            *self;
        [
            ("tokens_per_second", tokens_per_second),
            ("hit_rate", hit_rate),
            ("link_bytes_per_token", link_bytes_per_token),
            ("ttft_ms", ttft_ms),
            ("stall_share", stall_share),
        ]
    }
}

/// What a memory plan is predicted to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// On the requests that the planner saw; no evidence.
    pub train: Figures,
    /// On those that it did not see; absent when everything was planned on.
    pub heldout: Option<Figures>,
}

/// Where a memory plan comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of moecast.
    pub tool: String,
    /// How it was searched for.
    pub search: String,
    /// Precision policy; empty where experts stay as stored.
    pub precision: String,
    /// Seed.
    pub seed: u64,
    /// SHA-256 of the trace planned on, hexadecimal.
    pub trace_sha256: String,
    /// True when that trace was generated, not recorded.
    pub synthetic: bool,
    /// Share of the recording that was kept from the planner.
    #[serde(serialize_with = "finite")]
    pub heldout: f64,
    /// Machine as typed; empty when none was named.
    pub machine: String,
    /// What a reader should know: assumptions, what was rounded.
    pub remarks: Vec<String>,
}

/// A memory plan of `M` MoE layers with `E` experts each.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the model; empty when the trace named none.
    pub model: String,
    /// `[M]` absolute layer number of every MoE layer, ascending, each once: a layer that chains
    /// its experts holds one set of weights.
    pub layers: Vec<u16>,
    /// All transformer layers of the model; `None` when no model was named.
    pub hidden_layers: Option<u16>,
    /// `E`, experts per layer.
    pub experts: u16,
    /// Experts chosen per token.
    pub top_k: u16,
    /// `[M][..]` experts that never leave GPU memory, ascending.
    pub pinned: Vec<Vec<ExpertId>>,
    /// Slots that cache the others.
    pub slots: Slots,
    /// Cache policy of the slots.
    pub policy: String,
    /// Who fills slots ahead of time.
    pub prefetcher: Prefetcher,
    /// Who computes an expert that is missing: "gpu" after a load, "cpu" in place, "hybrid", ...
    pub compute: String,
    /// `[M][E]` bits of a weight of every expert; empty where experts stay as stored.
    pub bits: Vec<Vec<u8>>,
    /// Bits of a weight that `expert_bytes` are bytes of; needed where there are `bits`.
    pub stored_bits: Option<u8>,
    /// `[M]` bytes of one expert as stored, scales included.
    pub expert_bytes: Vec<u64>,
    /// Bytes of GPU memory for experts.
    pub budget: u64,
    /// Memory of one GPU, bytes, where it is known.
    pub gpu_bytes: Option<u64>,
    /// Bytes in it of weights that are no experts, where they are known.
    pub other_bytes: Option<u64>,
    /// `[M][E]` how often the planner saw every expert picked, for engines that are told it or are
    /// coarser than the plan; empty where nobody counted.
    pub loads: Vec<Vec<u64>>,
    /// What the plan is predicted to do.
    pub predicted: Predicted,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl MemoryPlan {
    /// Reads `memory.json`. `path` is named in errors; the version is looked at first.
    ///
    /// # Errors
    /// When the text is no memory plan, of another version, or breaks a law of [`Self::check`].
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        read::plan(text, path)
    }

    /// `memory.json`: keys in the order of the fields, one line per layer.
    ///
    /// # Panics
    /// When a figure is not finite, which [`Self::check`] refuses: JSON has no such number.
    #[must_use]
    pub fn to_json(&self) -> String {
        write::plan(self)
    }

    /// Bytes of `expert` of the MoE layer `layer` (an ordinal) in the bits that it is given; 0 for
    /// a layer out of range.
    #[must_use]
    pub fn expert_size(&self, layer: usize, expert: ExpertId) -> u64 {
        let Some(&stored) = self.expert_bytes.get(layer) else { return 0 };
        let width = self.bits.get(layer).and_then(|row| row.get(expert.index()));
        match (width, self.stored_bits) {
            (Some(&width), Some(of)) => scaled_bytes(stored, width, of),
            _ => stored,
        }
    }

    /// Bytes of one slot of the MoE layer `layer`: the largest of its experts that is not pinned.
    #[must_use]
    pub fn slot_size(&self, layer: usize) -> u64 {
        if self.bits.is_empty() {
            let is_full = |row: &Vec<ExpertId>| row.len() >= usize::from(self.experts);
            let is_full = self.pinned.get(layer).is_some_and(is_full);
            return if is_full { 0 } else { self.expert_size(layer, ExpertId(0)) };
        }
        let pinned = self.pinned.get(layer).map_or(&[][..], Vec::as_slice);
        (0..self.experts)
            .map(ExpertId)
            .filter(|expert| pinned.binary_search(expert).is_err())
            .map(|expert| self.expert_size(layer, expert))
            .max()
            .unwrap_or(0)
    }

    /// Bytes of the pinned experts.
    #[must_use]
    pub fn pinned_bytes(&self) -> u128 {
        let rows = self.pinned.iter().enumerate();
        rows.flat_map(|(layer, row)| row.iter().map(move |expert| (layer, *expert)))
            .map(|(layer, expert)| u128::from(self.expert_size(layer, expert)))
            .sum()
    }

    /// Bytes of the slots; a global slot takes the largest expert of all layers.
    #[must_use]
    pub fn slot_bytes(&self) -> u128 {
        let sizes = (0..self.layers.len()).map(|layer| u128::from(self.slot_size(layer)));
        match &self.slots {
            Slots::PerLayer(slots) => {
                sizes.zip(slots).map(|(size, count)| size * u128::from(*count)).sum()
            }
            Slots::Global(count) => sizes.max().unwrap_or(0) * u128::from(*count),
        }
    }

    /// Checks that this plan is for a model with `experts` experts in the MoE layers `layers`
    /// (absolute numbers). `path`, where the plan comes from, is named in the error.
    ///
    /// # Errors
    /// Names both shapes when the plan is for another model.
    pub fn check_matches(&self, experts: u16, layers: &[u16], path: &str) -> Result<()> {
        if self.experts == experts && self.layers == layers {
            return Ok(());
        }
        let model = match &*self.model {
            "" => String::new(),
            model => format!(" of {}", one_line(model)),
        };
        let found = format!("a plan for {}{model}", shape_text(self.experts, &self.layers));
        let expected = format!("a plan for {}", shape_text(experts, layers));
        Err(Error::invalid(path, "the memory plan", found, expected))
    }
}

//! One timing of one kernel, and files of them.
//!
//! Everything that is known about kernels enters through [`Sample`]: imported tables, our own
//! microbenchmarks, and what a user measured. A samples file is JSON lines: a header, then one
//! object per sample with the family's own field names, so that any tool can read and write it.

mod file;

pub use file::{Provenance, Samples, read_samples, write_samples};

use crate::registry::{UnknownName, find as find_entry};

/// One timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What was timed.
    pub family: Family,
    /// Which implementation and which data types: `triton/fp8_block`, `nccl/half`.
    pub variant: String,
    /// What the kernel is built for, in the order of [`Fields::shape`].
    pub shape: Vec<u32>,
    /// How much work it got, in the order of [`Fields::at`].
    pub at: Vec<u64>,
    /// Median time, microseconds.
    pub time_us: f64,
    /// Half the distance between the quartiles over the median, where repeats were seen.
    pub spread: Option<f64>,
}

impl Sample {
    /// Work that nobody has timed: what tables are asked about.
    pub(crate) fn question(family: Family, variant: &str, shape: &[u32], at: &[u64]) -> Self {
        Self {
            family,
            variant: variant.to_owned(),
            shape: shape.to_vec(),
            at: at.to_vec(),
            time_us: 1.0,
            spread: None,
        }
    }
}

/// What can be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "FIELDS describes each")]
pub enum Family {
    AllGather,
    AllReduce,
    AllToAll,
    Combine,
    CpuExpert,
    DecodeAttention,
    DecodeMla,
    DecodeMlaModule,
    DeviceCopy,
    Dispatch,
    ExpertGemm,
    Gemm,
    HostCopy,
    Launch,
    PrefillAttention,
    PrefillMla,
    PrefillMlaModule,
    ReduceScatter,
    StorageRead,
}

/// How the samples of a family are described.
pub struct Fields {
    /// The family.
    pub family: Family,
    /// Its name in files.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Names of [`Sample::shape`].
    pub shape: &'static [&'static str],
    /// Names of [`Sample::at`].
    pub at: &'static [&'static str],
}

crate::named!(Fields);

impl Fields {
    /// Whether the field `name` may be 0: no window, balanced, as drawn, not limited. Any other
    /// counts something that a kernel needs one of.
    #[must_use]
    pub fn may_be_zero(name: &str) -> bool {
        matches!(name, "routing" | "skew_percent" | "sms" | "window")
    }
}

macro_rules! fields {
    ($family:ident, $name:literal, $shape:expr, $at:expr, $about:literal) => {
        Fields { family: Family::$family, name: $name, about: $about, shape: &$shape, at: &$at }
    };
}

const ATTENTION: [&str; 4] = ["heads", "kv_heads", "head_dim", "window"];
const EXPERTS: [&str; 8] =
    ["hidden", "inter", "topk", "experts", "tp", "ep", "matrices", "routing"];
const EXCHANGE: [&str; 6] = ["nodes", "ranks", "hidden", "topk", "experts", "sms"];

/// Every family, alphabetical, in the order of [`Family`].
pub const FIELDS: &[Fields] = &[
    fields!(AllGather, "all-gather", ["gpus"], ["bytes"], "all-gather; bytes gathered on a rank"),
    fields!(AllReduce, "all-reduce", ["gpus"], ["bytes"], "all-reduce of a buffer of bytes"),
    fields!(AllToAll, "all-to-all", ["gpus"], ["bytes"], "equal all-to-all; bytes a rank sends"),
    fields!(Combine, "combine", EXCHANGE, ["tokens"], "expert results back to tokens of a rank"),
    fields!(
        CpuExpert,
        "cpu-expert",
        ["threads", "hidden", "inter"],
        ["rows"],
        "one gated expert on the processor"
    ),
    fields!(
        DecodeAttention,
        "decode-attention",
        ATTENTION,
        ["batch", "context"],
        "one new token a request attends to its context; window 0 is none"
    ),
    fields!(
        DecodeMla,
        "decode-mla",
        ["heads"],
        ["batch", "context"],
        "latent attention in absorbed form, kernel alone"
    ),
    fields!(
        DecodeMlaModule,
        "decode-mla-module",
        ["heads"],
        ["batch", "context"],
        "latent attention with its projections"
    ),
    fields!(DeviceCopy, "device-copy", [], ["bytes"], "a copy inside device memory"),
    fields!(Dispatch, "dispatch", EXCHANGE, ["tokens"], "tokens of a rank to their experts"),
    fields!(
        ExpertGemm,
        "expert-gemm",
        EXPERTS,
        ["skew_percent", "tokens"],
        "grouped GEMMs of the most loaded rank's experts; skew 0 is balanced, else the exponent"
    ),
    fields!(Gemm, "gemm", ["n", "k"], ["m"], "dense matrix product m x k by k x n"),
    fields!(
        HostCopy,
        "host-copy",
        ["in_flight"],
        ["bytes"],
        "copies between host and device, time of one of in_flight at once"
    ),
    fields!(Launch, "launch", [], ["kernels"], "launching kernels that do nothing"),
    fields!(
        PrefillAttention,
        "prefill-attention",
        ATTENTION,
        ["batch", "tokens"],
        "prompts of tokens attend causally to themselves"
    ),
    fields!(
        PrefillMla,
        "prefill-mla",
        ["heads"],
        ["batch", "tokens"],
        "latent attention over prompts, kernel alone"
    ),
    fields!(
        PrefillMlaModule,
        "prefill-mla-module",
        ["heads"],
        ["batch", "tokens"],
        "latent attention over prompts with its projections"
    ),
    fields!(
        ReduceScatter,
        "reduce-scatter",
        ["gpus"],
        ["bytes"],
        "reduce-scatter; bytes a rank gives"
    ),
    fields!(
        StorageRead,
        "storage-read",
        ["in_flight"],
        ["bytes"],
        "reads past the page cache, time of one of in_flight at once"
    ),
];

impl Family {
    /// How its samples are described.
    #[must_use]
    pub fn fields(self) -> &'static Fields {
        &FIELDS[self as usize]
    }

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.fields().name
    }

    /// Finds a family by name.
    ///
    /// # Errors
    /// [`UnknownName`] lists the valid names.
    pub fn find(name: &str) -> Result<Self, UnknownName> {
        find_entry("kernel family", FIELDS, name).map(|fields| fields.family)
    }
}

/// How the tokens of an expert GEMM benchmark were routed ([`Sample::shape`], `routing`).
///
/// Engines that benchmark through their own router do not run the loads that the benchmark drew.
pub mod routing {
    /// As drawn.
    pub const PLAIN: u32 = 0;
    /// Group-limited: 8 groups, 4 kept (DeepSeek-V3's router saw one-hot logits).
    pub const GROUPED: u32 = 1;
    /// Picks of other ranks' experts all ran on local expert 0 (SGLang 0.5.10 with EP).
    pub const CLAMPED: u32 = 2;
    /// Tokens were dealt out evenly and counted over all ranks (DeepEP benchmarks).
    pub const EVEN: u32 = 3;
    /// [`skewed_picks`](crate::measure::skewed_picks), their busiest rank: our own benchmark.
    pub const MEASURE: u32 = 4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_listed_in_their_order_and_by_name() {
        for (index, fields) in FIELDS.iter().enumerate() {
            assert_eq!(fields.family as usize, index, "{}", fields.name);
            assert_eq!(Family::find(fields.name).unwrap(), fields.family);
        }
        assert!(FIELDS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}

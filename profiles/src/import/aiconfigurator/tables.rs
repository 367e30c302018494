//! What each table means: its columns, and the samples that they make.

use super::columns::{Table, Texts};
use super::comm;
use super::version::Version;
use crate::Result;
use crate::import::check::{Row, invalid};
use crate::sample::{Family, Sample, routing};

/// Microseconds in a millisecond.
pub(super) const MS: f64 = 1e3;

/// Where a table stands that is being read.
pub(super) struct Context<'a> {
    pub(super) engine: &'a str,
    /// The version of the table's folder, not the one that was asked for.
    pub(super) version: &'a Version,
    pub(super) gpus_per_node: u64,
}

/// A table and its reader.
pub(super) struct Spec {
    pub(super) family: &'static str,
    pub(super) table: &'static str,
    /// The folder of the backend; the engine's where none.
    pub(super) backend: Option<&'static str>,
    pub(super) read: fn(&Table, &Context) -> Result<Vec<Row>>,
}

macro_rules! spec {
    ($family:literal, $table:literal, $read:expr) => {
        Spec { family: $family, table: $table, backend: None, read: $read }
    };
}

/// Every table that is read.
pub(super) const SPECS: &[Spec] = &[
    spec!("attention", "context_attention_perf", |table, _| attention(table, false)),
    spec!("attention", "generation_attention_perf", |table, _| attention(table, true)),
    Spec { family: "comm", table: "nccl_perf", backend: Some("nccl"), read: comm::nccl },
    spec!("comm", "custom_allreduce_perf", comm::custom_all_reduce),
    spec!("comm", "moe_a2a_perf", comm::exchange),
    spec!("comm", "wideep_deepep_ll_perf", comm::deepep_low_latency),
    spec!("comm", "wideep_deepep_normal_perf", comm::deepep_normal),
    spec!("gemm", "gemm_perf", gemm),
    spec!("mla", "context_mla_perf", |table, _| mla(table, Mla::Prefill, "")),
    spec!("mla", "generation_mla_perf", |table, _| mla(table, Mla::Decode, "")),
    spec!("mla", "mla_context_module_perf", |table, _| mla(table, Mla::PrefillModule, "")),
    spec!("mla", "mla_generation_module_perf", |table, _| mla(table, Mla::DecodeModule, "")),
    spec!("mla", "wideep_context_mla_perf", |table, _| mla(table, Mla::PrefillModule, "wideep-")),
    spec!("mla", "wideep_generation_mla_perf", |table, _| mla(table, Mla::WideDecode, "wideep-")),
    spec!("moe", "moe_perf", experts),
    spec!("moe", "wideep_context_moe_perf", |table, _| wide_experts(table, "prefill")),
    spec!("moe", "wideep_generation_moe_perf", |table, _| wide_experts(table, "decode")),
];

/// Rows from columns: `shape` and `at` hold one column for each name of the family.
pub(super) fn rows(
    table: &Table,
    family: Family,
    variants: &Texts,
    shape: &[Vec<u64>],
    at: &[Vec<u64>],
    times_us: &[f64],
) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(table.rows);
    for row in 0..table.rows {
        let narrow = |(column, name): (&Vec<u64>, &&str)| {
            u32::try_from(column[row]).map_err(|_| {
                let key = format!("row {}, {name}", row + 1);
                invalid(&table.path, key, column[row].to_string(), "less than 2^32")
            })
        };
        let sample = Sample {
            family,
            variant: variants.get(row).to_owned(),
            shape: shape.iter().zip(family.fields().shape).map(narrow).collect::<Result<_>>()?,
            at: at.iter().map(|column| column[row]).collect(),
            time_us: times_us[row],
            spread: None,
        };
        rows.push(Row { row: row + 1, sample });
    }
    Ok(rows)
}

/// The kernel and the data types in columns `types`, parted by slashes.
fn variants(table: &Table, types: &[&str]) -> Result<Texts> {
    let mut variants = table.texts("kernel_source")?;
    for name in types {
        variants = variants.join(&table.texts(name)?);
    }
    Ok(variants)
}

fn gemm(table: &Table, _: &Context) -> Result<Vec<Row>> {
    let shape = [table.counts("n")?, table.counts("k")?];
    let variants = variants(table, &["gemm_dtype"])?;
    let times = table.times("latency", MS)?;
    rows(table, Family::Gemm, &variants, &shape, &[table.counts("m")?], &times)
}

fn attention(table: &Table, decode: bool) -> Result<Vec<Row>> {
    // Tables of A100s were made before windows were asked about.
    let window = match table.has("window_size") {
        true => table.counts("window_size")?,
        false => vec![0; table.rows],
    };
    let shape = [
        table.counts("num_heads")?,
        table.counts("num_key_value_heads")?,
        table.counts("head_dim")?,
        window,
    ];
    let variants = variants(table, &["attn_dtype", "kv_cache_dtype"])?;
    let (family, last) = match decode {
        true => (Family::DecodeAttention, context(table.counts("step")?)),
        false => (Family::PrefillAttention, table.counts("isl")?),
    };
    let times = table.times("latency", MS)?;
    rows(table, family, &variants, &shape, &[table.counts("batch_size")?, last], &times)
}

/// The new token attends to the tokens before it and to itself.
fn context(steps: Vec<u64>) -> Vec<u64> {
    steps.into_iter().map(|step| step.saturating_add(1)).collect()
}

#[derive(Clone, Copy)]
enum Mla {
    Prefill,
    Decode,
    PrefillModule,
    DecodeModule,
    /// Its context stands in the column of prompts, with a step of 0.
    WideDecode,
}

fn mla(table: &Table, kind: Mla, prefix: &str) -> Result<Vec<Row>> {
    let (family, last) = match kind {
        Mla::Prefill => (Family::PrefillMla, table.counts("isl")?),
        Mla::Decode => (Family::DecodeMla, context(table.counts("step")?)),
        Mla::PrefillModule => (Family::PrefillMlaModule, table.counts("isl")?),
        Mla::DecodeModule => (Family::DecodeMlaModule, table.counts("step")?),
        Mla::WideDecode => (Family::DecodeMlaModule, table.counts("isl")?),
    };
    let is_module = !matches!(kind, Mla::Prefill | Mla::Decode);
    let mut variants = variants(table, &["mla_dtype", "kv_cache_dtype"])?;
    if is_module && (prefix.is_empty() || table.has("gemm_type")) {
        variants = variants.join(&table.texts("gemm_type")?);
    } else if is_module {
        // SGLang 0.5.6 does not say the type of the projections, which were as the attention's.
        let types = table.texts("mla_dtype")?;
        variants = variants.join(&types);
    }
    let variants = variants.map(|variant| format!("{prefix}{variant}"));
    let times = table.times("latency", MS)?;
    // Heads are those of one rank already, whatever tp_size says.
    let shape = [table.counts("num_heads")?];
    rows(table, family, &variants, &shape, &[table.counts("batch_size")?, last], &times)
}

/// Shapes (hidden, inter) whose experts have two matrices: Nemotron's.
const TWO_MATRICES: [(u64, u64); 4] = [(1024, 2688), (2048, 5120), (2688, 1856), (8192, 5120)];

/// Hidden, inter, topk and experts of DeepSeek-V3, whose router picks groups first.
const GROUPED: [u64; 4] = [7168, 2048, 8, 256];

/// Columns that expert tables share, in the order of the family's shape.
const EXPERTS: [&str; 6] =
    ["hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"];

fn experts(table: &Table, context: &Context) -> Result<Vec<Row>> {
    let mut shape = EXPERTS.iter().map(|name| table.counts(name)).collect::<Result<Vec<_>>>()?;
    let sources = table.texts("kernel_source")?;
    let two = sources.values(|source| source.contains("nongated"));
    let triton = sources.values(|source| source.contains("triton"));
    let old_sglang = context.engine == "sglang" && !context.version.at_least("0.5.11");
    let grouped = match context.engine {
        "sglang" => !old_sglang,
        "vllm" => context.version.at_least("0.20"),
        _ => false,
    };
    let mut matrices = Vec::with_capacity(table.rows);
    let mut routings = Vec::with_capacity(table.rows);
    for row in 0..table.rows {
        let [hidden, inter, topk, experts, _, ep] = [0, 1, 2, 3, 4, 5].map(|at| shape[at][row]);
        matrices.push(if two[row] || TWO_MATRICES.contains(&(hidden, inter)) { 2 } else { 3 });
        routings.push(u64::from(if grouped && [hidden, inter, topk, experts] == GROUPED {
            routing::GROUPED
        } else if old_sglang && triton[row] && ep > 1 {
            routing::CLAMPED
        } else {
            routing::PLAIN
        }));
    }
    shape.extend([matrices, routings]);
    let variants = sources.join(&table.texts("moe_dtype")?);
    expert_rows(table, &variants, &shape)
}

fn wide_experts(table: &Table, phase: &str) -> Result<Vec<Row>> {
    let mut shape = EXPERTS.iter().map(|name| table.counts(name)).collect::<Result<Vec<_>>>()?;
    shape.push(vec![3; table.rows]);
    shape.push(vec![u64::from(routing::EVEN); table.rows]);
    let sources = table.texts("kernel_source")?.map(|source| format!("{source}-{phase}"));
    expert_rows(table, &sources.join(&table.texts("moe_dtype")?), &shape)
}

fn expert_rows(table: &Table, variants: &Texts, shape: &[Vec<u64>]) -> Result<Vec<Row>> {
    let distributions = table.texts("distribution")?;
    let skews = distributions.values(skew_percent);
    if let Some(row) = skews.iter().position(Option::is_none) {
        let key = format!("row {}, distribution", row + 1);
        let expected = "balanced, uniform or power_law_ALPHA";
        return Err(invalid(&table.path, key, distributions.get(row), expected));
    }
    let at = [skews.into_iter().flatten().collect(), table.counts("num_tokens")?];
    let times = table.times("latency", MS)?;
    rows(table, Family::ExpertGemm, variants, shape, &at, &times)
}

/// 100 times the exponent of a power law, 0 for even loads.
fn skew_percent(distribution: &str) -> Option<u64> {
    if matches!(distribution, "balanced" | "uniform") {
        return Some(0);
    }
    let alpha: f64 = distribution.strip_prefix("power_law_")?.parse().ok()?;
    (0.0..100.0).contains(&alpha).then(|| (alpha * 100.0).round() as u64)
}

//! Tables of communication.

use super::columns::{Table, Texts};
use super::tables::{Context, MS, rows};
use crate::Result;
use crate::import::check::{Row, invalid};
use crate::sample::Family;

/// Bytes of messages: the column counts elements of the type in `types`.
fn bytes(table: &Table, types: &Texts, column: &str) -> Result<Vec<u64>> {
    let widths = types.values(|name| match name {
        "int8" | "uint8" | "fp8" => Some(1),
        "half" | "float16" | "bfloat16" => Some(2),
        "float" | "float32" => Some(4),
        _ => None,
    });
    let elements = table.counts("message_size")?;
    let mut all = Vec::with_capacity(elements.len());
    for (row, (count, width)) in elements.into_iter().zip(widths).enumerate() {
        let bytes = width.and_then(|width| u64::checked_mul(count, width));
        all.push(bytes.ok_or_else(|| {
            let found = format!("{count} elements of {}", types.get(row));
            let expected = "int8, half, bfloat16 or float";
            invalid(&table.path, format!("row {}, {column}", row + 1), found, expected)
        })?);
    }
    Ok(all)
}

/// NCCL's collectives; `message_size` is what nccl-tests calls count.
pub(super) fn nccl(table: &Table, _: &Context) -> Result<Vec<Row>> {
    let types = table.texts("nccl_dtype")?;
    let bytes = bytes(table, &types, "nccl_dtype")?;
    let variants = types.map(|name| format!("nccl/{name}"));
    let shape = [table.counts("num_gpus")?];
    let times = table.times("latency", MS)?;
    let operations = table.texts("op_name")?;
    let families = operations.values(|operation| match operation {
        "all_gather" => Some(Family::AllGather),
        "all_reduce" => Some(Family::AllReduce),
        "alltoall" => Some(Family::AllToAll),
        "reduce_scatter" => Some(Family::ReduceScatter),
        _ => None,
    });
    let mut all = rows(table, Family::AllReduce, &variants, &shape, &[bytes], &times)?;
    for (index, (row, family)) in all.iter_mut().zip(families).enumerate() {
        row.sample.family = family.ok_or_else(|| {
            let expected = "all_gather, all_reduce, alltoall or reduce_scatter";
            let key = format!("row {}, op_name", index + 1);
            invalid(&table.path, key, operations.get(index), expected)
        })?;
    }
    Ok(all)
}

/// The engines' own all-reduce, in a CUDA graph or launched one by one.
pub(super) fn custom_all_reduce(table: &Table, _: &Context) -> Result<Vec<Row>> {
    let types = table.texts("allreduce_dtype")?;
    let bytes = bytes(table, &types, "allreduce_dtype")?;
    let kinds = table.texts("kernel_source")?.map(|source| {
        let kind = ["graph", "eager"].into_iter().find(|kind| source.ends_with(*kind));
        kind.map_or_else(|| "custom".to_owned(), |kind| format!("custom-{kind}"))
    });
    let shape = [table.counts("num_gpus")?];
    let times = table.times("latency", MS)?;
    rows(table, Family::AllReduce, &kinds.join(&types), &shape, &[bytes], &times)
}

/// The shape of exchanges from columns of these names; ranks and multiprocessors apart.
fn exchange_shape(
    table: &Table,
    ranks: Vec<u64>,
    topk: &str,
    sms: Vec<u64>,
) -> Result<Vec<Vec<u64>>> {
    let nodes = table.counts("node_num")?;
    let hidden = table.counts("hidden_size")?;
    Ok(vec![nodes, ranks, hidden, table.counts(topk)?, table.counts("num_experts")?, sms])
}

/// Ranks of DeepEP's own benchmarks, which use whole nodes.
fn whole_nodes(table: &Table, context: &Context) -> Result<Vec<u64>> {
    let nodes = table.counts("node_num")?;
    Ok(nodes.into_iter().map(|nodes| nodes.saturating_mul(context.gpus_per_node)).collect())
}

/// The same name in each row.
fn named(table: &Table, name: &str) -> Result<Texts> {
    Ok(table.texts("kernel_source")?.map(|_| name.to_owned()))
}

/// DeepEP's low-latency kernels, microseconds.
pub(super) fn deepep_low_latency(table: &Table, context: &Context) -> Result<Vec<Row>> {
    let variants = named(table, "deepep-low-latency")?;
    let ranks = whole_nodes(table, context)?;
    let shape = exchange_shape(table, ranks, "num_topk", vec![0; table.rows])?;
    let tokens = [table.counts("num_token")?];
    let mut all = Vec::new();
    for (family, column) in
        [(Family::Dispatch, "dispatch_avg_t_us"), (Family::Combine, "combine_avg_t_us")]
    {
        let times = table.times(column, 1.0)?;
        all.extend(rows(table, family, &variants, &shape, &tokens, &times)?);
    }
    Ok(all)
}

/// DeepEP's normal kernels, microseconds: what is sent, after telling how much will be.
pub(super) fn deepep_normal(table: &Table, context: &Context) -> Result<Vec<Row>> {
    let variants = named(table, "deepep-normal")?;
    let ranks = whole_nodes(table, context)?;
    let tokens = [table.counts("num_token")?];
    let mut all = Vec::new();
    for (family, phase) in [(Family::Dispatch, "dispatch"), (Family::Combine, "combine")] {
        let sms = table.counts(&format!("{phase}_sms"))?;
        let shape = exchange_shape(table, ranks.clone(), "num_topk", sms)?;
        let sent = table.times(&format!("{phase}_transmit_us"), 1.0)?;
        let told = table.times(&format!("{phase}_notify_us"), 1.0)?;
        let times: Vec<f64> = sent.iter().zip(&told).map(|(sent, told)| sent + told).collect();
        all.extend(rows(table, family, &variants, &shape, &tokens, &times)?);
    }
    Ok(all)
}

/// Dispatch and combine as engines call them, microseconds.
pub(super) fn exchange(table: &Table, _: &Context) -> Result<Vec<Row>> {
    let variants = table.texts("comm_backend")?.join(&table.texts("comm_dtype")?);
    let sms = table.counts("sms")?;
    let shape = exchange_shape(table, table.counts("ep_size")?, "topk", sms)?;
    let tokens = [table.counts("num_tokens")?];
    let times = table.times("latency", 1.0)?;
    let phases = table.texts("phase")?;
    let mut all = rows(table, Family::Combine, &variants, &shape, &tokens, &times)?;
    for (index, row) in all.iter_mut().enumerate() {
        row.sample.family = match phases.get(index) {
            "combine" => Family::Combine,
            "dispatch" => Family::Dispatch,
            other => {
                let key = format!("row {}, phase", index + 1);
                return Err(invalid(&table.path, key, other, "dispatch or combine"));
            }
        };
    }
    Ok(all)
}

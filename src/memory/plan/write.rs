//! `memory.json` of the best plan.

use anyhow::{Context, Result};
use moecast_planner::MemoryPlan;
use moecast_planner::memory::{Figures, Predicted, Prefetcher, Provenance, Slots, VERSION};
use moecast_profiles::ids::ExpertId;
use moecast_sim::offload::Sharing;

use super::answer::{Answer, Row, gib};
use super::base::Base;

/// The plan of `row`.
pub(super) fn plan(base: &Base, answer: &Answer, row: &Row) -> Result<MemoryPlan> {
    let built = row.candidate.build(base, &base.judge, row.capacity, base.judge.requests)?;
    let (shape, cache) = (&built.setup.shape, &built.setup.cache);
    let experts = base.model.experts;
    let of_layer = |layer: usize| shape.bytes[layer * shape.experts];
    let expert_bytes: Vec<u64> = (0..shape.layers).map(of_layer).collect();
    let mut pinned = vec![Vec::new(); shape.layers];
    for &(layer, expert) in &cache.pinned {
        pinned[layer].push(ExpertId(expert));
    }
    pinned.iter_mut().for_each(|row| row.sort_unstable());
    let free = |layer: usize| usize::from(experts) - pinned[layer].len();
    let beside = |layer: usize, bytes: u64| -> Result<u32> {
        let whole = bytes / expert_bytes[layer].max(1);
        let kept = whole.saturating_sub(pinned[layer].len() as u64);
        Ok(u32::try_from(kept.min(free(layer) as u64))?)
    };
    let ranks = shape.ranks as u64;
    let slots = match &cache.sharing {
        Sharing::Global => {
            let size = expert_bytes.iter().copied().max().unwrap_or(1).max(1);
            let kept: u64 =
                (0..shape.layers).map(|l| pinned[l].len() as u64 * expert_bytes[l]).sum();
            let most: usize = (0..shape.layers).map(free).sum();
            Slots::Global(u32::try_from(
                (row.capacity.saturating_sub(kept) / size).min(most as u64),
            )?)
        }
        Sharing::PerLayer => {
            let share = row.capacity / shape.layers as u64;
            Slots::PerLayer((0..shape.layers).map(|l| beside(l, share)).collect::<Result<_>>()?)
        }
        Sharing::Planned(slots) => {
            let bytes = |l: usize| u64::from(slots[l]) * ranks * expert_bytes[l];
            let rows = (0..shape.layers).map(|l| beside(l, bytes(l)));
            Slots::PerLayer(rows.collect::<Result<_>>()?)
        }
    };
    let plan = MemoryPlan {
        version: VERSION,
        model: base.model.name.clone(),
        layers: base.layers.clone(),
        hidden_layers: Some(base.model.hidden_layers),
        experts,
        top_k: base.top_k,
        pinned,
        slots,
        policy: row.candidate.policy().to_owned(),
        prefetcher: Prefetcher {
            name: row.candidate.prefetch.to_owned(),
            depth: match row.candidate.prefetch {
                "none" => 0,
                _ => u16::try_from(row.candidate.depth)?,
            },
            accuracy: None,
        },
        compute: row.candidate.compute.to_owned(),
        bits: Vec::new(),
        stored_bits: None,
        expert_bytes,
        budget: row.capacity,
        predicted: predicted(row),
        provenance: provenance(base, answer, row),
    };
    plan.check().context("the plan that was found")?;
    Ok(plan)
}

fn predicted(row: &Row) -> Predicted {
    let summary = &row.heldout.summary;
    Predicted {
        train: Figures { tokens_per_second: Some(row.train), ..Figures::default() },
        heldout: Some(Figures {
            tokens_per_second: Some(row.rate()),
            hit_rate: Some(summary.decode_hit_rate.unwrap_or(summary.hit_rate)),
            link_bytes_per_token: Some(summary.bytes_per_token),
            ttft_ms: Some(summary.ttft[0] * 1e3),
            stall_share: Some(row.heldout.stall),
        }),
    }
}

fn provenance(base: &Base, answer: &Answer, row: &Row) -> Provenance {
    let machine = &base.file.machine;
    let gpu = base.file.gpu.as_deref().unwrap_or("GPU with measured kernels");
    Provenance {
        tool: concat!("moecast ", env!("CARGO_PKG_VERSION")).to_owned(),
        search: format!(
            "one axis after another, {} simulations, ended by {}; pool {}, {:.0}% pinned",
            answer.simulations,
            answer.stops.last().map_or("nothing", |stop| stop.name()),
            row.candidate.pool.name(),
            row.candidate.pinned * 100.0
        ),
        precision: String::new(),
        seed: base.seed.0,
        trace_sha256: base.trace_sha256.clone(),
        synthetic: base.synthetic,
        heldout: base.heldout,
        machine: format!(
            "{} x {gpu} with {} each, copies at {}",
            machine.gpus,
            gib(row.memory),
            machine.tiers[0].bandwidth
        ),
        remarks: base.remarks.clone(),
    }
}

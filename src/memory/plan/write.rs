//! `memory.json` of the best plan.

use anyhow::{Context, Result};
use moecast_planner::MemoryPlan;
use moecast_planner::memory::{Figures, Predicted, Prefetcher, Provenance, Slots, VERSION};
use moecast_profiles::ids::ExpertId;
use moecast_sim::offload::Sharing;

use super::answer::{Answer, Row, gib};
use super::base::Base;
use crate::offload::build::Built;

/// The plan of `row`.
pub(super) fn plan(base: &Base, answer: &Answer, row: &Row) -> Result<MemoryPlan> {
    let built = row.candidate.build(base, &base.judge, row.capacity, base.judge.requests)?;
    let (shape, cache) = (&built.setup.shape, &built.setup.cache);
    let mut pinned = vec![Vec::new(); shape.layers];
    for &(layer, expert) in &cache.pinned {
        pinned[layer].push(ExpertId(expert));
    }
    pinned.iter_mut().for_each(|row| row.sort_unstable());
    let (bits, stored_bits, precision) = match base.narrowed() {
        Some((narrowing, widths)) => {
            let about = narrowing.about(widths);
            (widths.assigned.bits.clone(), Some(narrowing.stored), about)
        }
        None => (Vec::new(), None, String::new()),
    };
    let mut plan = MemoryPlan {
        version: VERSION,
        model: base.model.name.clone(),
        layers: base.layers.clone(),
        hidden_layers: Some(base.model.hidden_layers),
        experts: base.model.experts,
        top_k: base.top_k,
        pinned,
        slots: Slots::Global(0),
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
        bits,
        stored_bits,
        expert_bytes: base.stored.clone(),
        budget: row.capacity,
        gpu_bytes: Some(base.device_memory.unwrap_or(row.memory)),
        other_bytes: Some(base.dense),
        loads: cache.trained.clone(),
        predicted: predicted(row),
        provenance: Provenance { precision, ..provenance(base, answer, row) },
    };
    plan.slots = slots(&plan, base, &built, row.capacity)?;
    plan.check().context("the plan that was found")?;
    Ok(plan)
}

/// Slots beside the pinned experts, each as large as the largest that it may hold.
fn slots(plan: &MemoryPlan, base: &Base, built: &Built, capacity: u64) -> Result<Slots> {
    let (shape, layers) = (&built.setup.shape, plan.layers.len());
    let kept = |layer: usize| -> u64 {
        plan.pinned[layer].iter().map(|expert| plan.expert_size(layer, *expert)).sum()
    };
    let free = |layer: usize| (usize::from(plan.experts) - plan.pinned[layer].len()) as u64;
    let beside = |layer: usize, bytes: u64| -> Result<u32> {
        let bytes = bytes.min(base.layer_bytes(&base.judge, layer)).saturating_sub(kept(layer));
        let slots = bytes.checked_div(plan.slot_size(layer)).unwrap_or(0);
        Ok(u32::try_from(slots.min(free(layer)))?)
    };
    let rows = |bytes: &dyn Fn(usize) -> u64| -> Result<Slots> {
        let rows = (0..layers).map(|layer| beside(layer, bytes(layer)));
        Ok(Slots::PerLayer(rows.collect::<Result<_>>()?))
    };
    match &built.setup.cache.sharing {
        Sharing::Global => {
            let size = (0..layers).map(|layer| plan.slot_size(layer)).max().unwrap_or(0);
            let left = capacity.saturating_sub((0..layers).map(kept).sum());
            let most: u64 = (0..layers).map(free).sum();
            let slots = left.checked_div(size).unwrap_or(0).min(most);
            Ok(Slots::Global(u32::try_from(slots)?))
        }
        Sharing::PerLayer => rows(&|_| capacity / layers as u64),
        Sharing::Planned(slots) => {
            let ranks = shape.ranks as u64;
            let first = |layer: usize| shape.bytes[layer * shape.experts];
            rows(&|layer| u64::from(slots[layer]) * ranks * first(layer))
        }
    }
}

fn predicted(row: &Row) -> Predicted {
    let summary = &row.heldout.summary;
    Predicted {
        train: Figures { tokens_per_second: Some(row.train), ..Figures::default() },
        heldout: Some(Figures {
            tokens_per_second: Some(row.rate()),
            hit_rate: Some(summary.usual_hit_rate()),
            link_bytes_per_token: Some(summary.bytes_per_token),
            ttft_ms: Some(summary.ttft[0] * 1e3),
            stall_share: Some(row.heldout.stall),
        }),
    }
}

fn provenance(base: &Base, answer: &Answer, row: &Row) -> Provenance {
    let machine = &base.file.machine;
    let gpu = base.gpu();
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

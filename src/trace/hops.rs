//! `moecast trace stats --plan`: hops from layer to layer that stay on a rank.

use std::path::Path;

use anyhow::Result;
use moecast_planner::plan::Plan;
use moecast_traces::RoutingTrace;
use moecast_traces::stats::replay::Replay;
use moecast_traces::stats::transition::{Hops, hops};
use serde::Serialize;

use crate::files;
use crate::output::{Output, Table};

/// Largest plan that is read: that of the largest models needs far less.
const PLAN_BYTES_MAX: u64 = 1 << 30;

/// What the key `hops_on_rank` holds.
#[derive(Serialize)]
pub(crate) struct HopsOnRank {
    plan: String,
    ranks: u16,
    slots: u16,
    /// Over all pairs of layers; absent where the recording only counted or has one layer.
    share: Option<f64>,
    chance: Option<f64>,
    layers: Vec<Hops>,
}

/// Measures the hops of `trace` under the placement of the plan at `path`.
pub(crate) fn measure(trace: &RoutingTrace, path: &Path) -> Result<HopsOnRank> {
    let shown = path.display().to_string();
    let plan = Plan::read(&files::read_small(path, PLAN_BYTES_MAX)?, &shown)?;
    let header = trace.header();
    plan.check_matches(header.experts, &header.layers, &shown)?;
    let placement = &plan.placement;
    let per_rank = usize::from(placement.slots_per_rank());
    // Ranks that hold each expert, `[M][E]`.
    let mut ranks = vec![vec![Vec::new(); usize::from(header.experts)]; header.moe_layers()];
    for (layer, ranks) in placement.layers().iter().zip(&mut ranks) {
        for (rank, slots) in (0_u16..).zip(layer.chunks(per_rank)) {
            for expert in slots {
                ranks[expert.index()].push(rank);
            }
        }
    }
    let layers = Replay::new(trace).map_or_else(Vec::new, |replay| {
        hops(&replay, |layer, expert| &ranks[layer.index()][expert.index()])
    });
    Ok(HopsOnRank {
        plan: shown,
        ranks: placement.ranks(),
        slots: placement.slots(),
        share: mean(&layers, |hops| hops.share),
        chance: mean(&layers, |hops| hops.chance),
        layers,
    })
}

/// The mean over hops, not over layers.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn mean(layers: &[Hops], of: impl Fn(&Hops) -> Option<f64>) -> Option<f64> {
    let all: u64 = layers.iter().map(|hops| hops.hops).sum();
    let stay: f64 = layers.iter().filter_map(|hops| Some(of(hops)? * hops.hops as f64)).sum();
    (all > 0).then(|| stay / all as f64)
}

pub(crate) fn print(found: &HopsOnRank, output: &Output) -> Result<()> {
    let (ranks, slots) = (found.ranks, found.slots);
    output.line(&format!("\nhops on rank: {} ({slots} slots on {ranks} ranks)", found.plan))?;
    let show = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", 100.0 * share))
    };
    let mut table = Table::new(&["from layer", "to", "stay on a rank", "by chance"]);
    for hops in &found.layers {
        let (from, to) = (hops.layer.to_string(), hops.next_layer.to_string());
        table.row([from, to, show(hops.share), show(hops.chance)]);
    }
    table.row(["all".to_owned(), String::new(), show(found.share), show(found.chance)]);
    output.table(&table)
}

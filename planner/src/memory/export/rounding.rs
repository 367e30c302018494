//! From what a plan wants to what an engine can be told.

use moecast_profiles::ids::ExpertId;

use super::super::{MemoryPlan, Slots};
use super::Setting;
use crate::export::node::one_line;

/// Experts that stay for ever, and what was given up for that.
pub(super) struct Static {
    /// `[M][..]`, ascending.
    pub(super) rows: Vec<Vec<ExpertId>>,
    pub(super) remarks: Vec<String>,
}

/// What is to be said where an engine computes a missing expert on `device` ("cpu", "gpu") and the
/// plan was made for another way: its figures are not those of this engine.
pub(super) fn other_compute(plan: &MemoryPlan, device: &str) -> Option<String> {
    (plan.compute != device).then(|| {
        format!(
            "the engine computes a missing expert on the {device}; the plan's figures are for \
             \"{}\"",
            one_line(&plan.compute)
        )
    })
}

/// What is to be said where a plan gives experts bits and an engine cannot be told.
pub(super) fn own_bits(plan: &MemoryPlan) -> Option<String> {
    (!plan.bits.is_empty()).then(|| {
        "the engine takes the bits of the checkpoint that it loads: the plan's are not exported, \
         the csv exporter writes them as a table"
            .to_owned()
    })
}

/// `[M]` bytes of all experts of a layer.
pub(super) fn layer_bytes(plan: &MemoryPlan) -> Vec<u64> {
    let of = |layer| {
        let sizes = (0..plan.experts).map(|id| plan.expert_size(layer, ExpertId(id)));
        sizes.fold(0, u64::saturating_add)
    };
    (0..plan.layers.len()).map(of).collect()
}

/// All experts of the layers that `is_whole`, none of the others.
pub(super) fn rows(is_whole: &[bool], experts: u16) -> Vec<Vec<ExpertId>> {
    let row = |&whole: &bool| {
        if whole { (0..experts).map(ExpertId).collect() } else { Vec::new() }
    };
    is_whole.iter().map(row).collect()
}

fn load(setting: &Setting<'_>, layer: usize, expert: ExpertId) -> u64 {
    let row = setting.loads.and_then(|loads| loads.get(layer));
    row.and_then(|row| row.get(expert.index())).copied().unwrap_or(0)
}

/// The residency of `plan` on an engine without a cache: slots are filled with the experts that
/// were asked for most, where loads are known, and are left empty otherwise.
pub(super) fn without_cache(plan: &MemoryPlan, setting: &Setting<'_>) -> Static {
    let mut rows = plan.pinned.clone();
    let mut remarks = Vec::new();
    let slots: u64 = match &plan.slots {
        Slots::PerLayer(slots) => slots.iter().map(|&count| u64::from(count)).sum(),
        Slots::Global(count) => u64::from(*count),
    };
    if slots == 0 {
        return Static { rows, remarks };
    }
    if setting.loads.is_none() {
        remarks.push(format!(
            "the engine has no cache of experts: {slots} slots stay empty, because no loads say \
             which experts to put there: export with --trace, or plan with --engine"
        ));
        return Static { rows, remarks };
    }
    remarks.push(format!(
        "the engine has no cache of experts: {slots} slots hold the experts that were asked for \
         most, and never change"
    ));
    let mut free: Vec<(u64, usize, ExpertId)> = (0..plan.layers.len())
        .flat_map(|layer| (0..plan.experts).map(move |id| (layer, ExpertId(id))))
        .filter(|(layer, id)| plan.pinned[*layer].binary_search(id).is_err())
        .map(|(layer, id)| (load(setting, layer, id), layer, id))
        .collect();
    free.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut left: Vec<u32> = match &plan.slots {
        Slots::PerLayer(slots) => slots.clone(),
        Slots::Global(count) => vec![*count; plan.layers.len()],
    };
    let mut all = slots;
    for (_, layer, id) in free {
        if all > 0 && left[layer] > 0 {
            (all, left[layer]) = (all - 1, left[layer] - 1);
            rows[layer].push(id);
        }
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    Static { rows, remarks }
}

/// Whether each layer `[M]` is kept whole, where an engine knows no smaller part.
///
/// As many layers as fit the memory that the plan uses: first those that the plan keeps whole, then
/// by the load of the experts that it keeps, or by their number where no loads are known.
pub(super) fn whole_layers(
    plan: &MemoryPlan,
    setting: &Setting<'_>,
    remarks: &mut Vec<String>,
) -> Vec<bool> {
    let mut fixed = without_cache(plan, setting);
    let by_number = setting.loads.is_none() && !fixed.remarks.is_empty();
    if !by_number {
        remarks.append(&mut fixed.remarks);
    }
    let full = |row: &Vec<ExpertId>| row.len() == usize::from(plan.experts);
    let mut layers: Vec<(bool, u128, usize)> = fixed
        .rows
        .iter()
        .enumerate()
        .map(|(layer, row)| {
            let wanted: u128 = match setting.loads {
                Some(_) => row.iter().map(|&id| u128::from(load(setting, layer, id))).sum(),
                None => row.len() as u128 + u128::from(slots_of(plan, layer)),
            };
            // An expert without load is wanted all the same.
            (full(row), wanted.max(u128::from(!row.is_empty())), layer)
        })
        .collect();
    layers.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    let sizes = layer_bytes(plan);
    let mut left = plan.pinned_bytes() + plan.slot_bytes();
    let mut is_whole = vec![false; plan.layers.len()];
    for (_, wanted, layer) in layers {
        let size = u128::from(sizes[layer]);
        if wanted > 0 && size <= left {
            left -= size;
            is_whole[layer] = true;
        }
    }
    if by_number {
        let kept = is_whole.iter().filter(|whole| **whole).count();
        remarks.push(format!(
            "the engine has no cache of experts: the memory of the plan's slots holds {kept} whole \
             layers instead, those with most pinned experts and slots, because no loads say which \
             are asked for most: export with --trace, or plan with --engine"
        ));
        return is_whole;
    }
    let is_exact =
        fixed.rows.iter().zip(&is_whole).all(|(row, &whole)| full(row) == whole || row.is_empty());
    let parts = fixed.rows.iter().filter(|row| !row.is_empty() && !full(row)).count();
    if parts > 0 || !is_exact {
        let by = if setting.loads.is_some() { "load" } else { "number" };
        let kept = is_whole.iter().filter(|whole| **whole).count();
        remarks.push(format!(
            "the engine keeps whole layers: {parts} layers of which the plan keeps a part are \
             rounded by the {by} of their experts; {kept} layers stay, {left} bytes are unused"
        ));
    }
    is_whole
}

fn slots_of(plan: &MemoryPlan, layer: usize) -> u32 {
    match &plan.slots {
        Slots::PerLayer(slots) => slots.get(layer).copied().unwrap_or(0),
        Slots::Global(count) => u32::from(*count > 0),
    }
}

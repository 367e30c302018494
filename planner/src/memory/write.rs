//! Writes `memory.json`: keys in the order of the fields, one line per layer, so that two plans
//! can be compared line by line.

use serde::Serialize;

use super::{MemoryPlan, Slots};
use crate::export::shape::list;
use crate::plan::nested;

pub(super) fn plan(plan: &MemoryPlan) -> String {
    // Every field by name: a new one cannot be forgotten here.
    let MemoryPlan {
        version,
        model,
        layers,
        hidden_layers,
        experts,
        top_k,
        pinned,
        slots,
        policy,
        prefetcher,
        compute,
        bits,
        stored_bits,
        expert_bytes,
        budget,
        gpu_bytes,
        other_bytes,
        loads,
        predicted,
        provenance,
    } = plan;
    let slots = match slots {
        Slots::PerLayer(slots) => format!("{{\"per_layer\": {}}}", list(slots)),
        Slots::Global(count) => format!("{{\"global\": {count}}}"),
    };
    let fields = [
        ("version", version.to_string()),
        ("model", json(model)),
        ("layers", list(layers)),
        ("hidden_layers", or_null(hidden_layers.as_ref())),
        ("experts", experts.to_string()),
        ("top_k", top_k.to_string()),
        ("pinned", rows(pinned)),
        ("slots", slots),
        ("policy", json(policy)),
        ("prefetcher", json(prefetcher)),
        ("compute", json(compute)),
        ("bits", rows(bits)),
        ("stored_bits", or_null(stored_bits.as_ref())),
        ("expert_bytes", list(expert_bytes)),
        ("budget", budget.to_string()),
        ("gpu_bytes", or_null(gpu_bytes.as_ref())),
        ("other_bytes", or_null(other_bytes.as_ref())),
        ("loads", rows(loads)),
        ("predicted", json(predicted)),
        ("provenance", json(provenance)),
    ];
    let lines = fields.map(|(key, value)| format!("  \"{key}\": {value}")).join(",\n");
    format!("{{\n{lines}\n}}\n")
}

fn json<T: Serialize>(value: &T) -> String {
    nested(value, "  ").expect("MemoryPlan::check refuses what JSON lacks")
}

fn or_null<T: std::fmt::Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "null".to_owned(), ToString::to_string)
}

fn rows<T: std::fmt::Display>(rows: &[Vec<T>]) -> String {
    if rows.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<String> = rows.iter().map(|row| format!("    {}", list(row))).collect();
    format!("[\n{}\n  ]", lines.join(",\n"))
}

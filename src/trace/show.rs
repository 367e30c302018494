//! `moecast trace show`: a heat map of the load of every expert.

use std::path::Path;

use anyhow::{Context, Result, bail};
use moecast_traces::stats::load::{Load, by_part};
use moecast_traces::{Phase, RoutingTrace, format};
use serde_json::json;

use super::describe;
use crate::cli::trace::{Show, ShowBy};
use crate::output::{HeatMap, HeatRow, Output};

/// Windows of time: as many as `stats` compares, or more where there is one layer to show.
const WINDOWS: usize = 8;
const WINDOWS_OF_ONE_LAYER: usize = 24;

/// One row: a layer, or a part of the recording in a layer.
struct Row {
    layer: u16,
    part: Option<String>,
    /// `[E]` picks.
    loads: Vec<u64>,
}

pub(crate) fn run(arguments: &Show, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    let rows = rows(&trace, arguments)?;
    let max_over_mean = |row: &Row| Load::of(&row.loads).max_over_mean;
    let object = rows.iter().map(|row| {
        json!({
            "layer": row.layer,
            "part": row.part,
            "max_over_mean": max_over_mean(row),
            "loads": row.loads,
        })
    });
    let header = trace.header();
    let object = json!({
        "experts": header.experts, "rows": object.collect::<Vec<_>>(), "remarks": header.remarks,
    });
    if output.json(&object)? {
        return Ok(());
    }
    output.note(&describe(&trace))?;
    let mut before = None;
    let drawn = rows.chunk_by(|a, b| a.layer == b.layer).flat_map(|of_layer| {
        let order = order(of_layer, arguments.sort);
        of_layer.iter().map(move |row| (row, order.clone()))
    });
    let drawn = drawn.map(|(row, order)| {
        let is_first = before.replace(row.layer) != Some(row.layer);
        let group = match &row.part {
            Some(_) if is_first => format!("layer {}", row.layer),
            _ => String::new(),
        };
        HeatRow {
            group,
            label: row.part.clone().unwrap_or_else(|| row.layer.to_string()),
            loads: order.iter().map(|&expert| row.loads[expert]).collect(),
            max_over_mean: max_over_mean(row),
        }
    });
    let columns = if arguments.sort { "experts, busiest first" } else { "experts" };
    output.heat_map(&HeatMap { rows: drawn.collect(), columns })
}

/// The experts of a layer in the order in which they are drawn, the same for all its rows.
fn order(of_layer: &[Row], sorted: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..of_layer[0].loads.len()).collect();
    if sorted {
        let load = |expert: usize| of_layer.iter().map(|row| row.loads[expert]).sum::<u64>();
        order.sort_by_key(|&expert| std::cmp::Reverse(load(expert)));
    }
    order
}

fn rows(trace: &RoutingTrace, arguments: &Show) -> Result<Vec<Row>> {
    let header = trace.header();
    let experts = usize::from(header.experts);
    let shown = layers(trace, arguments)?;
    let (parts, loads) = parts(trace, arguments)?;
    let mut rows = Vec::new();
    for ordinal in shown {
        for (index, part) in parts.iter().enumerate() {
            let start = (index * header.moe_layers() + ordinal) * experts;
            let loads = loads[start..start + experts].to_vec();
            rows.push(Row { layer: header.layers[ordinal], part: part.clone(), loads });
        }
    }
    Ok(rows)
}

/// Ordinals of the layers that are shown.
fn layers(trace: &RoutingTrace, arguments: &Show) -> Result<Vec<usize>> {
    let layers = &trace.header().layers;
    let Some(layer) = arguments.layer else { return Ok((0..layers.len()).collect()) };
    let found = layers.iter().position(|&known| known == layer);
    let ordinal = found.with_context(|| {
        let path = arguments.trace.display();
        let (low, high) = (layers[0], layers[layers.len() - 1]);
        format!("{path}: layer {layer}: not recorded; expected a MoE layer from {low} to {high}")
    })?;
    Ok(vec![ordinal])
}

/// The parts of the recording and their picks, `[parts, M, E]`.
fn parts(trace: &RoutingTrace, arguments: &Show) -> Result<(Vec<Option<String>>, Vec<u64>)> {
    let refuse = |what: &str, expected: &str| -> Result<_> {
        let path: &Path = &arguments.trace;
        bail!("{}: {what}: not recorded; expected {expected}", path.display())
    };
    let columns = trace.tokens();
    Ok(match arguments.by {
        ShowBy::Layer => (vec![None], by_part(trace, 1, |_| 0)),
        ShowBy::Domain => {
            let Some(domain) = columns.and_then(|columns| columns.domain.as_ref()) else {
                return refuse("domains", "a recording that names the domain of every token");
            };
            let names: Vec<_> = trace.header().domains.iter().cloned().map(Some).collect();
            let loads = by_part(trace, names.len(), |row| usize::from(domain[row]));
            (names, loads)
        }
        ShowBy::Phase => {
            let Some(columns) = columns else {
                return refuse("phases", "a token recording");
            };
            let is_decode = |row: usize| usize::from(columns.phase[row] == Phase::Decode.code());
            let names = ["prefill", "decode"].map(|name| Some(name.to_owned())).to_vec();
            (names, by_part(trace, 2, is_decode))
        }
        ShowBy::Time => {
            let rows = columns.map_or(trace.steps().len(), |columns| columns.step.len());
            let most = if arguments.layer.is_some() { WINDOWS_OF_ONE_LAYER } else { WINDOWS };
            let windows = rows.min(most);
            let names = (1..=windows).map(|window| Some(format!("{window}/{windows}"))).collect();
            (names, by_part(trace, windows, |row| row * windows / rows))
        }
    })
}

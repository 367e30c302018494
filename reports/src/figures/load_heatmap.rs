//! The load of every rank in every layer, before and after, on one colour scale.

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::whole_ticks;
use crate::draw::paint::HEAT_LEVELS;
use crate::draw::{Label, Paint, Scene, Width, digits};
use crate::run_file::Candidate;
use crate::tables::Rows;

pub(super) const ENTRY: Entry = Entry {
    name: "load-heatmap",
    about: "load of every rank in every layer over the layer's mean, a panel per candidate",
    caption: "Every cell is one rank in one MoE layer: its tokens over the whole simulated part, \
              divided by the mean over the ranks of that layer. Pale is the mean, orange is above \
              and blue below; the same colour means the same in every panel. Single steps are \
              less even than their sum.",
    order: 3,
    kind: Kind::Run { title: "Which ranks are overloaded in which layers", rows, draw },
};

/// Half ranges that a scale may have, in units of the mean.
const REACHES: [f64; 6] = [0.1, 0.2, 0.5, 1.0, 2.0, 4.0];
const MIDDLE: f64 = (HEAT_LEVELS / 2) as f64;

/// Load over the mean of the layer; `None` in a layer without load.
fn relative(layer: &[u64]) -> Vec<Option<f64>> {
    let sum = layer.iter().map(|&load| load as f64).sum::<f64>();
    let mean = sum / layer.len() as f64;
    layer.iter().map(|&load| (sum > 0.0).then(|| load as f64 / mean)).collect()
}

fn rows(run: &RunFile) -> Rows {
    let mut rows = Vec::new();
    for it in &run.candidates {
        for (&layer, loads) in run.layers.iter().zip(&it.summary.rank_load) {
            for (rank, (&load, share)) in loads.iter().zip(relative(loads)).enumerate() {
                let share = share.unwrap_or(f64::NAN);
                let (layer, rank) = (u64::from(layer), rank as u64);
                let name = it.name.as_str().into();
                rows.push(vec![name, layer.into(), rank.into(), load.into(), share.into()]);
            }
        }
    }
    Rows { columns: &["candidate", "layer", "rank", "pairs", "over_layer_mean"], rows }
}

/// Colours for values around 1.
struct Heat {
    /// How far from 1 the darkest colours are.
    reach: f64,
    /// Some value lies below the scale, some above it.
    beyond: (bool, bool),
}

impl Heat {
    /// A scale that holds nearly all values; a few hot cells must not wash out the others.
    fn new(run: &RunFile) -> Self {
        let loads = run.candidates.iter().flat_map(|it| &it.summary.rank_load);
        let ratios: Vec<f64> = loads.flat_map(|layer| relative(layer)).flatten().collect();
        let mut away: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
        away.sort_by(f64::total_cmp);
        let nearly = away.get(away.len().saturating_sub(1) * 98 / 100).copied().unwrap_or(0.0);
        let reach = *REACHES.iter().find(|&&reach| reach >= nearly).unwrap_or(&REACHES[5]);
        let below = ratios.iter().any(|&ratio| ratio < 1.0 - reach);
        let above = ratios.iter().any(|&ratio| ratio > 1.0 + reach);
        Self { reach, beyond: (below, above) }
    }

    fn level(&self, ratio: f64) -> u8 {
        let away = ((ratio - 1.0) / self.reach).clamp(-1.0, 1.0);
        (MIDDLE + away * MIDDLE).round() as u8
    }

    /// The colour bar; returns where it ends.
    fn bar(&self, scene: &mut Scene, width: Width) -> f64 {
        let title = "rank load / mean load of the layer";
        scene.text(Label::new(0.0, 8.0, title).paint(Paint::Soft).size(11.5));
        let first = (0..HEAT_LEVELS).find(|&level| self.value(level) >= -1e-9).unwrap_or(0);
        let count = f64::from(HEAT_LEVELS - first);
        let each = (width.pick(360.0, 330.0) / count).floor();
        for level in first..HEAT_LEVELS {
            let from = f64::from(level - first) * each;
            scene.fill([from, 22.0, each, 14.0], Paint::Heat(level));
        }
        let places = if self.reach < 0.2 { 2 } else { 1 + usize::from(self.reach == 0.5) };
        for quarter in 0..=4_u8 {
            let level = quarter * (HEAT_LEVELS / 4);
            if level < first {
                continue;
            }
            let sign = match (quarter, self.beyond) {
                (0, (true, _)) => "≤ ",
                (4, (_, true)) => "≥ ",
                _ => "",
            };
            let text = format!("{sign}{:.places$}", self.value(level).max(0.0));
            let middle = (f64::from(level - first) + 0.5) * each;
            scene.line(vec![(middle, 36.0), (middle, 40.0)], Paint::Soft, 1.0);
            let label = Label::new(middle, 50.0, text).middle().paint(Paint::Soft);
            let x = middle.max(label.width() / 2.0);
            scene.text(Label { x, ..label });
        }
        60.0
    }

    fn value(&self, level: u8) -> f64 {
        1.0 + (f64::from(level) - MIDDLE) / MIDDLE * self.reach
    }
}

/// Sizes that all panels share.
struct Grid {
    columns: usize,
    /// Width of a panel without its labels.
    width: f64,
    cell: (f64, f64),
    gutter: f64,
}

impl Grid {
    const GAP: f64 = 28.0;

    fn new(run: &RunFile, width: Width) -> Self {
        let columns = run.candidates.len().clamp(1, width.pick(3, 1));
        let widest = run.layers.iter().max().copied().unwrap_or(0).to_string();
        let gutter = Label::new(0.0, 0.0, widest).width() + 8.0;
        let count = columns as f64;
        let room = width.pixels() - 8.0 - count * gutter - (count - 1.0) * Self::GAP;
        let ranks = f64::from(run.ranks.max(1));
        let cell = (
            (room / count / ranks).min(56.0),
            (width.pick(380.0, 300.0) / run.layers.len().max(1) as f64).clamp(3.0, 26.0),
        );
        // Few ranks make a panel narrow, but its heading needs room.
        let width = (cell.0 * ranks).max(150.0).min(room / count);
        Self { columns, width, cell, gutter }
    }
}

fn draw(run: &RunFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let heat = Heat::new(run);
    let head = heat.bar(&mut scene, width) + 14.0;
    let grid = Grid::new(run, width);
    let height = run.layers.len() as f64 * grid.cell.1 + 92.0;
    for (index, it) in run.candidates.iter().enumerate() {
        let (row, column) = (index / grid.columns, index % grid.columns);
        let left = column as f64 * (grid.width + grid.gutter + Grid::GAP) + grid.gutter;
        panel(&mut scene, run, it, &heat, &grid, (left, head + row as f64 * height));
    }
    scene.height = head + run.candidates.len().div_ceil(grid.columns) as f64 * height - 12.0;
    scene
}

fn panel(
    scene: &mut Scene,
    run: &RunFile,
    it: &Candidate,
    heat: &Heat,
    grid: &Grid,
    (left, top): (f64, f64),
) {
    let layers: Vec<Vec<Option<f64>>> =
        it.summary.rank_load.iter().map(|layer| relative(layer)).collect();
    let highest = layers.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let right = left + f64::from(run.ranks) * grid.cell.0;
    let note = Label::new(left + grid.width, top + 8.0, format!("max {}", digits::ratio(highest)));
    let note = note.end().paint(Paint::Soft);
    let name = Label::new(left, top + 8.0, &it.name).bold();
    scene.text(name.at_most(grid.width - note.width() - 10.0));
    scene.text(note);

    let top = top + 38.0;
    scene.text(Label::new(left, top - 12.0, "MoE layer").paint(Paint::Soft).size(11.5));
    cells(scene, &layers, heat, grid, (left, top));
    let numbers: Vec<u64> = run.layers.iter().map(|&layer| u64::from(layer)).collect();
    for (index, text) in whole_ticks(&numbers, 16.0, |index| index as f64 * grid.cell.1) {
        let middle = top + (index as f64 + 0.5) * grid.cell.1;
        scene.text(Label::new(left - 6.0, middle, text).end().paint(Paint::Soft));
    }
    let bottom = top + layers.len() as f64 * grid.cell.1;
    let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    scene.line(corners.to_vec(), Paint::Grid, 1.0);
    let ranks: Vec<u64> = (0..u64::from(run.ranks)).collect();
    for (index, text) in whole_ticks(&ranks, 30.0, |index| index as f64 * grid.cell.0) {
        let middle = left + (index as f64 + 0.5) * grid.cell.0;
        scene.line(vec![(middle, bottom), (middle, bottom + 4.0)], Paint::Soft, 1.0);
        scene.text(Label::new(middle, bottom + 13.0, text).middle().paint(Paint::Soft));
    }
    let middle = f64::midpoint(left, right);
    scene.text(Label::new(middle, bottom + 30.0, "rank").middle().paint(Paint::Soft).size(11.5));
}

/// Cells of one colour are drawn one after the other, neighbours in a row as one.
fn cells(
    scene: &mut Scene,
    layers: &[Vec<Option<f64>>],
    heat: &Heat,
    grid: &Grid,
    (left, top): (f64, f64),
) {
    let mut runs: Vec<(Option<u8>, [f64; 4])> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let levels: Vec<Option<u8>> =
            layer.iter().map(|ratio| ratio.map(|ratio| heat.level(ratio))).collect();
        let mut from = 0;
        for same in levels.chunk_by(|a, b| a == b) {
            // Edges on whole pixels, so that no ground shows between the cells.
            let edge = |cells: usize| (left + cells as f64 * grid.cell.0).round();
            let line = |cells: usize| (top + cells as f64 * grid.cell.1).round();
            let to = from + same.len();
            let at =
                [edge(from), line(index), edge(to) - edge(from), line(index + 1) - line(index)];
            runs.push((same[0], at));
            from = to;
        }
    }
    runs.sort_by_key(|(level, _)| *level);
    for (level, at) in runs {
        scene.fill(at, level.map_or(Paint::Grid, Paint::Heat));
    }
}

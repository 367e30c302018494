//! Where the time of a step goes, per candidate.

use moecast_sim::record::PartMeans;

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::digits::{self, time_unit, with_unit};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Label, Paint, Scale, Scene, Width};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "step-time",
    about: "mean time of a step by part, a bar per candidate",
    caption: "Mean time of one forward pass, and what it is made of. Attention and experts count \
              the slowest rank of each layer, because the ranks meet there. Behind every bar \
              stand its total and the change against the first candidate.",
    order: 1,
    kind: Kind::Run { title: "Where the time of a step goes", rows, draw },
};

const PARTS: [&str; 5] = ["attention", "dense", "dispatch", "experts", "combine"];

fn values(parts: &PartMeans) -> [f64; 5] {
    [parts.attention, parts.dense, parts.dispatch, parts.experts, parts.combine]
}

fn rows(run: &RunFile) -> Rows {
    let rows = run.candidates.iter().flat_map(|it| {
        let parts = PARTS.into_iter().zip(values(&it.summary.parts_us));
        parts.map(|(part, mean)| vec![it.name.as_str().into(), part.into(), Cell::Number(mean)])
    });
    Rows { columns: &["candidate", "part", "mean_us"], rows: rows.collect() }
}

/// What can be drawn of a part: nothing, where it is no time.
fn length(time: f64) -> f64 {
    drawable(time).unwrap_or(0.0).max(0.0)
}

fn draw(run: &RunFile, width: Width) -> Scene {
    const BAR: f64 = 30.0;
    let mut scene = Scene::new(width);
    let items = PARTS.iter().enumerate();
    let items: Vec<Item> =
        items.map(|(index, part)| Item::new(Look::Box, Paint::Part(index), *part)).collect();
    let mut top = legend::draw(&mut scene, &items, 0.0) + 10.0;

    let parts: Vec<[f64; 5]> =
        run.candidates.iter().map(|it| values(&it.summary.parts_us)).collect();
    let totals: Vec<f64> = parts.iter().map(|parts| parts.iter().sum()).collect();
    let unit = time_unit(largest(totals.iter().copied()));
    let ends: Vec<Label> = totals
        .iter()
        .enumerate()
        .map(|(index, &total)| {
            let change = digits::change(totals[0], total).map(|text| format!(" ({text})"));
            let change = change.filter(|_| index > 0).unwrap_or_default();
            Label::new(0.0, 0.0, format!("{}{change}", with_unit(total, unit))).bold()
        })
        .collect();
    let widest = ends.iter().map(Label::width).fold(0.0, f64::max);
    let right = scene.width - widest - 10.0;
    let longest = largest(parts.iter().map(|parts| parts.iter().map(|&part| length(part)).sum()));
    let scale = Scale { values: (0.0, longest), pixels: (0.0, right) };

    // One number of decimal places in all bars, so that they can be compared at a glance.
    let places = digits::places(largest(parts.iter().flatten().copied()) / unit.size);
    for (index, it) in run.candidates.iter().enumerate() {
        scene.text(Label::new(0.0, top + 8.0, &it.name).at_most(scene.width));
        let (mut sum, middle) = (0.0, top + 18.0 + BAR / 2.0);
        for (number, &part) in parts[index].iter().enumerate() {
            let (from, to) = (scale.at(sum), scale.at(sum + length(part)));
            sum += length(part);
            scene.fill([from, top + 18.0, to - from, BAR], Paint::Part(number));
            if number > 0 && to - from > 3.0 {
                scene.fill([from - 0.5, top + 18.0, 1.0, BAR], Paint::Ground);
            }
            let text = digits::with_places(part / unit.size, places);
            let label = Label::new(f64::midpoint(from, to), middle, text).middle().size(11.5);
            if label.width() + 8.0 < to - from {
                scene.text(label.paint(Paint::OnPart));
            }
        }
        let end = Label { x: scale.at(sum) + 8.0, y: middle, ..ends[index].clone() };
        scene.text(end);
        top += 18.0 + BAR + 12.0;
    }
    let note = format!("numbers inside the bars: {}", unit.name);
    scene.text(Label::new(0.0, top + 6.0, note).paint(Paint::Soft).size(11.5));
    scene.height = top + 16.0;
    scene
}

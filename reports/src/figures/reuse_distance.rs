//! How many other experts are used before an expert is used again.

use moecast_traces::stats::reuse::ReuseStats;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "reuse-distance",
    about: "how many other experts of a layer are used between two uses of an expert",
    caption: "Between two uses of an expert, its layer uses other experts; their number is the \
              distance, 0 where the very next token picks the expert again. A bar is the share \
              of all reuses at the distances from the number at its left edge up to the next, \
              all layers together. A cache of a layer that holds top-k experts more than a \
              distance serves the reuse. Every token in between uses top-k experts, so that few \
              distances lie between 0 and top-k. Reuses far left of what chance gives are what a \
              cache lives on.",
    order: 18,
    kind: Kind::Recording { title, rows, draw },
};

fn reuse(file: &StatsFile) -> Option<&ReuseStats> {
    file.stats.reuse.as_ref().filter(|reuse| reuse.mean.is_some())
}

/// First and last distance of every bar, its reuses and their share.
fn bars(file: &StatsFile) -> Vec<(u64, u64, u64, f64)> {
    let histogram: &[u64] = reuse(file).map_or(&[], |reuse| &reuse.histogram);
    let total: f64 = histogram.iter().map(|&reuses| reuses as f64).sum();
    let furthest = u64::from(file.stats.experts).saturating_sub(1);
    let bar = |(index, &reuses): (usize, &u64)| {
        let from = if index == 0 { 0 } else { 1_u64 << (index - 1).min(62) };
        let to = if index < 2 { from } else { (2 * from - 1).min(furthest).max(from) };
        (from, to, reuses, reuses as f64 / total.max(1.0))
    };
    histogram.iter().enumerate().map(bar).collect()
}

/// Where a distance stands among the bars, which double their width in distances.
fn place(distance: f64) -> f64 {
    if distance < 1.0 { distance.max(0.0) } else { 1.0 + distance.log2() }
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let reuse = reuse(file).ok_or("no expert was used twice")?;
    let number = |value: Option<f64>| digits::significant(value.unwrap_or(f64::NAN));
    Ok(format!(
        "{} other experts are used before an expert returns; {} by chance",
        number(reuse.mean),
        number(reuse.null_mean)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let rows = bars(file).into_iter().map(|(from, to, reuses, share)| {
        vec![from.into(), to.into(), reuses.into(), Cell::Number(share)]
    });
    Rows { columns: &["distance_from", "distance_to", "reuses", "share"], rows: rows.collect() }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let bars = bars(file);
    let mean = reuse(file).and_then(|reuse| reuse.mean).and_then(drawable);
    let null = reuse(file).and_then(|reuse| reuse.null_mean).and_then(drawable);
    let mut items = vec![Item::new(Look::Box, Paint::Recording, "reuses")];
    if let Some(mean) = mean {
        let text = format!("mean, {}", digits::significant(mean));
        items.push(Item::new(Look::Line, Paint::Ink, text));
    }
    if let Some(null) = null {
        let text = format!("mean of a uniform router, {}", digits::significant(null));
        items.push(Item::new(Look::Dashes, Paint::Ink, text));
    }
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let last = bars.len().max(1) as f64;
    let ticks = bars.iter().enumerate();
    let plot = Axes {
        titles: ("other experts used in between (log scale)", "share of the reuses, %"),
        x_range: (0.0, last),
        x_ticks: ticks.map(|(index, bar)| (index as f64, bar.0.to_string())).collect(),
        y: Ticks::around(0.0, largest(bars.iter().map(|bar| bar.3 * 100.0)), 5),
        y_label: Ticks::labelled,
        height: width.pick(240.0, 190.0),
    }
    .draw(&mut scene, top);
    for (index, bar) in bars.iter().enumerate() {
        let (left, right) = (plot.x.at(index as f64), plot.x.at(index as f64 + 1.0));
        let (top, bottom) = (plot.y.at(bar.3 * 100.0), plot.y.at(0.0));
        scene.fill([left + 1.0, top, right - left - 2.0, bottom - top], Paint::Recording);
    }
    let (bottom, top) = plot.y.pixels;
    if let Some(null) = null {
        let x = plot.x.at(place(null));
        scene.dashes((x, top), (x, bottom), Paint::Ink);
    }
    if let Some(mean) = mean {
        let x = plot.x.at(place(mean));
        scene.line(vec![(x, top), (x, bottom)], Paint::Ink, 1.5);
    }
    scene
}

//! How well one set of experts serves a stretch of tokens, against the length of the stretch.

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::drawable;
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "srp",
    about: "how well one set of experts predicts the routing of 4, 16, 64, 256 tokens in a row",
    caption: "Segment routing best performance (Liang et al. 2025): for every stretch of so many \
              tokens of one request, take the experts that it uses most and predict that each of \
              its tokens picks them. Shown is the best F1 that such a prediction reaches; 1 is \
              perfect. The line is the whole model, the band reaches from the lowest to the \
              highest layer, and the dashed line is a router that picks uniformly. High above \
              it means that experts stay in use for a while: a small cache or a placement that \
              follows the traffic can pay.",
    order: 16,
    kind: Kind::Recording { title, rows, draw },
};

/// The numbers of one segment length.
struct Segment {
    tokens: u32,
    model: f64,
    cache_ratio: f64,
    low: f64,
    high: f64,
    null: f64,
}

fn segments(file: &StatsFile) -> Vec<Segment> {
    let (model, stats) = (&file.stats.locality, &file.stats);
    let segment = |(&tokens, &srp): (&u32, &Option<f64>)| {
        let layers = stats.per_layer.iter();
        let layers: Vec<f64> = layers
            .filter_map(|layer| *layer.locality.srp.get(&tokens)?)
            .filter_map(drawable)
            .collect();
        let number = |found: Option<&Option<f64>>| found.copied().flatten().unwrap_or(f64::NAN);
        Some(Segment {
            tokens,
            model: srp?,
            cache_ratio: number(model.srp_cache_ratio.get(&tokens)),
            low: layers.iter().copied().fold(srp?, f64::min),
            high: layers.iter().copied().fold(srp?, f64::max),
            null: number(stats.srp_null.get(&tokens)),
        })
    };
    model.srp.iter().filter_map(segment).collect()
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let segments = segments(file);
    let chosen = segments.iter().find(|segment| segment.tokens == 16).or(segments.last());
    let segment = chosen.ok_or("no request is as long as the shortest segment")?;
    Ok(format!(
        "One set of experts predicts {} tokens in a row with F1 {}; by chance {}",
        segment.tokens,
        digits::ratio(segment.model),
        digits::ratio(segment.null)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let segments = segments(file);
    let rows = segments.iter().map(|it| {
        let numbers = [it.model, it.low, it.high, it.null, it.cache_ratio];
        let mut row = vec![Cell::Count(it.tokens.into())];
        row.extend(numbers.map(Cell::Number));
        row
    });
    Rows {
        columns: &[
            "segment_tokens",
            "srp",
            "lowest_layer",
            "highest_layer",
            "null_srp",
            "cache_over_top_k",
        ],
        rows: rows.collect(),
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let segments = segments(file);
    let items = [
        Item::new(Look::Line, Paint::Recording, "whole model"),
        Item::new(Look::Band, Paint::Recording, "lowest to highest layer"),
        Item::new(Look::Dashes, Paint::Ink, "uniform router"),
    ];
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    // Lengths are factors of each other: every one stands as far from the next.
    let last = segments.len().saturating_sub(1);
    let ticks = segments.iter().enumerate();
    let highest = segments.iter().map(|it| it.high.max(it.model)).fold(1.0, f64::max);
    let plot = Axes {
        titles: ("tokens in a row (log scale)", "F1 of the best prediction (SRP)"),
        x_range: if last > 0 { (0.0, last as f64) } else { (-0.5, 0.5) },
        x_ticks: ticks.map(|(index, it)| (index as f64, it.tokens.to_string())).collect(),
        y: Ticks::around(0.0, highest, 5),
        y_label: Ticks::labelled,
        height: width.pick(260.0, 200.0),
    }
    .draw(&mut scene, top);
    let line = |value: fn(&Segment) -> f64| -> Vec<(f64, f64)> {
        let points = segments.iter().enumerate();
        points
            .filter_map(|(index, it)| {
                Some((plot.x.at(index as f64), plot.y.at(drawable(value(it))?)))
            })
            .collect()
    };
    let back = line(|it| it.low).into_iter().rev();
    scene.area(line(|it| it.high).into_iter().chain(back).collect(), Paint::Recording);
    scene.dashed(line(|it| it.null), Paint::Ink);
    let model: Vec<_> = line(|it| it.model).into_iter().map(Some).collect();
    scene.curve(&model, Paint::Recording);
    for (x, y) in model.into_iter().flatten() {
        scene.dot(x, y, 3.5, Paint::Recording);
    }
    scene
}

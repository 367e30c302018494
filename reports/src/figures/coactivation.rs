//! Which experts of a layer are picked together more often than their loads explain.

use moecast_traces::stats::LayerStats;
use moecast_traces::stats::coactivation::CoactivationStats;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest, layer_axis};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "coactivation",
    about: "the pairs of experts of every layer that tokens pick together most, over chance",
    caption: "A dot is a pair of experts of a layer: how often tokens picked both, over how often \
              they would if the two picks knew nothing of each other (the lift). Shown are the \
              pairs of highest lift that at least 5 tokens picked. The dashed line is every pair \
              of a uniform router, a little below 1 because a token picks no expert twice. The \
              highest of many lifts is high by chance in a short recording; what holds in a long \
              one says which experts to keep on one rank, or apart.",
    order: 19,
    kind: Kind::Recording { title, rows, draw },
};

fn layers(file: &StatsFile) -> impl Iterator<Item = (&LayerStats, &CoactivationStats)> {
    let layers = file.stats.per_layer.iter();
    layers.filter_map(|layer| {
        let found = layer.coactivation.as_ref()?;
        (!found.pairs.is_empty()).then_some((layer, found))
    })
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let mut strongest: Vec<f64> =
        layers(file).filter_map(|(_, found)| Some(found.pairs.first()?.lift)).collect();
    strongest.sort_by(f64::total_cmp);
    let median = strongest.get(strongest.len() / 2).ok_or("no pair was picked by 5 tokens")?;
    Ok(format!(
        "In the median layer, the closest pair goes together {} times as often as chance",
        digits::significant(*median)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let rows = layers(file).flat_map(|(layer, found)| {
        let null = found.null_lift.unwrap_or(f64::NAN);
        found.pairs.iter().map(move |pair| {
            vec![
                Cell::Count(layer.layer.into()),
                Cell::Count(pair.a.into()),
                Cell::Count(pair.b.into()),
                pair.tokens.into(),
                pair.lift.into(),
                null.into(),
            ]
        })
    });
    Rows {
        columns: &["layer", "expert_a", "expert_b", "tokens", "lift", "null_lift"],
        rows: rows.collect(),
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let items = [
        Item::new(Look::Dot, Paint::Series(2), "strongest pair of a layer"),
        Item::new(Look::Dot, Paint::Recording, "the next seven"),
        Item::new(Look::Dashes, Paint::Ink, "uniform router"),
    ];
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let (x_range, x_ticks) = layer_axis(&file.layers, scene.width);
    let lifts = layers(file).flat_map(|(_, found)| found.pairs.iter().map(|pair| pair.lift));
    let plot = Axes {
        titles: ("MoE layer (number in the model)", "picked together, over chance (lift)"),
        x_range,
        x_ticks,
        y: Ticks::around(0.0, largest(lifts).max(1.0), 5),
        y_label: Ticks::labelled,
        height: width.pick(260.0, 200.0),
    }
    .draw(&mut scene, top);
    let null = layers(file).find_map(|(_, found)| found.null_lift).and_then(drawable);
    if let Some(null) = null {
        let ((left, right), y) = (plot.x.pixels, plot.y.at(null));
        scene.dashes((left, y), (right, y), Paint::Ink);
    }
    for (layer, found) in layers(file) {
        let x = plot.x.at(layer.layer.into());
        // The strongest is drawn last, above those that it nearly equals.
        for (index, pair) in found.pairs.iter().enumerate().rev() {
            let paint = if index == 0 { Paint::Series(2) } else { Paint::Recording };
            if let Some(lift) = drawable(pair.lift) {
                scene.dot(x, plot.y.at(lift), if index == 0 { 4.0 } else { 2.5 }, paint);
            }
        }
    }
    scene
}

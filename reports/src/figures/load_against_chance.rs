//! How unevenly every layer loads its experts, beside a router that picks uniformly.

use moecast_traces::stats::LayerStats;
use moecast_traces::stats::load::Load;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest, layer_axis};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "load-against-chance",
    about: "unevenness of the expert loads of every layer beside that of a uniform router",
    caption: "Above, the load of a layer's busiest expert over the mean load of its experts; \
              below, the Gini coefficient of the loads (0 is even, near 1 means that one expert \
              takes everything). The dashed line is what as many picks by a uniform router would \
              give: in a short recording even fair dice look uneven, and only what lies above the \
              line is the router's doing.",
    order: 11,
    kind: Kind::Recording { title, rows, draw },
};

/// What is drawn of a layer: axis title, lowest value of the axis, and the two numbers.
struct Panel {
    words: &'static str,
    low: f64,
    found: fn(&LayerStats) -> f64,
    chance: fn(&Load) -> f64,
}

const PANELS: [Panel; 2] = [
    Panel {
        words: "busiest / mean expert load",
        low: 1.0,
        found: |layer| layer.max_over_mean,
        chance: |load| load.max_over_mean,
    },
    Panel {
        words: "Gini coefficient",
        low: 0.0,
        found: |layer| layer.gini,
        chance: |load| load.gini,
    },
];

/// Layers with load, and the same load by chance.
fn loaded(file: &StatsFile) -> impl Iterator<Item = (&LayerStats, &Load)> {
    file.stats.per_layer.iter().filter_map(|layer| Some((layer, layer.null.as_ref()?)))
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    let count = loaded(file).count() as f64;
    if count == 0.0 {
        return Err("no layer has any load");
    }
    let found = loaded(file).map(|(layer, _)| layer.max_over_mean).sum::<f64>() / count;
    let chance = loaded(file).map(|(_, null)| null.max_over_mean).sum::<f64>() / count;
    Ok(format!(
        "A layer's busiest expert has {} times the mean load; chance alone gives {}",
        digits::ratio(found),
        digits::ratio(chance)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let rows = loaded(file).map(|(layer, null)| {
        let numbers = [
            (layer.max_over_mean, null.max_over_mean),
            (layer.cv, null.cv),
            (layer.gini, null.gini),
        ];
        let mut row = vec![Cell::Count(layer.layer.into()), layer.pairs.into()];
        row.extend(numbers.into_iter().flat_map(|(found, null)| [found.into(), null.into()]));
        row
    });
    Rows {
        columns: &[
            "layer",
            "pairs",
            "max_over_mean",
            "null_max_over_mean",
            "cv",
            "null_cv",
            "gini",
            "null_gini",
        ],
        rows: rows.collect(),
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let items = [
        Item::new(Look::Line, Paint::Recording, "this recording"),
        Item::new(Look::Dashes, Paint::Ink, "uniform router"),
    ];
    let mut top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    for panel in &PANELS {
        draw_panel(file, panel, width, &mut scene, top);
        top = scene.height + 14.0;
    }
    scene
}

fn draw_panel(file: &StatsFile, panel: &Panel, width: Width, scene: &mut Scene, top: f64) {
    let (x_range, x_ticks) = layer_axis(&file.layers, scene.width);
    let values =
        loaded(file).flat_map(|(layer, null)| [(panel.found)(layer), (panel.chance)(null)]);
    let plot = Axes {
        titles: ("MoE layer (number in the model)", panel.words),
        x_range,
        x_ticks,
        y: Ticks::around(panel.low, largest(values), 4),
        y_label: Ticks::labelled,
        height: width.pick(180.0, 150.0),
    }
    .draw(scene, top);
    let at = |layer: u16, value: f64| Some((plot.x.at(layer.into()), plot.y.at(drawable(value)?)));
    let chance = loaded(file).filter_map(|(layer, null)| at(layer.layer, (panel.chance)(null)));
    scene.dashed(chance.collect(), Paint::Ink);
    let found: Vec<_> = file
        .stats
        .per_layer
        .iter()
        .map(|layer| layer.null.and_then(|_| at(layer.layer, (panel.found)(layer))))
        .collect();
    scene.curve(&found, Paint::Recording);
}

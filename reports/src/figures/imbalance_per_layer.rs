//! How uneven the ranks are loaded in every layer, per candidate, against the lower bound.

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::{drawable, largest, layer_axis};
use crate::draw::legend::{self, Item, Look};
use crate::draw::paint::candidate;
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "imbalance-per-layer",
    about: "busiest rank over mean rank per layer, a line per candidate, and the lower bound",
    caption: "In every step and layer, the tokens of the busiest rank divided by the mean over \
              the ranks; shown is the mean over the steps. 1 is perfect balance, and 2 means that \
              the layer waits for a rank with twice the mean load. The dashed line is a lower \
              bound of the mean over all layers: no placement with as many slots as the plan \
              gets below it, though a single layer may.",
    order: 2,
    kind: Kind::Run {
        title: "How far the busiest rank of each layer is above the mean",
        rows,
        draw,
    },
};

/// The imbalance of a layer that had load; a layer without any has none.
fn present(value: f64) -> Option<f64> {
    drawable(value).filter(|&value| value > 0.0)
}

fn rows(run: &RunFile) -> Rows {
    let rows = run.candidates.iter().flat_map(|it| {
        let values = run.layers.iter().zip(&it.summary.imbalance_per_layer);
        values.map(|(&layer, &value)| {
            vec![it.name.as_str().into(), u64::from(layer).into(), Cell::Number(value)]
        })
    });
    Rows { columns: &["candidate", "layer", "max_over_mean_rank_load"], rows: rows.collect() }
}

fn draw(run: &RunFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let bound = present(run.imbalance_bound);
    let mut items = legend::candidates(run, Look::Line);
    if let Some(bound) = bound {
        let text = format!("lower bound of the mean, {}", digits::ratio(bound));
        items.push(Item::new(Look::Dashes, Paint::Ink, text));
    }
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;

    let (x_range, x_ticks) = layer_axis(&run.layers, scene.width);
    let values = run.candidates.iter().flat_map(|it| &it.summary.imbalance_per_layer);
    let highest = largest(values.copied().chain(bound)).max(1.0);
    let plot = Axes {
        titles: ("MoE layer (number in the model)", "max / mean rank load, mean over steps"),
        x_range,
        x_ticks,
        y: Ticks::around(1.0, highest, 5),
        y_label: Ticks::labelled,
        height: width.pick(280.0, 220.0),
    }
    .draw(&mut scene, top);

    if let Some(bound) = bound {
        let height = plot.y.at(bound);
        let (left, right) = plot.x.pixels;
        scene.dashes((left, height), (right, height), Paint::Ink);
    }
    for (index, it) in run.candidates.iter().enumerate() {
        let paint = candidate(run, index);
        let values = run.layers.iter().zip(&it.summary.imbalance_per_layer);
        let points: Vec<Option<(f64, f64)>> = values
            .map(|(&layer, &value)| {
                present(value).map(|value| (plot.x.at(f64::from(layer)), plot.y.at(value)))
            })
            .collect();
        scene.curve(&points, paint);
    }
    scene
}

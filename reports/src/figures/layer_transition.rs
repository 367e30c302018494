//! What the experts of one layer tell about those of the next.

use moecast_traces::stats::transition::TransitionStats;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest, layer_axis};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "layer-transition",
    about: "bits that a pick in one layer tells about a pick in the next, beside chance",
    caption: "Mutual information of a pick in a layer and a pick of the same token in the next MoE \
              layer. The dashed line is the same measure after the tokens of the next layer were \
              shuffled: what a recording of this length shows though nothing is there. The \
              distance between the lines is what prefetching experts, or placing experts that \
              follow each other on one rank, can use.",
    order: 20,
    kind: Kind::Recording { title, rows, draw },
};

fn transitions(file: &StatsFile) -> &[TransitionStats] {
    file.stats.transitions.as_deref().unwrap_or(&[])
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let found = transitions(file);
    if found.is_empty() {
        return Err("the model has a single MoE layer");
    }
    let mean = |bits: fn(&TransitionStats) -> f64| {
        digits::significant(found.iter().map(bits).sum::<f64>() / found.len() as f64)
    };
    Ok(format!(
        "A pick tells {} bits about a pick in the next layer; chance alone gives {}",
        mean(|it| it.bits),
        mean(|it| it.null_bits)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let rows = transitions(file).iter().map(|it| {
        let (layer, next) = (Cell::Count(it.layer.into()), Cell::Count(it.next_layer.into()));
        vec![layer, next, it.bits.into(), it.null_bits.into()]
    });
    Rows { columns: &["layer", "next_layer", "bits", "null_bits"], rows: rows.collect() }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let items = [
        Item::new(Look::Line, Paint::Recording, "this recording"),
        Item::new(Look::Dashes, Paint::Ink, "tokens of the next layer shuffled"),
    ];
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let found = transitions(file);
    let layers: Vec<u16> = found.iter().map(|it| it.layer).collect();
    let (x_range, x_ticks) = layer_axis(&layers, scene.width);
    let plot = Axes {
        titles: (
            "MoE layer that tells about the next one",
            "mutual information of a pick and the next layer's pick, bits",
        ),
        x_range,
        x_ticks,
        y: Ticks::around(0.0, largest(found.iter().flat_map(|it| [it.bits, it.null_bits])), 5),
        y_label: Ticks::labelled,
        height: width.pick(240.0, 190.0),
    }
    .draw(&mut scene, top);
    let at = |layer: u16, bits: f64| Some((plot.x.at(layer.into()), plot.y.at(drawable(bits)?)));
    let null = found.iter().filter_map(|it| at(it.layer, it.null_bits));
    scene.dashed(null.collect(), Paint::Ink);
    let bits: Vec<_> = found.iter().map(|it| at(it.layer, it.bits)).collect();
    scene.curve(&bits, Paint::Recording);
    scene
}

//! What a step sends, per class of link and candidate.

use moecast_sim::record::ByteMeans;

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::digits::{byte_unit, with_unit};
use crate::draw::legend::{self, Look};
use crate::draw::paint::candidate;
use crate::draw::{Label, Paint, Scale, Scene, Width};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "link-bytes",
    about: "bytes of a step per class of link, a bar per candidate",
    caption: "Mean bytes of one forward pass over all ranks and layers, dispatch and combine \
              together. Bytes that stay on their rank use no link; bytes between nodes use the \
              slowest.",
    order: 5,
    kind: Kind::Run { title: "What one step sends over which links", rows, draw },
};

/// Name in the table, words in the figure, value.
type Class = (&'static str, &'static str, fn(&ByteMeans) -> f64);

const CLASSES: [Class; 3] = [
    ("local", "stays on the rank", |bytes| bytes.local),
    ("domain", "inside a node or NVLink domain", |bytes| bytes.domain),
    ("network", "between nodes", |bytes| bytes.network),
];

fn rows(run: &RunFile) -> Rows {
    let rows = run.candidates.iter().flat_map(|it| {
        CLASSES.iter().map(|(name, _, value)| {
            let bytes = value(&it.summary.bytes_per_step);
            vec![it.name.as_str().into(), (*name).into(), Cell::Number(bytes)]
        })
    });
    Rows { columns: &["candidate", "link", "bytes_per_step"], rows: rows.collect() }
}

fn draw(run: &RunFile, width: Width) -> Scene {
    const BAR: f64 = 18.0;
    let mut scene = Scene::new(width);
    let mut top = legend::draw(&mut scene, &legend::candidates(run, Look::Box), 0.0) + 10.0;
    let all = run.candidates.iter().map(|it| &it.summary.bytes_per_step);
    let all: Vec<f64> = all.flat_map(|bytes| CLASSES.map(|(_, _, value)| value(bytes))).collect();
    let unit = byte_unit(largest(all.iter().copied()));
    let labels = all.iter().map(|&bytes| Label::new(0.0, 0.0, with_unit(bytes, unit)));
    let widest = labels.map(|label| label.width()).fold(0.0, f64::max);
    let scale = Scale {
        values: (0.0, largest(all.iter().copied())),
        pixels: (0.0, scene.width - widest - 10.0),
    };

    for (_, words, value) in CLASSES {
        scene.text(Label::new(0.0, top + 8.0, words).paint(Paint::Soft));
        top += 18.0;
        for (index, it) in run.candidates.iter().enumerate() {
            let bytes = value(&it.summary.bytes_per_step);
            let end = scale.at(drawable(bytes).unwrap_or(0.0));
            // A hairline where nothing is sent shows that there is a bar.
            scene.fill([0.0, top, end.max(1.0), BAR], candidate(run, index));
            scene.text(Label::new(end + 8.0, top + BAR / 2.0, with_unit(bytes, unit)));
            top += BAR + 3.0;
        }
        top += 11.0;
    }
    scene.height = top;
    scene
}

//! How many experts of a layer a batch wakes.

use moecast_traces::stats::active::ActiveExperts;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "active-experts",
    about: "distinct experts of a layer against the tokens of a batch, beside a uniform router",
    caption: "A batch must read the weights of every expert that one of its tokens picks, so the \
              time of a small batch follows this curve. Shown is the mean over batches and \
              layers: tokens recorded one after the other (what one request, or the server's own \
              batches, look like), tokens drawn from all over the recording, and a router that \
              picks uniformly.",
    order: 15,
    kind: Kind::Recording { title, rows, draw },
};

/// Name, colour, value.
type Line = (&'static str, Paint, fn(&ActiveExperts) -> f64);

const LINES: [Line; 2] = [
    ("tokens in the order of recording", Paint::Recording, |it| it.consecutive),
    ("tokens at random", Paint::Series(2), |it| it.random),
];

fn batches(file: &StatsFile) -> &[ActiveExperts] {
    file.stats.active_experts.as_deref().unwrap_or(&[])
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let chosen = batches(file).iter().rev().find(|it| it.batch <= 64);
    let it = chosen.ok_or("the recording has no tokens")?;
    Ok(format!(
        "{} {} of {} experts per layer; uniform picks would wake {}",
        if it.batch == 1 {
            "A token wakes".to_owned()
        } else {
            format!("{} tokens wake", it.batch)
        },
        digits::significant(it.consecutive),
        file.stats.experts,
        digits::significant(it.null)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let rows = batches(file).iter().map(|it| {
        let numbers = [it.consecutive, it.random, it.null].map(Cell::Number);
        [Cell::Count(it.batch as u64)].into_iter().chain(numbers).collect()
    });
    Rows { columns: &["batch_tokens", "consecutive", "random", "uniform"], rows: rows.collect() }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let items = LINES.map(|(words, paint, _)| Item::new(Look::Line, paint, words));
    let chance = Item::new(Look::Dashes, Paint::Ink, "uniform router");
    let items: Vec<Item> = items.into_iter().chain([chance]).collect();
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let batches = batches(file);
    // Sizes double: every one stands as far from the next. Labels need room.
    let last = batches.len().saturating_sub(1);
    let every = (batches.len() as f64 * 40.0 / scene.width).ceil().max(1.0) as usize;
    let ticks = batches.iter().enumerate().filter(|(index, _)| index.is_multiple_of(every));
    let values = batches.iter().flat_map(|it| [it.consecutive, it.random, it.null]);
    let plot = Axes {
        titles: ("tokens in the batch (log scale)", "distinct experts per layer"),
        x_range: if last > 0 { (0.0, last as f64) } else { (-0.5, 0.5) },
        x_ticks: ticks.map(|(index, it)| (index as f64, it.batch.to_string())).collect(),
        y: Ticks::around(0.0, largest(values), 5),
        y_label: Ticks::labelled,
        height: width.pick(260.0, 200.0),
    }
    .draw(&mut scene, top);
    let line = |value: fn(&ActiveExperts) -> f64| -> Vec<Option<(f64, f64)>> {
        let points = batches.iter().enumerate();
        points
            .map(|(index, it)| Some((plot.x.at(index as f64), plot.y.at(drawable(value(it))?))))
            .collect()
    };
    scene.dashed(line(|it| it.null).into_iter().flatten().collect(), Paint::Ink);
    for (_, paint, value) in LINES.into_iter().rev() {
        scene.curve(&line(value), paint);
    }
    scene
}

//! How much of the time every rank computes, per candidate.

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::{drawable, largest, whole_ticks};
use crate::draw::paint::candidate;
use crate::draw::{Axes, Label, Paint, Scene, Ticks, Width, digits};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "rank-utilisation",
    about: "share of the time that each rank computes, a panel per candidate",
    caption: "The rest is waiting for other ranks and for tokens on their way. The dashed line is \
              the mean over the ranks. All panels have the same scale.",
    order: 4,
    kind: Kind::Run { title: "How much of the time each rank computes", rows, draw },
};

fn rows(run: &RunFile) -> Rows {
    let rows = run.candidates.iter().flat_map(|it| {
        it.summary.rank_utilisation.iter().enumerate().map(|(rank, &share)| {
            vec![it.name.as_str().into(), (rank as u64).into(), Cell::Number(share)]
        })
    });
    Rows { columns: &["candidate", "rank", "utilisation"], rows: rows.collect() }
}

fn draw(run: &RunFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let all = run.candidates.iter().flat_map(|it| &it.summary.rank_utilisation);
    let highest = largest(all.copied()) * 100.0;
    let y = Ticks::around(0.0, if highest > 0.0 { highest } else { 100.0 }, 2);
    for (index, it) in run.candidates.iter().enumerate() {
        let shares: Vec<f64> = it
            .summary
            .rank_utilisation
            .iter()
            .map(|&share| drawable(share).unwrap_or(0.0))
            .collect();
        let count = shares.len().max(1) as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let top = if index == 0 { 0.0 } else { scene.height + 16.0 };
        let note = format!("mean {}", digits::percent(mean));
        let note = Label::new(scene.width, top + 8.0, note).end().paint(Paint::Soft);
        let name = Label::new(0.0, top + 8.0, &it.name).bold();
        scene.text(name.at_most(scene.width - note.width() - 12.0));
        scene.text(note);

        let ranks: Vec<u64> = (0..shares.len() as u64).collect();
        let each = (scene.width - 50.0) / count;
        let ticks = whole_ticks(&ranks, 30.0, |rank| rank as f64 * each);
        let plot = Axes {
            titles: ("rank", "time computing, %"),
            x_range: (-0.5, count - 0.5),
            x_ticks: ticks.into_iter().map(|(rank, text)| (rank as f64, text)).collect(),
            y: y.clone(),
            y_label: Ticks::labelled,
            height: width.pick(110.0, 90.0),
        }
        .draw(&mut scene, top + 18.0);
        let (left, right) = plot.x.pixels;
        // A gap between the bars where they are wide enough to spare one.
        let bar = ((right - left) / count * if count > 200.0 { 1.0 } else { 0.8 }).min(48.0);
        for (rank, &share) in shares.iter().enumerate() {
            let height = plot.y.at(share * 100.0);
            let from = plot.x.at(rank as f64) - bar / 2.0;
            let depth = plot.y.pixels.0 - height;
            scene.fill([from, height, bar, depth], candidate(run, index));
        }
        let height = plot.y.at(mean * 100.0);
        scene.dashes((left, height), (right, height), Paint::Ink);
    }
    scene
}

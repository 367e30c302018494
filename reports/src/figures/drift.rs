//! Whether the popularity of experts moves while the recording goes on.

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, largest};
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "drift",
    about: "how far the popularity of experts moves between windows of time, beside chance",
    caption: "The recording is cut into equal windows of time. Every point is two windows that \
              lie so far apart: the Jensen-Shannon divergence of their expert loads in bits, \
              mean over the layers and over all such pairs; the band reaches from the least to \
              the most different pair. The dashed line is what independent picks from one \
              popularity give. A flat line means that a placement made today holds tomorrow, \
              even where it lies above chance (neighbouring tokens are alike); a line that rises \
              means that it ages.",
    order: 13,
    kind: Kind::Recording { title, rows, draw },
};

/// All pairs of windows that lie equally far apart.
struct Distance {
    windows: usize,
    mean: f64,
    low: f64,
    high: f64,
    null: f64,
}

fn distances(file: &StatsFile) -> Vec<Distance> {
    let drift = &file.stats.drift;
    let parts = drift.parts.len();
    let distance = |windows: usize| {
        let pairs = (windows..parts).filter_map(|b| {
            let a = b - windows;
            let found = drift.jensen_shannon[a][b].and_then(drawable)?;
            Some((found, drift.null_jensen_shannon[a][b].and_then(drawable)?))
        });
        let (found, null): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        (!found.is_empty()).then(|| Distance {
            windows,
            mean: mean(&found),
            low: found.iter().copied().fold(f64::INFINITY, f64::min),
            high: found.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            null: mean(&null),
        })
    };
    (1..parts).filter_map(distance).collect()
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    let distances = distances(file);
    let [near, .., _] = distances.as_slice() else {
        return Err("the recording is too short for three windows of time");
    };
    let far = &distances[distances.len() / 2..];
    let far = far.iter().map(|it| it.mean).sum::<f64>() / far.len() as f64;
    let times = far / near.mean;
    Ok(if times > 1.2 {
        format!(
            "Expert popularity moves: windows far apart differ {} times as much as neighbours",
            digits::significant(times)
        )
    } else {
        "Expert popularity stays: far apart in time, it differs hardly more than nearby".to_owned()
    })
}

fn rows(file: &StatsFile) -> Rows {
    let drift = &file.stats.drift;
    let parts = drift.parts.len();
    let number = |value: Option<f64>| Cell::Number(value.unwrap_or(f64::NAN));
    let pairs = (0..parts).flat_map(|a| (a + 1..parts).map(move |b| (a, b)));
    let rows = pairs.map(|(a, b)| {
        vec![
            drift.parts[a].as_str().into(),
            drift.parts[b].as_str().into(),
            number(drift.cosine[a][b]),
            number(drift.jensen_shannon[a][b]),
            number(drift.null_jensen_shannon[a][b]),
        ]
    });
    Rows {
        columns: &["window_a", "window_b", "cosine", "jensen_shannon_bits", "null_bits"],
        rows: rows.collect(),
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let distances = distances(file);
    let windows = file.stats.drift.parts.len();
    let items = [
        Item::new(Look::Line, Paint::Recording, "mean of the pairs"),
        Item::new(Look::Band, Paint::Recording, "least to most different pair"),
        Item::new(Look::Dashes, Paint::Ink, "chance"),
    ];
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let furthest = distances.last().map_or(1, |it| it.windows).max(2);
    let every = furthest.div_ceil(16);
    let ticks = (1..=furthest).filter(|windows| windows.is_multiple_of(every));
    let title = format!("how far apart, of {windows} windows of equal length");
    let plot = Axes {
        titles: (&title, "difference of the expert loads, bits"),
        x_range: (1.0, furthest as f64),
        x_ticks: ticks.map(|windows| (windows as f64, windows.to_string())).collect(),
        y: Ticks::around(0.0, largest(distances.iter().flat_map(|it| [it.high, it.null])), 5),
        y_label: Ticks::labelled,
        height: width.pick(240.0, 190.0),
    }
    .draw(&mut scene, top);
    let line = |value: fn(&Distance) -> f64| -> Vec<(f64, f64)> {
        let points = distances.iter();
        points.map(|it| (plot.x.at(it.windows as f64), plot.y.at(value(it)))).collect()
    };
    let back = line(|it| it.low).into_iter().rev();
    scene.area(line(|it| it.high).into_iter().chain(back).collect(), Paint::Recording);
    scene.dashed(line(|it| it.null), Paint::Ink);
    let mean: Vec<_> = line(|it| it.mean).into_iter().map(Some).collect();
    scene.curve(&mean, Paint::Recording);
    scene
}

//! How unevenly the recording itself uses the experts, whatever the placement.

use super::{Entry, Kind};
use crate::RunFile;
use crate::draw::axes::largest;
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width, digits};
use crate::tables::Rows;

pub(super) const ENTRY: Entry = Entry {
    name: "expert-popularity",
    about: "share of the tokens per expert, most popular first, against an even share",
    caption: "The experts of every layer are sorted by how often they were chosen. The line is \
              the median over the layers of the share that the first, second, … expert has; the \
              band reaches from the lowest to the highest layer. The dashed line is the share \
              if all experts were chosen alike. A steep start means that few experts are hot.",
    order: 6,
    kind: Kind::Run { title: "How unevenly the tokens choose their experts", rows, draw },
};

/// Lowest, median and highest share over the layers, at one place in the order of popularity.
struct Place {
    low: f64,
    median: f64,
    high: f64,
}

/// Shares of every layer that has tokens, largest first, then across the layers.
fn places(run: &RunFile) -> Vec<Place> {
    let layers: Vec<Vec<f64>> = run
        .popularity
        .iter()
        .filter_map(|layer| {
            let sum = layer.iter().map(|&tokens| tokens as f64).sum::<f64>();
            let mut shares: Vec<f64> = layer.iter().map(|&tokens| tokens as f64 / sum).collect();
            shares.sort_by(|a, b| b.total_cmp(a));
            (sum > 0.0).then_some(shares)
        })
        .collect();
    let experts = layers.iter().map(Vec::len).max().unwrap_or(0);
    (0..experts)
        .map(|place| {
            let mut shares: Vec<f64> =
                layers.iter().filter_map(|layer| layer.get(place).copied()).collect();
            shares.sort_by(f64::total_cmp);
            let middle = shares.len() / 2;
            let median = match shares.len() % 2 {
                0 => f64::midpoint(shares[middle - 1], shares[middle]),
                _ => shares[middle],
            };
            Place { low: shares[0], median, high: shares[shares.len() - 1] }
        })
        .collect()
}

fn rows(run: &RunFile) -> Rows {
    let places = places(run);
    let even = 1.0 / places.len() as f64;
    let rows = places.iter().enumerate().map(|(index, place)| {
        let order = index as u64 + 1;
        vec![order.into(), place.low.into(), place.median.into(), place.high.into(), even.into()]
    });
    Rows {
        columns: &["popularity_order", "lowest_share", "median_share", "highest_share", "even"],
        rows: rows.collect(),
    }
}

fn draw(run: &RunFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let places = places(run);
    let even = 1.0 / places.len().max(1) as f64;
    let layers = run.popularity.len();
    let mut items = vec![Item::new(Look::Line, Paint::Recording, "median layer")];
    if layers > 1 {
        items.push(Item::new(Look::Band, Paint::Recording, format!("all {layers} layers")));
    }
    if !places.is_empty() {
        let text = format!("even share, {}%", digits::significant(even * 100.0));
        items.push(Item::new(Look::Dashes, Paint::Ink, text));
    }
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;

    // Few experts are hot; a logarithmic axis gives them room.
    let last = places.len().max(2);
    let steps = (0..6).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_usize.pow(power)));
    let x_ticks = steps.take_while(|&order| order <= last);
    let highest = largest(places.iter().map(|place| place.high * 100.0)).max(even * 100.0);
    let plot = Axes {
        titles: (
            "experts of a layer, most popular first (log scale)",
            "share of the layer's (token, expert) pairs, %",
        ),
        x_range: (0.0, (last as f64).ln()),
        x_ticks: x_ticks.map(|order| ((order as f64).ln(), order.to_string())).collect(),
        y: Ticks::around(0.0, highest, 5),
        y_label: Ticks::labelled,
        height: width.pick(280.0, 220.0),
    }
    .draw(&mut scene, top);

    let at =
        |index: usize, share: f64| (plot.x.at((index as f64 + 1.0).ln()), plot.y.at(share * 100.0));
    let line = |value: fn(&Place) -> f64| {
        places.iter().enumerate().map(move |(index, place)| at(index, value(place)))
    };
    let back: Vec<_> = line(|place| place.low).collect();
    scene.area(line(|place| place.high).chain(back.into_iter().rev()).collect(), Paint::Recording);
    let height = plot.y.at(even * 100.0);
    if !places.is_empty() {
        scene.dashes((plot.x.pixels.0, height), (plot.x.pixels.1, height), Paint::Ink);
    }
    let median: Vec<_> = line(|place| place.median).collect();
    match median.as_slice() {
        [] => {}
        [(x, y)] => scene.dot(*x, *y, 4.0, Paint::Recording),
        _ => scene.line(median, Paint::Recording, 2.0),
    }
    scene
}

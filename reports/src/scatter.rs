//! Predicted against measured figures, as a picture: one panel a figure, both axes logarithmic.

use crate::Picture;
use crate::draw::{Label, Paint, Scene, Width};

/// One measurement and its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterPoint {
    /// What it belongs to: an engine, for example.
    pub series: String,
    /// Measured; above 0.
    pub measured: f64,
    /// Predicted; above 0.
    pub predicted: f64,
}

const PANEL: f64 = 330.0;

/// Draws `panels`, each a caption and its points.
#[must_use]
pub fn scatter(panels: &[(&str, Vec<ScatterPoint>)], title: &str) -> Picture {
    let about = "predicted against measured; the band is 20% either way";
    Picture::new(scene(panels).with_title(title, about), "scatter", "predicted against measured")
}

fn scene(panels: &[(&str, Vec<ScatterPoint>)]) -> Scene {
    let mut scene = Scene::new(Width::Wide);
    let mut series: Vec<&str> =
        panels.iter().flat_map(|(_, points)| points).map(|point| point.series.as_str()).collect();
    series.sort_unstable();
    series.dedup();
    let paint = |name: &str| {
        let place = series.iter().position(|known| *known == name).unwrap_or(0);
        Paint::Series(place)
    };
    let mut x = 50.0;
    for name in &series {
        scene.dot(x, 10.0, 4.0, paint(name));
        scene.text(Label::new(x + 10.0, 10.0, *name));
        x += 110.0;
    }
    for (place, (caption, points)) in panels.iter().enumerate() {
        let left = 50.0 + place as f64 * (PANEL + 90.0);
        panel(&mut scene, left, caption, points, &paint);
    }
    scene.height = PANEL + 90.0;
    scene
}

fn panel(
    scene: &mut Scene,
    left: f64,
    caption: &str,
    points: &[ScatterPoint],
    paint: &dyn Fn(&str) -> Paint,
) {
    let top = 34.0;
    let usable = || {
        points.iter().filter(|point| {
            [point.measured, point.predicted].iter().all(|value| value.is_finite() && *value > 0.0)
        })
    };
    let all = || usable().flat_map(|point| [point.measured.log10(), point.predicted.log10()]);
    let low = all().fold(f64::INFINITY, f64::min).min(1e9).floor();
    let high = all().fold(f64::NEG_INFINITY, f64::max).max(low + 1.0).ceil();
    let place = |value: f64| (value.log10() - low) / (high - low) * PANEL;
    let (x, y) = (
        |value: f64| left + place(value).clamp(0.0, PANEL),
        |value: f64| top + PANEL - place(value).clamp(0.0, PANEL),
    );
    let (first, last) = (10_f64.powf(low), 10_f64.powf(high));
    let mut decade = low;
    while decade <= high {
        let value = 10_f64.powf(decade);
        scene.line(vec![(x(value), top), (x(value), top + PANEL)], Paint::Grid, 1.0);
        scene.line(vec![(left, y(value)), (left + PANEL, y(value))], Paint::Grid, 1.0);
        let text = format!("{value}");
        scene.text(Label::new(x(value), top + PANEL + 12.0, text.clone()).middle());
        scene.text(Label::new(left - 6.0, y(value), text).end());
        decade += 1.0;
    }
    for factor in [0.8, 1.0, 1.2] {
        let (from, to) = (first.max(first / factor), last.min(last / factor));
        let soft = if factor == 1.0 { Paint::Soft } else { Paint::Grid };
        scene.line(vec![(x(from), y(from * factor)), (x(to), y(to * factor))], soft, 1.2);
    }
    for point in usable() {
        scene.dot(x(point.measured), y(point.predicted), 2.4, paint(&point.series));
    }
    let middle = left + PANEL / 2.0;
    let text = format!("measured {caption}");
    scene.text(Label::new(middle, top + PANEL + 30.0, text).middle().paint(Paint::Soft));
    scene.text(Label::new(left, top - 8.0, format!("predicted {caption}")).paint(Paint::Soft));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_draws_nothing_one_point_and_wild_ones() {
        let point =
            |measured, predicted| ScatterPoint { series: "sglang".to_owned(), measured, predicted };
        let wild = vec![point(1e-6, 1e9), point(0.0, 1.0), point(f64::NAN, 2.0)];
        for points in [vec![], vec![point(10.0, 11.0)], wild] {
            let picture = scatter(&[("TPOT, ms", points)], "title");
            assert!(picture.svg().unwrap().contains("TPOT"));
            assert!(picture.png().unwrap().len() > 100);
        }
    }
}

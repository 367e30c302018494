//! Miss ratios of cache policies over the size of the cache, as a picture.

use crate::Picture;
use crate::draw::axes::drawable;
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Axes, Paint, Scene, Ticks, Width};

/// The points of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct MissCurve {
    /// The policy.
    pub name: String,
    /// Whether it sees the future, and so is a bound.
    pub bound: bool,
    /// Size and miss ratio, by size.
    pub points: Vec<(f64, f64)>,
}

/// Draws `curves` over `sizes`, words for the unit of the horizontal axis.
#[must_use]
pub fn miss_curves(curves: &[MissCurve], sizes: &str, title: &str, about: &str) -> Picture {
    Picture::new(
        scene(curves, sizes).with_title(title, about),
        "cache",
        "miss ratio over the size of the cache",
    )
}

/// Colours that there are; policies beyond them share the grey of the rest.
const COLOURS: usize = 6;

fn scene(curves: &[MissCurve], sizes: &str) -> Scene {
    let mut scene = Scene::new(Width::Wide);
    let mut paints = Vec::new();
    let mut named = 0;
    for curve in curves {
        named += usize::from(!curve.bound);
        let paint = if named < COLOURS { Paint::Series(named) } else { Paint::Series(0) };
        paints.push(if curve.bound { Paint::Ink } else { paint });
    }
    let items = curves.iter().zip(&paints).map(|(curve, &paint)| {
        let bound = if curve.bound { " (bound)" } else { "" };
        let look = if curve.bound { Look::Dashes } else { Look::Line };
        Item::new(look, paint, format!("{}{bound}", curve.name))
    });
    let top = legend::draw(&mut scene, &items.collect::<Vec<_>>(), 0.0) + 6.0;
    let drawn = |curve: &MissCurve| -> Vec<(f64, f64)> {
        let points = curve.points.iter();
        points.filter_map(|&(x, y)| Some((drawable(x)?, drawable(y)?))).collect()
    };
    let largest = curves.iter().flat_map(drawn).map(|(x, _)| x).fold(0.0, f64::max);
    let along = Ticks::around(0.0, largest, 6);
    let axes = Axes {
        titles: (sizes, "miss ratio"),
        x_range: along.range,
        x_ticks: along.labelled(),
        y: Ticks::around(0.0, 1.0, 5),
        y_label: Ticks::labelled,
        height: 320.0,
    };
    let plot = axes.draw(&mut scene, top);
    for (curve, &paint) in curves.iter().zip(&paints) {
        let line: Vec<_> =
            drawn(curve).into_iter().map(|(x, y)| (plot.x.at(x), plot.y.at(y))).collect();
        if line.len() < 30 {
            line.iter().for_each(|&(x, y)| scene.dot(x, y, 3.0, paint));
        }
        if line.len() > 1 && curve.bound {
            scene.dashed(line, paint);
        } else if line.len() > 1 {
            scene.line(line, paint, 1.8);
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_draws_nothing_one_point_and_wild_ones() {
        let curve = |bound, points: &[(f64, f64)]| MissCurve {
            name: "lru".to_owned(),
            bound,
            points: points.to_vec(),
        };
        let wild = curve(true, &[(f64::NAN, 0.1), (1e300, 2.0), (3.0, -1.0)]);
        for curves in [vec![], vec![curve(false, &[(8.0, 0.5)])], vec![wild; 9]] {
            let picture = miss_curves(&curves, "slots", "title", "about");
            assert!(picture.svg().unwrap().contains("miss ratio"));
            assert!(picture.png().unwrap().len() > 100);
        }
    }
}

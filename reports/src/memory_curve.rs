//! Tokens a second over the memory of a GPU, as a picture: plans, baselines, and what was asked.

use crate::Picture;
use crate::draw::axes::drawable;
use crate::draw::legend::{self, Item, Look};
use crate::draw::scene::Label;
use crate::draw::{Axes, Paint, Scene, Ticks, Width};

/// The best plan for one memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryPoint {
    /// Of one GPU, GiB.
    pub memory: f64,
    /// Tokens a second on requests that the search saw.
    pub train: f64,
    /// Tokens a second on requests that it did not see.
    pub heldout: f64,
}

/// What was asked, in the units of the axes.
#[derive(Clone, Debug, PartialEq)]
pub enum AskedOf {
    /// What these memories give, GiB.
    Memories(Vec<f64>),
    /// The memory that a speed needs: tokens a second, and GiB where any memory reaches it.
    Speed(f64, Option<f64>),
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryFigure {
    /// By memory.
    pub points: Vec<MemoryPoint>,
    /// Name, GiB and tokens a second on requests that nobody saw; equal names belong together.
    pub baselines: Vec<(String, f64, f64)>,
    /// What is marked.
    pub asked: AskedOf,
}

/// Rooms for a text beside its line.
const BESIDE: f64 = 6.0;

/// Draws `figure`.
#[must_use]
pub fn memory_curve(figure: &MemoryFigure, title: &str, about: &str) -> Picture {
    Picture::new(
        scene(figure).with_title(title, about),
        "memory",
        "tokens a second over the memory of a GPU",
    )
}

fn scene(figure: &MemoryFigure) -> Scene {
    let mut scene = Scene::new(Width::Wide);
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in &figure.baselines {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let paint = |name: &str| {
        Paint::Series(2 + names.iter().position(|known| *known == name).unwrap_or(0) % 4)
    };
    let mut items = vec![
        Item::new(Look::Line, Paint::Series(1), "best plan, held-out requests"),
        Item::new(Look::Dashes, Paint::Series(0), "the same, training requests"),
    ];
    items.extend(names.iter().map(|name| Item::new(Look::Dot, paint(name), *name)));
    let top = legend::draw(&mut scene, &items, 0.0) + 6.0;
    let (along, up) = ticks(figure);
    let axes = Axes {
        titles: ("memory of one GPU, GiB", "generated tokens a second"),
        x_range: along.range,
        x_ticks: along.labelled(),
        y: up,
        y_label: Ticks::labelled,
        height: 320.0,
    };
    let plot = axes.draw(&mut scene, top);
    let place = |(x, y): (f64, f64)| Some((plot.x.at(drawable(x)?), plot.y.at(drawable(y)?)));
    mark(&mut scene, &figure.asked, plot.x, plot.y);
    let line = |of: fn(&MemoryPoint) -> f64| -> Vec<(f64, f64)> {
        figure.points.iter().filter_map(|point| place((point.memory, of(point)))).collect()
    };
    let train = line(|point| point.train);
    if !train.is_empty() {
        scene.dashed(train, Paint::Series(0));
    }
    let heldout = line(|point| point.heldout);
    heldout.iter().for_each(|&(x, y)| scene.dot(x, y, 3.0, Paint::Series(1)));
    if heldout.len() > 1 {
        scene.line(heldout, Paint::Series(1), 2.0);
    }
    for (name, memory, rate) in &figure.baselines {
        if let Some((x, y)) = place((*memory, *rate)) {
            scene.dot(x, y, 4.5, paint(name));
        }
    }
    scene
}

/// The axes: memory from the smallest that was looked at, speed from 0.
fn ticks(figure: &MemoryFigure) -> (Ticks, Ticks) {
    let wanted = match &figure.asked {
        AskedOf::Memories(_) => None,
        AskedOf::Speed(wanted, _) => Some(*wanted),
    };
    let points = || figure.points.iter();
    let memories = points().map(|point| point.memory);
    let memories: Vec<f64> =
        memories.chain(figure.baselines.iter().map(|own| own.1)).filter_map(drawable).collect();
    let rates = points().flat_map(|point| [point.train, point.heldout]);
    let rates = rates.chain(figure.baselines.iter().map(|own| own.2)).chain(wanted);
    let least = memories.iter().copied().fold(f64::INFINITY, f64::min);
    let most = memories.iter().copied().fold(0.0, f64::max);
    (Ticks::around(least, most, 8), Ticks::around(0.0, crate::draw::axes::largest(rates), 5))
}

/// Marks what was asked, before lines are drawn over it.
fn mark(scene: &mut Scene, asked: &AskedOf, across: crate::draw::Scale, up: crate::draw::Scale) {
    let (bottom, top) = up.pixels;
    let upright = |scene: &mut Scene, memory: f64, what: &str| {
        let Some(value) = drawable(memory) else { return };
        let x = across.at(value);
        scene.dashes((x, top), (x, bottom), Paint::Soft);
        let label = Label::new(x + BESIDE, top - 8.0, format!("{memory:.2} GiB{what}"));
        // A text that would leave the canvas stands before its line.
        let fits = x + BESIDE + label.width() <= scene.width;
        let label = if fits { label } else { Label { x: x - BESIDE, ..label }.end() };
        scene.text(label.size(11.5).paint(Paint::Soft));
    };
    match asked {
        AskedOf::Memories(memories) => {
            memories.iter().for_each(|&memory| upright(scene, memory, ""));
        }
        AskedOf::Speed(wanted, reached) => {
            if let Some(value) = drawable(*wanted) {
                let y = up.at(value);
                scene.dashes((across.pixels.0, y), (across.pixels.1, y), Paint::Soft);
                let text = format!("{wanted} tokens/s asked");
                let label = Label::new(across.pixels.0 + BESIDE, y - 9.0, text);
                scene.text(label.size(11.5).paint(Paint::Soft));
            }
            if let Some(memory) = reached {
                upright(scene, *memory, " needed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(memory: f64, rate: f64) -> MemoryPoint {
        MemoryPoint { memory, train: rate * 1.1, heldout: rate }
    }

    fn drawn(figure: &MemoryFigure) -> String {
        let picture = memory_curve(figure, "title", "about");
        assert!(picture.png().unwrap().len() > 100);
        picture.svg().unwrap()
    }

    #[test]
    fn what_was_asked_is_marked() {
        let mut figure = MemoryFigure {
            points: vec![point(4.0, 10.0), point(8.0, 20.0), point(16.0, 90.0)],
            baselines: vec![("LRU".to_owned(), 8.0, 15.0), ("LRU".to_owned(), 16.0, 80.0)],
            asked: AskedOf::Memories(vec![8.0, 16.0]),
        };
        let text = drawn(&figure);
        assert!(text.contains("8.00 GiB") && text.contains("16.00 GiB"), "{text}");
        assert_eq!(text.matches(">LRU<").count() + text.matches("\nLRU\n").count(), 1, "{text}");
        figure.asked = AskedOf::Speed(60.0, Some(12.5));
        let text = drawn(&figure);
        assert!(text.contains("60 tokens/s asked") && text.contains("12.50 GiB needed"), "{text}");
    }

    #[test]
    fn it_draws_nothing_one_point_and_wild_ones() {
        let wild = vec![point(f64::NAN, 1.0), point(1e300, -2.0), point(3.0, f64::INFINITY)];
        let baseline = ("static".to_owned(), f64::NAN, 1e300);
        for points in [vec![], vec![point(8.0, 0.5)], wild] {
            for asked in [
                AskedOf::Memories(vec![]),
                AskedOf::Memories(vec![f64::NAN, 1e300]),
                AskedOf::Speed(f64::INFINITY, None),
            ] {
                let baselines = vec![baseline.clone(); 7];
                drawn(&MemoryFigure { points: points.clone(), baselines, asked });
            }
        }
    }
}

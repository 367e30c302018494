//! Legends stand above the data, where they hide nothing.

use super::paint::{Paint, candidate};
use super::scene::{Label, Scene};
use crate::RunFile;

/// How an item looks in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A filled box.
    Box,
    /// A line.
    Line,
    /// A dashed line.
    Dashes,
    /// A see-through band.
    Band,
    /// A dot.
    Dot,
}

/// An entry of a legend.
pub(crate) struct Item {
    pub(crate) look: Look,
    pub(crate) paint: Paint,
    pub(crate) text: String,
}

impl Item {
    pub(crate) fn new(look: Look, paint: Paint, text: impl Into<String>) -> Self {
        Self { look, paint, text: text.into() }
    }
}

/// One item per candidate.
pub(crate) fn candidates(run: &RunFile, look: Look) -> Vec<Item> {
    let names = run.candidates.iter().enumerate();
    names.map(|(index, it)| Item::new(look, candidate(run, index), &it.name)).collect()
}

/// Draws the items from `top` on, in as many lines as they need; returns where they end.
pub(crate) fn draw(scene: &mut Scene, items: &[Item], top: f64) -> f64 {
    const LINE: f64 = 22.0;
    let (mut left, mut middle) = (0.0, top + LINE / 2.0);
    for item in items {
        let swatch = if matches!(item.look, Look::Box | Look::Dot) { 12.0 } else { 22.0 };
        let label = Label::new(0.0, middle, &item.text).at_most(scene.width - swatch - 8.0);
        let width = swatch + 7.0 + label.width();
        if left > 0.0 && left + width > scene.width {
            (left, middle) = (0.0, middle + LINE);
        }
        let (from, to) = ((left, middle), (left + swatch, middle));
        match item.look {
            Look::Box => scene.fill([left, middle - 6.0, swatch, 12.0], item.paint),
            Look::Line => scene.line(vec![from, to], item.paint, 2.5),
            Look::Dashes => scene.dashes(from, to, item.paint),
            Look::Dot => scene.dot(left + swatch / 2.0, middle, 3.5, item.paint),
            Look::Band => {
                let (above, below) = (middle - 6.0, middle + 6.0);
                let corners = [(left, above), (to.0, above), (to.0, below), (left, below)];
                scene.area(corners.to_vec(), item.paint);
            }
        }
        scene.text(Label { x: left + swatch + 7.0, y: middle, ..label });
        left += width + 22.0;
    }
    if items.is_empty() { top } else { middle + LINE / 2.0 }
}

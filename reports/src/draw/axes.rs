//! Scales, ticks and the frame of a chart.

use super::paint::Paint;
use super::scene::{Align, Label, Scene};

/// Values beyond this are drawn as if they were this; texts show what they are.
const DRAWN_MAX: f64 = 1e18;

/// `value` as it can be drawn; `None` where it is no number.
pub(crate) fn drawable(value: f64) -> Option<f64> {
    value.is_finite().then(|| value.clamp(-DRAWN_MAX, DRAWN_MAX))
}

/// The largest drawable value, and 0 where there is none.
pub(crate) fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().filter_map(drawable).fold(0.0, f64::max)
}

/// Values to pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Values at both ends; the second is larger.
    pub(crate) values: (f64, f64),
    /// Pixels at both ends.
    pub(crate) pixels: (f64, f64),
}

impl Scale {
    /// The pixel of `value`, which never leaves the ends.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        let share = if share.is_nan() { 0.0 } else { share };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }
}

/// Round values on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    /// First and last value of the axis: multiples of the step.
    pub(crate) range: (f64, f64),
    /// The values, ends included.
    pub(crate) values: Vec<f64>,
    /// Decimal places that tell them apart.
    pub(crate) places: usize,
}

impl Ticks {
    /// Ticks that enclose `low` to `high`, about `count` steps of 1, 2 or 5 times a power of ten.
    pub(crate) fn around(low: f64, high: f64, count: usize) -> Self {
        let low = drawable(low).unwrap_or(0.0);
        let high = drawable(high).filter(|&high| high > low).unwrap_or(low + 1.0);
        let raw = ((high - low) / count.max(1) as f64).max(low.abs().max(1e-9) * 1e-9);
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|&step| step >= raw * (1.0 - 1e-9))
            .unwrap_or(10.0 * power);
        // A hair of room, so that 0.3 / 0.1 does not count as more than three steps.
        let first = (low / step + 1e-6).floor();
        let last = (high / step - 1e-6).ceil().max(first + 1.0);
        let steps = ((last - first) as usize).min(4 * count.max(1));
        let values = (0..=steps).map(|index| (first + index as f64) * step).collect();
        let places = (-step.log10() + 1e-9).ceil().clamp(0.0, 9.0) as usize;
        Self { range: (first * step, last * step), values, places }
    }

    /// Values with their texts.
    pub(crate) fn labelled(&self) -> Vec<(f64, String)> {
        let text = |value: f64| match value.abs() >= 1e6 {
            true => format!("{value:.0e}"),
            false => format!("{value:.*}", self.places),
        };
        self.values.iter().map(|&value| (value, text(value))).collect()
    }
}

/// Whole numbers among `values` that are labelled on an axis: multiples of 1, 2, 5, 10 and so on,
/// at least `apart` pixels from each other, where `at` says where value number `i` stands.
pub(crate) fn whole_ticks(
    values: &[u64],
    apart: f64,
    at: impl Fn(usize) -> f64,
) -> Vec<(usize, String)> {
    let pick = |step: u64| {
        let mut chosen: Vec<usize> = Vec::new();
        for index in (0..values.len()).filter(|&index| values[index].is_multiple_of(step)) {
            match chosen.last() {
                Some(&last) if (at(index) - at(last)).abs() < apart => return Err(()),
                _ => chosen.push(index),
            }
        }
        Ok(chosen)
    };
    let steps = (0..6).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_u64.pow(power)));
    let chosen = steps.map(pick).find_map(std::result::Result::ok).unwrap_or_default();
    let chosen = if chosen.is_empty() && !values.is_empty() { vec![0] } else { chosen };
    chosen.into_iter().map(|index| (index, values[index].to_string())).collect()
}

/// An axis of MoE layers, by their numbers in the model: its ends and its labelled values.
pub(crate) fn layer_axis(layers: &[u16], width: f64) -> ((f64, f64), Vec<(f64, String)>) {
    let layers: Vec<u64> = layers.iter().map(|&layer| u64::from(layer)).collect();
    let first = layers.iter().min().copied().unwrap_or(0) as f64;
    let last = layers.iter().max().copied().unwrap_or(0) as f64;
    // One layer stands in the middle of the axis.
    let room = if first < last { 0.0 } else { 0.5 };
    let range = (first - room, last + room);
    let shown = |layer: u64| (layer as f64 - range.0) / (range.1 - range.0);
    let ticks = whole_ticks(&layers, 34.0, |index| shown(layers[index]) * (width - 50.0));
    (range, ticks.into_iter().map(|(index, text)| (layers[index] as f64, text)).collect())
}

/// The frame of a chart with two axes.
pub(crate) struct Axes<'a> {
    /// What the axes show, with units.
    pub(crate) titles: (&'a str, &'a str),
    /// Ends of the horizontal axis.
    pub(crate) x_range: (f64, f64),
    /// Its labelled values.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// The vertical axis.
    pub(crate) y: Ticks,
    /// Texts of its ticks, where plain numbers will not do.
    pub(crate) y_label: fn(&Ticks) -> Vec<(f64, String)>,
    /// Height of the plot itself.
    pub(crate) height: f64,
}

/// Where values stand in a drawn frame.
pub(crate) struct Plot {
    pub(crate) x: Scale,
    pub(crate) y: Scale,
}

impl Axes<'_> {
    /// Draws the frame from `top` on and sets the height of the scene to where it ends.
    pub(crate) fn draw(&self, scene: &mut Scene, top: f64) -> Plot {
        const GAP: f64 = 8.0;
        scene.text(Label::new(0.0, top + 8.0, self.titles.1).paint(Paint::Soft).size(11.5));
        let (top, bottom) = (top + 28.0, top + 28.0 + self.height);
        let labels = (self.y_label)(&self.y);
        let widths = labels.iter().map(|(_, text)| Label::new(0.0, 0.0, text).width());
        let left = widths.fold(0.0, f64::max) + GAP;
        let right = scene.width - 14.0;
        let x = Scale { values: self.x_range, pixels: (left + 6.0, right) };
        let y = Scale { values: self.y.range, pixels: (bottom, top) };

        for (index, (value, text)) in labels.into_iter().enumerate() {
            let height = y.at(value);
            let paint = if index == 0 { Paint::Soft } else { Paint::Grid };
            scene.line(vec![(left, height), (right, height)], paint, 1.0);
            scene.text(Label::new(left - GAP, height, text).end().paint(Paint::Soft));
        }
        for (value, text) in &self.x_ticks {
            let place = x.at(*value);
            scene.line(vec![(place, bottom), (place, bottom + 4.0)], Paint::Soft, 1.0);
            scene.text(kept_inside(Label::new(place, bottom + 14.0, text), scene.width));
        }
        let middle = f64::midpoint(left, right);
        let title = Label::new(middle, bottom + 34.0, self.titles.0).middle();
        scene.text(title.paint(Paint::Soft).size(11.5));
        scene.height = bottom + 44.0;
        Plot { x, y }
    }
}

/// A tick label in the middle of its tick, or at the edge where it would leave the canvas.
fn kept_inside(label: Label, width: f64) -> Label {
    let label = label.paint(Paint::Soft);
    if label.x + label.width() / 2.0 > width {
        Label { x: width, align: Align::End, ..label }
    } else {
        label.middle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let ticks = Ticks::around(1.0, 2.37, 5);
        assert_eq!((ticks.range, ticks.places), ((1.0, 2.5), 1));
        let texts: Vec<String> = ticks.labelled().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["1.0", "1.5", "2.0", "2.5"]);
        assert_eq!(Ticks::around(0.0, 0.3, 3).values.len(), 4);
    }

    #[test]
    fn ticks_survive_every_number() {
        for (low, high) in
            [(0.0, 0.0), (f64::NAN, f64::NAN), (0.0, f64::MAX), (1e18, 1e18), (5.0, 1.0)]
        {
            let ticks = Ticks::around(low, high, 5);
            assert!(ticks.range.0 < ticks.range.1, "{low} {high}: {ticks:?}");
            assert!((2..=21).contains(&ticks.values.len()), "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn whole_ticks_keep_their_distance() {
        let layers: Vec<u64> = (3..61).collect();
        let texts = |apart| {
            let ticks = whole_ticks(&layers, apart, |index| index as f64 * 5.0);
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts(30.0), ["10", "20", "30", "40", "50", "60"]);
        assert_eq!(texts(1e9), ["50"]);
        assert_eq!(whole_ticks(&[], 1.0, |_| 0.0), []);
    }

    #[test]
    fn a_scale_never_leaves_its_ends() {
        let scale = Scale { values: (0.0, 2.0), pixels: (100.0, 0.0) };
        let places = [0.5, -3.0, 9.0, f64::NAN].map(|value| scale.at(value));
        assert_eq!(places, [75.0, 100.0, 0.0, 100.0]);
    }
}

//! A drawing before it is drawn: marks on a canvas whose unit is one CSS pixel.

use super::paint::Paint;
use super::render::text_width;

/// For which width a figure is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A page, a slide, a file.
    Wide,
    /// A phone held upright.
    Narrow,
}

impl Width {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(crate) fn pixels(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 360.0,
        }
    }

    /// One of two values, for what differs between the layouts.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// Where a text starts from its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Start,
    Middle,
    End,
}

/// One line of text, its middle line at `y`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
    pub(crate) size: f64,
    pub(crate) bold: bool,
    pub(crate) align: Align,
    pub(crate) paint: Paint,
}

impl Label {
    /// Text of ordinary size that starts at `x`.
    pub(crate) fn new(x: f64, y: f64, text: impl Into<String>) -> Self {
        let (size, bold, align, paint) = (12.0, false, Align::Start, Paint::Ink);
        Self { x, y, text: printable(&text.into()), size, bold, align, paint }
    }

    pub(crate) fn middle(self) -> Self {
        Self { align: Align::Middle, ..self }
    }

    pub(crate) fn end(self) -> Self {
        Self { align: Align::End, ..self }
    }

    pub(crate) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(crate) fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(crate) fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// Shortens the text with an ellipsis until it is at most `width` wide.
    pub(crate) fn at_most(mut self, width: f64) -> Self {
        if self.width() > width {
            let characters: Vec<char> = self.text.chars().collect();
            let fits = |kept: &usize| {
                let text: String = characters[..*kept].iter().collect();
                text_width(&format!("{text}…"), self.size, self.bold) <= width
            };
            // A width grows with every character, so the longest that fits is found by halving.
            let (mut low, mut high) = (0, characters.len());
            while low < high {
                let middle = (low + high).div_ceil(2);
                if fits(&middle) { low = middle } else { high = middle - 1 }
            }
            let kept: String = characters[..low].iter().collect();
            self.text = format!("{}…", kept.trim_end());
        }
        self
    }

    pub(crate) fn width(&self) -> f64 {
        text_width(&self.text, self.size, self.bold)
    }

    /// Left, top, right, bottom.
    #[cfg(test)]
    pub(crate) fn bounds(&self) -> [f64; 4] {
        let width = self.width();
        let left = match self.align {
            Align::Start => self.x,
            Align::Middle => self.x - width / 2.0,
            Align::End => self.x - width,
        };
        [left, self.y - self.size / 2.0, left + width, self.y + self.size / 2.0]
    }
}

/// Text without what XML cannot hold and what would turn the reading direction around.
fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Something on the canvas.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// A filled rectangle: left, top, width, height.
    Box { at: [f64; 4], paint: Paint },
    /// A line through points.
    Line { points: Vec<(f64, f64)>, paint: Paint, width: f64, dashed: bool },
    /// A filled polygon, see-through.
    Area { points: Vec<(f64, f64)>, paint: Paint },
    /// A filled circle.
    Dot { x: f64, y: f64, radius: f64, paint: Paint },
    /// Text.
    Text(Label),
}

impl Mark {
    fn shift(&mut self, right: f64, down: f64) {
        match self {
            Self::Box { at, .. } => {
                at[0] += right;
                at[1] += down;
            }
            Self::Line { points, .. } | Self::Area { points, .. } => {
                for point in points {
                    point.0 += right;
                    point.1 += down;
                }
            }
            Self::Dot { x, y, .. } | Self::Text(Label { x, y, .. }) => {
                *x += right;
                *y += down;
            }
        }
    }
}

/// A finished drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) marks: Vec<Mark>,
}

impl Scene {
    /// An empty canvas; its height is what the figure sets in the end.
    pub(crate) fn new(width: Width) -> Self {
        Self { width: width.pixels(), height: 0.0, marks: Vec::new() }
    }

    pub(crate) fn text(&mut self, label: Label) {
        if !label.text.is_empty() {
            self.marks.push(Mark::Text(label));
        }
    }

    pub(crate) fn fill(&mut self, at: [f64; 4], paint: Paint) {
        self.marks.push(Mark::Box { at, paint });
    }

    pub(crate) fn line(&mut self, points: Vec<(f64, f64)>, paint: Paint, width: f64) {
        self.marks.push(Mark::Line { points, paint, width, dashed: false });
    }

    pub(crate) fn dashes(&mut self, from: (f64, f64), to: (f64, f64), paint: Paint) {
        self.dashed(vec![from, to], paint);
    }

    /// A dashed line through the points; one that stands alone is a dot.
    pub(crate) fn dashed(&mut self, points: Vec<(f64, f64)>, paint: Paint) {
        if let [(x, y)] = points[..] {
            return self.dot(x, y, 3.0, paint);
        }
        self.marks.push(Mark::Line { points, paint, width: 1.5, dashed: true });
    }

    /// A line through the points that are there; one that stands alone is a dot.
    pub(crate) fn curve(&mut self, points: &[Option<(f64, f64)>], paint: Paint) {
        for stretch in points.split(Option::is_none) {
            let stretch: Vec<(f64, f64)> = stretch.iter().copied().flatten().collect();
            match stretch.as_slice() {
                [] => {}
                [(x, y)] => self.dot(*x, *y, 4.0, paint),
                _ => self.line(stretch, paint, 2.0),
            }
        }
    }

    pub(crate) fn area(&mut self, points: Vec<(f64, f64)>, paint: Paint) {
        self.marks.push(Mark::Area { points, paint });
    }

    pub(crate) fn dot(&mut self, x: f64, y: f64, radius: f64, paint: Paint) {
        self.marks.push(Mark::Dot { x, y, radius, paint });
    }

    /// The same drawing as a sheet of its own: margins, a title and a line of provenance.
    pub(crate) fn with_title(mut self, title: &str, provenance: &str) -> Self {
        const MARGIN: f64 = 24.0;
        const HEAD: f64 = 72.0;
        for mark in &mut self.marks {
            mark.shift(MARGIN, HEAD);
        }
        let room = self.width;
        self.width += 2.0 * MARGIN;
        self.height += HEAD + MARGIN;
        self.text(Label::new(MARGIN, 28.0, title).size(17.0).bold().at_most(room));
        self.text(Label::new(MARGIN, 51.0, provenance).paint(Paint::Soft).at_most(room));
        self
    }
}

//! A [`Scene`] on plotters' backends.

use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, register_font};

use super::paint::{Paint, Rgb};
use super::scene::{Align, Label, Mark, Scene};
use super::svg;
use crate::error::{Error, Result};

/// The font that is compiled in; no font of the machine is ever read.
const FAMILY: &str = "moecast";
/// Device pixels per scene pixel of an SVG: fine enough that whole numbers do not show.
const SVG_FACTOR: u32 = 2;
/// Samples per scene pixel and axis of a PNG. Two by two samples make one of its pixels.
const PNG_FACTOR: u32 = 4;
/// A PNG with more samples than this is refused instead of exhausting the memory.
const SAMPLES_MAX: u64 = 1 << 28;
/// Size of a font as plotters' SVG backend counts it, per em.
const SVG_EM: f64 = 1.24;
/// The same for its font rasteriser: ascent and descent of DejaVu Sans.
const RASTER_EM: f64 = 1.164;
/// How much lower, in em, the SVG backend sets a line that is centred on a point.
const RASTER_DROP: f64 = 0.16;
/// Length of a dash and of the gap behind it.
const DASH: (f64, f64) = (6.0, 4.0);

fn fonts() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // A font that cannot be parsed would be answered by every drawing with an error.
        let _ = register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular());
        let _ = register_font(FAMILY, FontStyle::Bold, dejavu::sans::bold());
    });
}

fn font(pixels: f64, bold: bool) -> FontDesc<'static> {
    fonts();
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FAMILY), pixels, style)
}

/// Width of a line of text in scene pixels.
pub(crate) fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    const PRECISION: f64 = 16.0;
    let layout = font(size * RASTER_EM * PRECISION, bold).layout_box(text);
    layout.map_or(text.len() as f64 * size, |(_, (right, _))| f64::from(right) / PRECISION)
}

/// How a backend is to be drawn on.
struct Pen {
    factor: f64,
    colour: fn(Paint) -> Rgb,
    raster: bool,
}

impl Pen {
    fn point(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.factor).round() as i32, (y * self.factor).round() as i32)
    }

    fn colour(&self, paint: Paint) -> RGBColor {
        let [red, green, blue] = (self.colour)(paint);
        RGBColor(red, green, blue)
    }

    fn stroke(&self, width: f64) -> u32 {
        (width * self.factor).round().max(1.0) as u32
    }

    fn draw<B: DrawingBackend>(&self, scene: &Scene, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        for mark in &scene.marks {
            match mark {
                Mark::Box { at: [left, top, width, height], paint } => {
                    let (from, to) = ((*left, *top), (left + width, top + height));
                    let corners = [self.point(from), self.point(to)];
                    area.draw(&Rectangle::new(corners, self.colour(*paint).filled()))?;
                }
                Mark::Line { points, paint, width, dashed } => {
                    let style = self.colour(*paint).stroke_width(self.stroke(*width));
                    let pieces = if *dashed { dashes(points) } else { vec![points.clone()] };
                    for piece in pieces {
                        self.line(area, &piece, style)?;
                    }
                }
                Mark::Area { points, paint } => {
                    let points: Vec<_> = points.iter().map(|&point| self.point(point)).collect();
                    area.draw(&Polygon::new(points, self.colour(*paint).mix(0.25).filled()))?;
                }
                Mark::Dot { x, y, radius, paint } => {
                    let radius = (radius * self.factor).round() as i32;
                    let style = self.colour(*paint).filled();
                    area.draw(&Circle::new(self.point((*x, *y)), radius, style))?;
                }
                Mark::Text(label) => self.text(area, label)?,
            }
        }
        area.present()
    }

    fn line<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        points: &[(f64, f64)],
        style: ShapeStyle,
    ) -> Drawn<B> {
        let mut points: Vec<_> = points.iter().map(|&point| self.point(point)).collect();
        points.dedup();
        if !self.raster {
            return area.draw(&PathElement::new(points, style));
        }
        // The rasteriser's own joints grow spikes at sharp turns; round ones do not.
        let radius = style.stroke_width as i32 / 2;
        for pair in points.windows(2) {
            area.draw(&PathElement::new(pair.to_vec(), style))?;
        }
        for &joint in points.iter().skip(1).take(points.len().saturating_sub(2)) {
            area.draw(&Circle::new(joint, radius, style.filled()))?;
        }
        Ok(())
    }

    fn text<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, label: &Label) -> Drawn<B> {
        let align = match label.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let (em, drop) = if self.raster { (RASTER_EM, RASTER_DROP) } else { (SVG_EM, 0.0) };
        let style = font(label.size * self.factor * em, label.bold)
            .color(&self.colour(label.paint))
            .pos(Pos::new(align, VPos::Center));
        let at = self.point((label.x, label.y + drop * label.size));
        area.draw(&Text::new(label.text.as_str(), at, style))
    }
}

type Drawn<B> = std::result::Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// The dashes of a line between two points.
fn dashes(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let period = DASH.0 + DASH.1;
    let mut pieces = Vec::new();
    // How much of the current dash and gap lies on the pairs before.
    let mut walked = 0.0;
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (right, down) = (to.0 - from.0, to.1 - from.1);
        let length = right.hypot(down);
        let at = |place: f64| {
            let share = place / length;
            (from.0 + share * right, from.1 + share * down)
        };
        let mut start = -walked;
        while start < length {
            let (first, last) = (start.max(0.0), (start + DASH.0).min(length));
            if first < last {
                pieces.push(vec![at(first), at(last)]);
            }
            start += period;
        }
        walked = length - (start - period);
    }
    pieces
}

fn failed(figure: &str, cause: impl std::fmt::Display) -> Error {
    Error::Draw { figure: figure.to_owned(), cause: cause.to_string() }
}

fn size(scene: &Scene, factor: u32) -> (u32, u32) {
    let pixels = |length: f64| length.ceil() as u32 * factor;
    (pixels(scene.width), pixels(scene.height))
}

fn raw_svg(scene: &Scene, colour: fn(Paint) -> Rgb, figure: &str) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size(scene, SVG_FACTOR)).into_drawing_area();
    let pen = Pen { factor: f64::from(SVG_FACTOR), colour, raster: false };
    pen.draw(scene, &area).map_err(|error| failed(figure, error))?;
    drop(area);
    Ok(text)
}

/// A file of its own, on white.
pub(crate) fn svg_file(scene: &Scene, figure: &str, title: &str) -> Result<String> {
    let raw = raw_svg(scene, Paint::on_paper, figure)?;
    Ok(svg::file(&raw, size(scene, 1), size(scene, SVG_FACTOR), title))
}

/// An element of the page: no ground, and colours that follow its mode.
pub(crate) fn svg_inline(scene: &Scene, figure: &str, class: &str, title: &str) -> Result<String> {
    let raw = raw_svg(scene, Paint::stand_in, figure)?;
    Ok(svg::inline(&raw, size(scene, SVG_FACTOR), class, title))
}

/// A PNG on white, two pixels per scene pixel.
pub(crate) fn png(scene: &Scene, figure: &str) -> Result<Vec<u8>> {
    let (width, height) = size(scene, PNG_FACTOR);
    if u64::from(width) * u64::from(height) > SAMPLES_MAX {
        return Err(failed(figure, format!("{width} x {height} samples are too many for a PNG")));
    }
    let mut samples = vec![u8::MAX; width as usize * height as usize * 3];
    let area = BitMapBackend::with_buffer(&mut samples, (width, height)).into_drawing_area();
    let pen = Pen { factor: f64::from(PNG_FACTOR), colour: Paint::on_paper, raster: true };
    pen.draw(scene, &area).map_err(|error| failed(figure, error))?;
    drop(area);

    let (width, height) = (width / 2, height / 2);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().map_err(|error| failed(figure, error))?;
    let pixels = halve(&samples, width as usize, height as usize);
    writer.write_image_data(&pixels).map_err(|error| failed(figure, error))?;
    writer.finish().map_err(|error| failed(figure, error))?;
    Ok(bytes)
}

/// Means of two by two samples. `width` and `height` are those of the result.
fn halve(samples: &[u8], width: usize, height: usize) -> Vec<u8> {
    let stride = width * 2 * 3;
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            for channel in 0..3 {
                let at = row * 2 * stride + column * 2 * 3 + channel;
                let four = [at, at + 3, at + stride, at + stride + 3];
                let sum: u16 = four.iter().map(|&index| u16::from(samples[index])).sum();
                pixels.push((sum / 4) as u8);
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_font_measures_text() {
        let (short, long) = (text_width("rank", 12.0, false), text_width("rank rank", 12.0, false));
        assert!(short > 20.0 && short < 40.0, "{short}");
        assert!(long > 2.0 * short, "{long}");
        assert!(text_width("rank", 12.0, true) > short);
    }

    #[test]
    fn dashes_stay_on_the_line() {
        let pieces = dashes(&[(0.0, 5.0), (25.0, 5.0)]);
        let ends: Vec<(f64, f64)> = pieces.iter().map(|piece| (piece[0].0, piece[1].0)).collect();
        assert_eq!(ends, [(0.0, 6.0), (10.0, 16.0), (20.0, 25.0)]);
        assert!(dashes(&[(3.0, 3.0), (3.0, 3.0)]).is_empty());
        // Around a corner the pattern goes on: two dashes, the second one bent after two pixels.
        let bent = dashes(&[(0.0, 0.0), (12.0, 0.0), (12.0, 9.0)]);
        let lengths =
            bent.iter().map(|piece| (piece[1].0 - piece[0].0).hypot(piece[1].1 - piece[0].1));
        assert_eq!(lengths.collect::<Vec<_>>(), [6.0, 2.0, 4.0, 1.0]);
    }

    #[test]
    fn halving_takes_the_mean() {
        let samples = [0, 0, 0, 100, 0, 0, 100, 0, 0, 200, 0, 8];
        assert_eq!(halve(&samples, 1, 1), [100, 0, 2]);
    }
}

//! From numbers to pictures: figures put marks on a [`Scene`], plotters turns it into SVG and PNG.

pub(crate) mod axes;
pub(crate) mod digits;
pub(crate) mod legend;
pub(crate) mod paint;
pub(crate) mod render;
pub(crate) mod scene;
mod svg;

pub(crate) use axes::{Axes, Scale, Ticks};
pub(crate) use paint::Paint;
pub(crate) use scene::Label;
pub use scene::{Scene, Width};

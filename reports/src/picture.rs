//! A drawing that stands alone, in the formats that people keep.

use crate::Result;
use crate::draw::{Scene, render};

/// A drawing that stands alone.
pub struct Picture {
    scene: Scene,
    name: &'static str,
    about: &'static str,
}

impl Picture {
    /// `scene`, which readers who cannot see it know as `about`; `name` is that of its kind.
    pub(crate) fn new(scene: Scene, name: &'static str, about: &'static str) -> Self {
        Self { scene, name, about }
    }

    /// As an SVG file.
    ///
    /// # Errors
    /// When the drawing library gives up.
    pub fn svg(&self) -> Result<String> {
        render::svg_file(&self.scene, self.name, self.about)
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// When the drawing library gives up, or the picture would be enormous.
    pub fn png(&self) -> Result<Vec<u8>> {
        render::png(&self.scene, self.name)
    }
}

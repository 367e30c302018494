//! Figures: one file each, one line in [`ALL`].

use moecast_profiles::registry::{self, Named};

use crate::RunFile;
use crate::draw::render;
use crate::draw::{Scene, Width};
use crate::error::Result;
use crate::tables::Rows;

mod expert_popularity;
mod imbalance_per_layer;
mod link_bytes;
mod load_heatmap;
mod rank_utilisation;
mod step_time;

/// A figure.
pub struct Entry {
    /// Name, also of its files.
    pub name: &'static str,
    /// One line: what the reader sees in it.
    pub about: &'static str,
    /// The sentence above it.
    pub title: &'static str,
    /// What one must know to read it.
    pub caption: &'static str,
    /// Where it stands on the page: what matters most comes first.
    pub order: u8,
    /// The numbers in it.
    pub rows: fn(&RunFile) -> Rows,
    /// The drawing, laid out for a width. Every run can be drawn, one without data too.
    pub draw: fn(&RunFile, Width) -> Scene,
}

impl Named for Entry {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

/// Every figure, alphabetical.
pub const ALL: &[Entry] = &[
    expert_popularity::ENTRY,
    imbalance_per_layer::ENTRY,
    link_bytes::ENTRY,
    load_heatmap::ENTRY,
    rank_utilisation::ENTRY,
    step_time::ENTRY,
];

/// The figure called `name`.
///
/// # Errors
/// When no figure has that name.
pub fn find(name: &str) -> Result<&'static Entry> {
    Ok(registry::find("figure", ALL, name)?)
}

impl Entry {
    /// The figure as an SVG file on white, with its title and a line that says what was simulated.
    ///
    /// # Errors
    /// When the drawing library gives up.
    pub fn svg(&self, run: &RunFile) -> Result<String> {
        render::svg_file(&self.sheet(run), self.name, self.title)
    }

    /// The same as a PNG file, two pixels per pixel of the SVG.
    ///
    /// # Errors
    /// When the drawing library gives up, or the picture would be enormous.
    pub fn png(&self, run: &RunFile) -> Result<Vec<u8>> {
        render::png(&self.sheet(run), self.name)
    }

    /// The figure as an element of the page.
    pub(crate) fn inline(&self, run: &RunFile, width: Width) -> Result<String> {
        let class = width.pick("wide", "narrow");
        render::svg_inline(&(self.draw)(run, width), self.name, class, self.title)
    }

    fn sheet(&self, run: &RunFile) -> Scene {
        (self.draw)(run, Width::Wide).with_title(self.title, &provenance(run))
    }
}

/// What a figure that travels alone must carry with it.
fn provenance(run: &RunFile) -> String {
    let synthetic = if run.trace.synthetic { "synthetic recording · " } else { "" };
    let part = match run.trace.part.as_str() {
        "heldout" => "held-out part",
        "train" => "training part",
        _ => "whole recording",
    };
    format!("{synthetic}{} on {} · {} ({part})", run.model, run.cluster, run.trace.source)
}

#[cfg(test)]
mod tests;

//! Figures: one file each, one line in [`ALL`].

use moecast_profiles::registry;

use crate::draw::{Scene, Width, digits, render};
use crate::error::Result;
use crate::tables::Rows;
use crate::{RunFile, StatsFile, StudyFile, Subject};

mod active_experts;
mod cache_hit_rate;
mod coactivation;
mod domain_drift;
mod drift;
mod expert_popularity;
mod imbalance_per_layer;
mod layer_transition;
mod link_bytes;
mod load_against_chance;
mod load_heatmap;
mod published_check;
mod rank_utilisation;
mod reuse_distance;
mod srp;
mod step_time;
mod throughput_latency;

/// A figure.
pub struct Entry {
    /// Name, also of its files.
    pub name: &'static str,
    /// One line: what the reader sees in it.
    pub about: &'static str,
    /// What one must know to read it.
    pub caption: &'static str,
    /// Where it stands on the page: what matters most comes first.
    pub order: u8,
    /// What it is drawn from, and how.
    pub kind: Kind,
}

/// What a figure is drawn from, the sentence above it, the numbers in it, and the drawing, laid
/// out for a width.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A run. Every run can be drawn, one without data too.
    Run {
        /// The sentence above it.
        title: &'static str,
        /// The numbers in it.
        rows: fn(&RunFile) -> Rows,
        /// The drawing.
        draw: fn(&RunFile, Width) -> Scene,
    },
    /// The recording alone.
    Recording {
        /// The sentence above it; or, where there is nothing to draw, why not.
        title: fn(&StatsFile) -> std::result::Result<String, &'static str>,
        /// The numbers in it. Only asked where there is a title.
        rows: fn(&StatsFile) -> Rows,
        /// The drawing. Only asked where there is a title.
        draw: fn(&StatsFile, Width) -> Scene,
    },
    /// A study.
    Study {
        /// The sentence above it; or, where there is nothing to draw, why not.
        title: fn(&StudyFile) -> std::result::Result<String, &'static str>,
        /// The numbers in it.
        rows: fn(&StudyFile) -> Rows,
        /// The drawing. Only asked where there is a title.
        draw: fn(&StudyFile, Width) -> Scene,
    },
}

moecast_profiles::named!(Entry);

/// Every figure, alphabetical.
pub const ALL: &[Entry] = &[
    active_experts::ENTRY,
    cache_hit_rate::ENTRY,
    coactivation::ENTRY,
    domain_drift::ENTRY,
    drift::ENTRY,
    expert_popularity::ENTRY,
    imbalance_per_layer::ENTRY,
    layer_transition::ENTRY,
    link_bytes::ENTRY,
    load_against_chance::ENTRY,
    load_heatmap::ENTRY,
    published_check::ENTRY,
    rank_utilisation::ENTRY,
    reuse_distance::ENTRY,
    srp::ENTRY,
    step_time::ENTRY,
    throughput_latency::ENTRY,
];

/// The figure called `name`.
///
/// # Errors
/// When no figure has that name.
pub fn find(name: &str) -> Result<&'static Entry> {
    Ok(registry::find("figure", ALL, name)?)
}

/// A figure together with what it is drawn from.
pub struct Figure<'a> {
    /// Its entry.
    pub entry: &'static Entry,
    /// The sentence above it.
    pub title: String,
    /// What is drawn.
    source: Source<'a>,
}

/// One kind of figure, and what that kind is drawn from.
enum Source<'a> {
    Run(&'a RunFile, fn(&RunFile) -> Rows, fn(&RunFile, Width) -> Scene),
    Recording(&'a StatsFile, fn(&StatsFile) -> Rows, fn(&StatsFile, Width) -> Scene),
    Study(&'a StudyFile, fn(&StudyFile) -> Rows, fn(&StudyFile, Width) -> Scene),
}

impl Entry {
    /// The figure of `subject`, or why there is none; `None` where the subject is not of the kind
    /// that this is a figure of.
    #[must_use]
    pub fn of<'a>(
        &'static self,
        subject: Subject<'a>,
    ) -> Option<std::result::Result<Figure<'a>, &'static str>> {
        let (title, source) = match self.kind {
            Kind::Run { title, rows, draw } => {
                (Ok(title.to_owned()), Source::Run(subject.run()?, rows, draw))
            }
            Kind::Recording { title, rows, draw } => {
                let stats = subject.stats()?;
                (title(stats), Source::Recording(stats, rows, draw))
            }
            Kind::Study { title, rows, draw } => {
                let study = subject.study()?;
                (title(study), Source::Study(study, rows, draw))
            }
        };
        Some(title.map(|title| Figure { entry: self, title, source }))
    }
}

impl Figure<'_> {
    /// The numbers in it.
    #[must_use]
    pub fn rows(&self) -> Rows {
        match self.source {
            Source::Run(run, rows, _) => rows(run),
            Source::Recording(stats, rows, _) => rows(stats),
            Source::Study(study, rows, _) => rows(study),
        }
    }

    /// The drawing, without its title.
    #[must_use]
    pub fn draw(&self, width: Width) -> Scene {
        match self.source {
            Source::Run(run, _, draw) => draw(run, width),
            Source::Recording(stats, _, draw) => draw(stats, width),
            Source::Study(study, _, draw) => draw(study, width),
        }
    }

    /// The figure as an SVG file on white, with its title and a line that says what it is from.
    ///
    /// # Errors
    /// When the drawing library gives up.
    pub fn svg(&self) -> Result<String> {
        render::svg_file(&self.sheet(), self.entry.name, &self.title)
    }

    /// The same as a PNG file, two pixels per pixel of the SVG.
    ///
    /// # Errors
    /// When the drawing library gives up, or the picture would be enormous.
    pub fn png(&self) -> Result<Vec<u8>> {
        render::png(&self.sheet(), self.entry.name)
    }

    /// The figure as an element of the page.
    pub(crate) fn inline(&self, width: Width) -> Result<String> {
        let class = width.pick("wide", "narrow");
        render::svg_inline(&self.draw(width), self.entry.name, class, &self.title)
    }

    /// Whether it is about the recording, whatever the placement.
    pub(crate) fn of_recording(&self) -> bool {
        matches!(self.source, Source::Recording(..))
    }

    fn sheet(&self) -> Scene {
        self.draw(Width::Wide).with_title(&self.title, &self.provenance())
    }

    /// What a figure that travels alone must carry with it.
    fn provenance(&self) -> String {
        let mark = |synthetic| if synthetic { "synthetic recording · " } else { "" };
        match self.source {
            Source::Run(run, ..) => {
                let part = match run.trace.part.as_str() {
                    "heldout" => "held-out part",
                    "train" => "training part",
                    _ => "whole recording",
                };
                let (synthetic, source) = (mark(run.trace.synthetic), &run.trace.source);
                format!("{synthetic}{} on {} · {source} ({part})", run.model, run.cluster)
            }
            Source::Recording(file, ..) => format!(
                "{}{} · {} ({} tokens)",
                mark(file.synthetic),
                file.model,
                file.source,
                digits::count(file.stats.tokens)
            ),
            Source::Study(study, ..) => crate::page::about_study(study),
        }
    }
}

#[cfg(test)]
mod recording_tests;
#[cfg(test)]
mod tests;

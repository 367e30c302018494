//! What a report is about.

use crate::{RunFile, StatsFile, StudyFile};

/// What a report is about: a run, with its recording or without, a recording alone,
/// or a study.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A comparison of placements, and what was measured of the recording behind it.
    Run(&'a RunFile, Option<&'a StatsFile>),
    /// A recording.
    Recording(&'a StatsFile),
    /// Services that differ in some keys.
    Study(&'a StudyFile),
}

impl<'a> Subject<'a> {
    /// The run, where there is one.
    #[must_use]
    pub fn run(self) -> Option<&'a RunFile> {
        match self {
            Self::Run(run, _) => Some(run),
            Self::Recording(_) | Self::Study(_) => None,
        }
    }

    /// The statistics of the recording, where there are some.
    #[must_use]
    pub fn stats(self) -> Option<&'a StatsFile> {
        match self {
            Self::Run(_, stats) => stats,
            Self::Recording(stats) => Some(stats),
            Self::Study(_) => None,
        }
    }

    /// The study, where it is one.
    #[must_use]
    pub fn study(self) -> Option<&'a StudyFile> {
        match self {
            Self::Study(study) => Some(study),
            Self::Run(..) | Self::Recording(_) => None,
        }
    }
}

//! What people see: figures, tables and the report page.

mod draw;
mod error;
pub mod figures;
mod kernel_check;
mod memory_curve;
mod miss_curves;
pub mod page;
mod picture;
mod run_file;
mod scatter;
mod stats_file;
mod study_file;
mod subject;
mod tables;
#[cfg(test)]
mod testing;
mod timeline;
mod versioned;

pub use draw::{Scene, Width};
pub use error::{Error, Result};
pub use kernel_check::kernel_check;
pub use memory_curve::{AskedOf, MemoryFigure, MemoryPoint, memory_curve};
pub use miss_curves::{MissCurve, miss_curves};
pub use picture::Picture;
pub use run_file::{Candidate, RunFile, TraceFacts, VERSION as RUN_VERSION};
pub use scatter::{ScatterPoint, scatter};
pub use stats_file::{StatsFile, VERSION as STATS_VERSION};
pub use study_file::{StudyFile, StudyPoint, VERSION as STUDY_VERSION};
pub use subject::Subject;
pub use tables::{Cell, Rows};
pub use timeline::Timeline;

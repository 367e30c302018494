//! What to do: searches placements over recorded load and writes files that engines load.

pub mod algorithms;
pub mod bounds;
mod error;
pub mod export;
pub mod judge;
pub mod memory;
pub mod objective;
pub mod plan;
pub mod problem;
pub mod search;

pub use error::{Error, Result};
pub use memory::MemoryPlan;
pub use plan::Plan;
pub use problem::Problem;

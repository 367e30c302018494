//! What happens: placements, dispatch, and forward passes over recorded routing.
//!
//! [`run()`] is a function of its [`Scenario`]: no globals, no clock, no environment, no printing.

pub mod cache;
mod deal;
pub mod dispatch;
mod error;
pub mod event;
pub mod flow;
pub mod forward;
pub mod lanes;
pub mod offload;
pub mod placement;
pub mod prefetch;
pub mod rebalance;
pub mod record;
pub mod replay;
pub mod residency;
mod run;
pub mod scenario;
pub mod serving;
mod step;

pub use error::{Error, Result};
pub use placement::Placement;
pub use record::{Run, Summary};
pub use run::run;
pub use scenario::{Part, Scenario, ScenarioFile, Setting};

//! A service under load: requests arrive, share passes and get their tokens.
//!
//! [`run()`] is a function of its [`Service`]: what happened is told to an [`Observer`], of which
//! [`Recorder`](record::Recorder) makes a summary. Deliberately absent: networks between clients
//! and engine (one offset a request stands for them), and overlap of computation and transfers.

mod batch;
pub mod faults;
pub mod file;
mod gaps;
mod kv;
pub mod layout;
pub(crate) mod mean;
pub mod memory;
pub(crate) mod moe;
mod pass;
pub mod power;
pub mod record;
mod recorded;
mod replica;
pub mod router;
mod sequence;
pub mod service;
mod simulate;
mod sparse;
pub mod steady;
pub mod swarm;
#[cfg(test)]
mod tests;
mod vary;

pub use file::ServiceFile;
pub use layout::Layout;
pub use record::Observer;
pub use service::{Service, Setting};
pub use simulate::{Served, run};

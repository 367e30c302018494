//! Experts in several memories: forward passes whose experts are in GPU memory, in host memory or
//! in storage, and are copied, computed where they are, or changed for what is at hand.
//!
//! [`run`] is a function of its [`Setup`]. Time is integer nanoseconds. One pass runs at a time,
//! layer by layer, so there is no queue of events: links know when they are free, and wishes that
//! wait for them start lazily, in the order in which they would have.

mod ahead;
mod batching;
mod engine;
mod foresight;
mod given;
mod link;
mod machine;
mod memory;
mod picks;
mod record;
mod requests;
pub mod rule;
mod shape;
mod simulate;
pub mod target;
#[cfg(test)]
mod tests;

pub use batching::Batching;
pub use foresight::Foreseen;
pub use given::Given;
pub use machine::{Beside, Costs, Machine, Processor, Split, Tier};
pub use record::{Pass, Run, Served, Summary};
pub use requests::{Recorded, arrivals, recorded};
pub use shape::{Cache, Shape, Sharing, Start};
pub use simulate::{Load, Setup, run};

//! Static facts: units, ids, model shapes, hardware, engines and kernel costs.
//!
//! This is the leftmost room of the house. It knows what a model and a machine *are*; it does
//! not know that time passes, what a router did, or who asks.

pub mod builtin;
pub mod cost;
pub mod engine;
mod error;
pub mod hardware;
pub mod ids;
pub mod measure;
pub mod model;
pub mod registry;
pub mod sample;
pub mod seed;
pub mod units;

pub use error::{Error, Result};

//! Static facts: units, ids, model shapes, hardware, engines and kernel costs.
//!
//! This is the leftmost room of the house. It knows what a model and a machine *are*; it does
//! not know that time passes, what a router did, or who asks.

pub mod builtin;
pub mod calibration;
pub mod cost;
pub mod engine;
mod error;
mod fit;
pub mod hardware;
pub mod ids;
pub mod import;
mod kernel;
pub mod measure;
pub mod model;
pub mod profile;
pub mod registry;
pub mod sample;
pub mod seed;
pub mod table;
pub mod units;

pub use error::{Error, Result};

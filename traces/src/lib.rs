//! Recorded facts: what a router did, request by request, token by token.
//!
//! This room reads recordings of every engine, keeps them in one format, measures and splits
//! them. It does not know what a GPU is or that time passes.

mod builder;
mod column;
pub mod concat;
mod error;
pub mod export;
pub mod format;
pub mod future;
mod header;
pub mod import;
pub mod npy;
mod random;
pub mod requests;
pub mod slice;
mod spill;
pub mod split;
pub mod stats;
pub mod synth;
#[cfg(test)]
mod testing;
mod text;
mod trace;

pub use builder::{TokenRow, TraceBuilder, Written};
pub use column::Column;
pub use error::{Error, Result};
pub use half::f16;
pub use header::{Header, InputDigest, VERSION};
pub use import::digest_file;
pub use spill::Spill;
pub use trace::{CountColumns, Events, NO_EXPERT, Phase, RoutingTrace, StepSpan, TokenColumns};

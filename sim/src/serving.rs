//! Serving requests over time.

pub mod power;
pub mod record;

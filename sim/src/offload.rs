//! Experts in several memories: forward passes whose experts are in GPU memory, in host memory or
//! in storage, and are copied, computed where they are, or changed for what is at hand.

pub mod rule;
pub mod target;

//! Microbenchmarks on CUDA devices, behind the feature `cuda`.
//!
//! The driver is loaded at run time, so this builds on machines without CUDA and answers there
//! with an error. It has not run on hardware yet: until it has, no shipped figure may be called
//! measured on its account.

mod copy;

pub use copy::{CopySample, copy_bandwidth, device_name};

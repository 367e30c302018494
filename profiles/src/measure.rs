//! Microbenchmarks: what this machine's processor, or a CUDA device, really takes.
//!
//! A [`Plan`] lists what to time, a [`Bench`] times one [`Point`] of it, and [`run`] drives the
//! two: warm-up, medians, spreads, resuming, interruption and a word on noise. It gives
//! [`Sample`](crate::sample::Sample)s, times in microseconds. Nothing here prints or writes
//! files, but for the storage benchmark's own file in the folder that the caller names.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use moecast_profiles::measure::{Bench, cpu, plan_for, run};
//! let mut bench = cpu::open(cpu::Options::default()).unwrap();
//! let plan = plan_for(&bench.kind());
//! let outcome = run(&mut bench, &plan, &[], &mut |_| ControlFlow::Continue(()));
//! assert!(outcome.samples.len() <= plan.points.len());
//! ```
//!
//! [`cpu`] is always there; `cuda` needs the feature of that name, loads the driver at run time,
//! and has not run on hardware yet: until it has, no shipped figure may be called measured on
//! its account. This is the one room of the libraries that reads the clock.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod driver;
mod plan;
mod skew;

pub use driver::{Bench, Noise, Outcome, Progress, Stage, StopReason, TimingError, run};
pub use plan::{Kind, Plan, Point, SECONDS_MAX, plan_for};
pub use skew::{busiest_rank, skewed_picks};

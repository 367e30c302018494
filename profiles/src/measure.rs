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
//! | family | variants | at |
//! |---|---|---|
//! | `cpu-expert` | `bf16`, `f32`, `int8`, each `/` and the instruction set | rows |
//! | `decode-attention` | `nvrtc/bf16` | requests, tokens of each |
//! | `device-copy` | `host` (memory, by all threads), `driver` (a CUDA device) | bytes copied |
//! | `expert-gemm` | `nvrtc/bf16`, `cublaslt-loop/bf16` | skew, tokens of all ranks together |
//! | `gemm` | `cublaslt/bf16`, `cublaslt/fp8` (e4m3 in, bf16 out) | rows of x |
//! | `host-copy` | `host/to-host` | bytes of one copy |
//! | `host-copy` | `pinned/to-device`, `pinned/to-host`, `pinned/both` (as many each way) | same |
//! | `host-copy` | `pageable/to-device`, `pageable/to-host` | same |
//! | `launch` | `kernel`, `graph` | kernels; the time is of all of them |
//! | `storage-read` | `sequential`, `random` | bytes of one read |
//!
//! Our own kernels are straightforward: with few rows they are near what memory gives, with many
//! rows engines get more out of a device.
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
pub(crate) use skew::timed_rows;
pub use skew::{busiest_rank, skewed_picks};

//! One integration binary: what the product promises, and what the house promises itself.

mod bad_input;
mod cache;
mod commands;
mod determinism;
mod docs;
mod interruption;
mod memory;
mod memory_plan;
mod offload;
mod profiles;
mod rebalance;
mod recordings;
mod serving;
mod studies;
mod support;
mod tidy;
mod trace_tools;

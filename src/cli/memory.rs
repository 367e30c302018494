//! `moecast memory ...`, as typed.

pub(crate) mod plan;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use moecast_planner::memory::bits::Solver;
use moecast_profiles::units::Bytes;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Choose how many bits each expert is stored in, by how much it matters.
    Bits(Bits),
    /// Write the files that engines load for a memory plan.
    Export(Export),
    /// Find what a GPU memory gives in tokens a second, or the memory that a speed needs.
    Plan(Box<plan::Plan>),
}

#[derive(Args)]
pub(crate) struct Bits {
    /// The routing trace that says how much each expert matters.
    #[arg(long)]
    pub(crate) trace: PathBuf,
    /// Mean bits of an expert's weight, such as 2.5.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) budget: f64,
    /// How experts share these bits; `moecast list precision-policies` names the policies.
    #[arg(long, default_value = "pmq")]
    pub(crate) policy: String,
    /// Measured quantisation errors, a CSV `layer,expert,bits,error` [default: 4^-bits, assumed].
    #[arg(long)]
    pub(crate) errors: Option<PathBuf>,
    /// Exponent of the share of picks and of the error.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) alpha: f64,
    /// Exponent of the share of gate weights.
    #[arg(long, default_value_t = 1.5, allow_negative_numbers = true)]
    pub(crate) beta: f64,
    /// Who solves PMQ's integer program.
    #[arg(long, value_enum, default_value_t = SolverArgument::Dynamic)]
    pub(crate) solver: SolverArgument,
    /// Write the bits as a CSV `layer,expert,bits`.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SolverArgument {
    /// Dynamic programming: exact and fast.
    Dynamic,
    /// The integer program as published: the same answer.
    Program,
}

impl From<SolverArgument> for Solver {
    fn from(solver: SolverArgument) -> Self {
        match solver {
            SolverArgument::Dynamic => Self::Dynamic,
            SolverArgument::Program => Self::Program,
        }
    }
}

#[derive(Args)]
pub(crate) struct Export {
    /// The plan: a memory.json, as `moecast memory plan --out` writes it.
    pub(crate) plan: PathBuf,
    /// Engines to write files for, comma separated; `moecast list memory-exporters` names them.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) engine: Vec<String>,
    /// Folder for the files.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The routing trace whose loads decide what is rounded up where an engine is coarser than the
    /// plan [default: those that the planner saw].
    #[arg(long)]
    pub(crate) trace: Option<PathBuf>,
    /// Memory of the GPU, such as 24GiB, for moe-infinity, which is told a share of it [default:
    /// the plan's].
    #[arg(long)]
    pub(crate) gpu_memory: Option<Bytes>,
    /// Bytes of it for weights beside experts, as `moecast memory plan` prints them; for
    /// moe-infinity [default: the plan's].
    #[arg(long)]
    pub(crate) other_memory: Option<Bytes>,
    /// Architecture in llama.cpp, such as qwen3moe [default: that of the plan's model].
    #[arg(long)]
    pub(crate) architecture: Option<String>,
}

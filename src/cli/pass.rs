//! Arguments of `moecast pass`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use moecast_profiles::units::Nanos;
use moecast_sim::forward::Mode;

#[derive(Args)]
pub(crate) struct Pass {
    /// A file of passes; see examples/systems.
    pub(crate) file: PathBuf,
    /// Only this variant of the file.
    #[arg(long)]
    pub(crate) variant: Option<String>,
    /// Closed form, or every operation of every rank as an event.
    #[arg(long, value_enum, default_value_t = ModeArgument::Step)]
    pub(crate) mode: ModeArgument,
    /// Half the width of the 95% interval of the time of a pass, as a share of it.
    #[arg(long, default_value_t = 0.01)]
    pub(crate) precision: f64,
    /// Write what every rank did as a trace for Perfetto (.json, or .json.gz); one variant only.
    #[arg(long)]
    pub(crate) timeline: Option<PathBuf>,
    /// Time that the timeline shows, such as 10s [default: one pass].
    #[arg(long, requires = "timeline")]
    pub(crate) window: Option<Nanos>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ModeArgument {
    Step,
    Event,
}

impl From<ModeArgument> for Mode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Step => Self::Step,
            ModeArgument::Event => Self::Event,
        }
    }
}

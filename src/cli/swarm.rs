//! Arguments of `moecast swarm`.

use clap::Args;

#[derive(Args)]
pub(crate) struct Swarm {
    /// Services to simulate: of --seed and the seeds after it.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) scenarios: u64,
}

//! The GPU computes every expert; what is elsewhere is copied first (Mixtral-offloading,
//! MoE-Infinity, DeepSpeed-MII).

use super::{By, Entry, Target, Work};

pub(super) const ENTRY: Entry = Entry {
    name: "gpu",
    about: "the GPU, after a copy",
    needs_processor: false,
    build: || Box::new(Gpu),
};

struct Gpu;

impl Target for Gpu {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        into.extend(work.asked.iter().map(|_| By::Gpu));
    }
}

//! The processor computes what is not in GPU memory, where its weights are; nothing is copied, so
//! GPU memory keeps what it was given (llama.cpp with tensor overrides, `KTransformers`).

use super::{At, By, Entry, Target, Work};

pub(super) const ENTRY: Entry = Entry {
    name: "cpu",
    about: "the processor, in place (llama.cpp, KTransformers)",
    needs_processor: true,
    build: || Box::new(Cpu),
};

struct Cpu;

impl Target for Cpu {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        into.extend(work.asked.iter().map(|asked| match asked.at {
            At::Gpu(_) => By::Gpu,
            At::Host(_) | At::Storage(..) => By::Cpu,
        }));
    }
}

//! `memory.svg` and `memory.png`: what was found, as a picture.

use moecast_reports::{AskedOf, MemoryFigure, MemoryPoint, Picture, memory_curve};

use super::answer::{Answer, Row};
use super::base::Base;
use crate::cli::memory::plan::Plan;

pub(super) fn figure(arguments: &Plan, base: &Base, answer: &Answer) -> Picture {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let point =
        |row: &Row| MemoryPoint { memory: gib(row.memory), train: row.train, heldout: row.rate() };
    let baseline = |row: &Row| (row.name.to_owned(), gib(row.memory), row.rate());
    let asked = match arguments.tokens_per_second {
        Some(wanted) => AskedOf::Speed(wanted, answer.reached.map(gib)),
        None => {
            let mut sizes: Vec<u64> = answer.plans.iter().map(|row| row.memory).collect();
            sizes.dedup();
            AskedOf::Memories(sizes.into_iter().map(gib).collect())
        }
    };
    let figure = MemoryFigure {
        points: answer.curve.iter().map(point).collect(),
        baselines: answer.baselines.iter().map(baseline).collect(),
        asked,
    };
    let recording = if base.synthetic { "synthetic recording · " } else { "" };
    let gpu = base.gpu();
    let bits = base.judge.widths.as_ref().map_or_else(String::new, |widths| {
        format!(" · experts in {:.2} bits", widths.assigned.mean_bits())
    });
    let (name, gpus, batch) = (&base.model.name, base.gpus(), base.file.load.batch);
    let about = format!("{recording}{name} on {gpus} x {gpu}, batch {batch}{bits}");
    memory_curve(&figure, "What memory for experts gives", &about)
}

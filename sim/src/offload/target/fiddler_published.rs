//! Fiddler as published (arXiv 2402.07033): the share of experts that makes the longer of two sums
//! shortest, that of the processor's costs and that of the GPU's with their copies. The processor
//! takes the experts with the fewest seconds, as many as is best. Cost: one sort, n^2 / 2 sums.
//!
//! Exact where every copy with its computation takes the GPU the same time, as the paper assumes:
//! then only the number of the processor's experts matters to the GPU, and the fastest of that many
//! are best. Experts in GPU memory stay there. Departure: the paper's cost of an expert in GPU
//! memory is near nothing; here it takes its time.

use super::{At, By, Entry, Target, Work, fiddler};

pub(super) const ENTRY: Entry = Entry {
    name: "fiddler-published",
    about: "the longer of the GPU's and the processor's sums is shortest (Fiddler as published)",
    needs_processor: true,
    build: || Box::new(FiddlerPublished),
};

struct FiddlerPublished;

impl Target for FiddlerPublished {
    fn assign(&self, work: &Work<'_>, into: &mut Vec<By>) {
        let start = into.len();
        into.extend(work.asked.iter().map(|_| By::Gpu));
        let there = |index: &usize| matches!(work.asked[*index].at, At::Gpu(_));
        let (there, mut elsewhere): (Vec<usize>, Vec<usize>) =
            (0..work.asked.len()).partition(there);
        elsewhere.sort_by(|&a, &b| work.asked[a].cpu.total_cmp(&work.asked[b].cpu).then(a.cmp(&b)));
        let cost = |&index: &usize| fiddler::alone(&work.asked[index]);
        let residents: f64 = there.iter().map(|&index| work.asked[index].gpu).sum();
        let fixed = work.gpu_busy + residents;
        let (mut cpu, mut best, mut count) = (work.cpu_busy, f64::INFINITY, 0);
        for taken in 0..=elsewhere.len() {
            if let Some(last) = taken.checked_sub(1) {
                cpu += work.asked[elsewhere[last]].cpu;
            }
            let gpu = fixed + elsewhere[taken..].iter().map(cost).sum::<f64>();
            let longer = if taken == 0 { gpu } else { cpu.max(gpu) };
            if longer < best {
                (best, count) = (longer, taken);
            }
        }
        for &index in &elsewhere[..count] {
            into[start + index] = By::Cpu;
        }
    }
}

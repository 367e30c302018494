//! The order in which a layer's experts are worked on: those in GPU memory first, the earliest
//! there first, then the others by tokens descending. Where all experts of a layer are of one size
//! and more rows take longer, this is Johnson's order for copies and then computation, so that no
//! other order finishes sooner. Cost: one sort.

use super::{At, Work};

/// Indices into `work.asked`, in the order of `HybriMoE` (arXiv 2504.05897).
#[must_use]
pub fn order(work: &Work<'_>) -> Vec<usize> {
    let asked = work.asked;
    let ready = |index: usize| match asked[index].at {
        At::Gpu(ready) => ready,
        At::Host(_) | At::Storage(..) => f64::INFINITY,
    };
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by(|&a, &b| {
        let there = ready(a).total_cmp(&ready(b));
        there.then(asked[b].rows.cmp(&asked[a].rows)).then(a.cmp(&b))
    });
    order
}

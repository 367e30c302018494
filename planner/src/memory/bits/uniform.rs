//! Every expert in the same bits: the widest width that the budget pays for. The baseline.

use super::{Assigned, Entry, Task, too_little};
use crate::error::Result;

pub(super) const ENTRY: Entry =
    Entry { name: "uniform", about: "all experts in the same bits (baseline)", assign };

fn assign(task: &Task<'_>) -> Result<Assigned> {
    task.check()?;
    let (layers, experts) = task.importance.shape();
    let total = task.total(layers * experts);
    let fits = |width: &&u8| usize::from(**width) * layers * experts <= total;
    let Some(&bits) = task.errors.widths().iter().rev().find(fits) else {
        let narrowest = usize::from(task.errors.widths()[0]);
        let why = "every expert at the narrowest width";
        return Err(too_little(ENTRY.name, total, narrowest * layers * experts, why));
    };
    let how = format!("{bits} bits for all");
    Ok(task.answer(vec![vec![bits; experts]; layers], None, how))
}

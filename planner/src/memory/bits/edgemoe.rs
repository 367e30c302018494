//! EdgeMoE: experts in 2, 4 or 8 bits, wider where quantising them hurts more (Yi et al., arXiv
//! 2308.14352).
//!
//! Experts of all layers are ranked by their error at 2 bits times their share of picks. All start
//! at 2 bits; in that order they go to 4 while the budget lasts, then, when all have 4, to 8. Cost:
//! one sort.
//! Departure: the paper measures each expert's loss of accuracy and quantises until a tolerated
//! loss is reached; here a table of errors stands for the loss and a budget of bits for the
//! tolerance.

use super::{Assigned, Entry, Task, too_little};
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry {
    name: "edgemoe",
    about: "EdgeMoE: 2, 4 or 8 bits by sensitivity, one budget over all layers",
    assign,
};

const WIDTHS: [u8; 3] = [2, 4, 8];

fn assign(task: &Task<'_>) -> Result<Assigned> {
    task.check()?;
    let narrow = task.widths(ENTRY.name, &WIDTHS)?[0];
    let (layers, experts) = task.importance.shape();
    let total = task.total(layers * experts);
    let mut bits = vec![vec![WIDTHS[0]; experts]; layers];
    let least = layers * experts * usize::from(WIDTHS[0]);
    let Some(mut left) = total.checked_sub(least) else {
        return Err(too_little(ENTRY.name, total, least, "every expert at 2"));
    };
    let mut order: Vec<(f64, usize, usize)> = (0..layers)
        .flat_map(|layer| (0..experts).map(move |expert| (layer, expert)))
        .map(|(layer, expert)| {
            let share = task.importance.share[layer][expert];
            (share * task.errors.of(layer, expert)[narrow], layer, expert)
        })
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for pair in WIDTHS.windows(2) {
        let more = usize::from(pair[1] - pair[0]);
        for (_, layer, expert) in order.iter().take(left / more) {
            bits[*layer][*expert] = pair[1];
        }
        left -= more * order.len().min(left / more);
        // Fewer than all went up: what is left is not enough for the next width.
        if order.iter().any(|(_, layer, expert)| bits[*layer][*expert] != pair[1]) {
            break;
        }
    }
    Ok(task.answer(bits, None, "greedy by sensitivity".to_owned()))
}

//! The table that `moecast simulate` prints.

use moecast_reports::RunFile;

use crate::output::{Table, show_micros};

/// The placements side by side.
pub(super) fn comparison(run: &RunFile) -> Table {
    let mut table = Table::new(&[
        "placement",
        "imbalance",
        "step time",
        "p99",
        "attention",
        "dispatch",
        "experts",
        "combine",
        "tokens/s",
    ]);
    for candidate in &run.candidates {
        let summary = &candidate.summary;
        table.row([
            candidate.name.clone(),
            format!("{:.3}", summary.imbalance),
            show_micros(summary.step_time_us.mean),
            show_micros(summary.step_time_us.p99),
            show_micros(summary.parts_us.attention + summary.parts_us.dense),
            show_micros(summary.parts_us.dispatch),
            show_micros(summary.parts_us.experts),
            show_micros(summary.parts_us.combine),
            format!("{:.0}", summary.tokens_per_second),
        ]);
    }
    let mut bound = vec!["bound".to_owned(), format!("{:.3}", run.imbalance_bound)];
    bound.resize(9, "-".to_owned());
    table.row(bound);
    table
}

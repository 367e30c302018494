//! The table of what a synthetic trace promises and has.

use anyhow::Result;
use moecast_traces::synth::check::Check;

use crate::output::{Output, Table};

/// Prints the table; nothing where nothing is promised.
pub(crate) fn print(checks: &[Check], output: &Output) -> Result<()> {
    let Some(first) = checks.first() else { return Ok(()) };
    output.note(&format!("\npublished ({}) and here:", first.source))?;
    output.table(&table(checks))
}

fn table(checks: &[Check]) -> Table {
    let mut table =
        Table::new(&["statistic", "published", "here", "difference", "tolerance", "verdict"]);
    for check in checks {
        let (found, difference) = match check.found {
            Some(found) => (format!("{found:.3}"), format!("{:+.3}", found - check.published)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let verdict = match check.holds() {
            Some(true) => "within",
            Some(false) => "OUTSIDE",
            None => "too short for it",
        };
        table.row([
            check.name.clone(),
            format!("{:.3}", check.published),
            found,
            difference,
            format!("{:.3}", check.tolerance),
            verdict.to_owned(),
        ]);
    }
    table
}

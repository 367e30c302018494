//! `moecast profile ...`: one file per subcommand.

mod calibrate;
mod check;
mod cluster;
mod import;
mod show;
mod tune;

use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use moecast_profiles::profile::Profile;
use moecast_profiles::sample::{Samples, read_samples, write_samples};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::profile::Command;
use crate::files;
use crate::output::{Measure, Output, Table};

pub(crate) fn run(command: &Command, global: &Global, output: &Output) -> Result<()> {
    match command {
        Command::Calibrate(arguments) => calibrate::run(arguments, output),
        Command::Check(arguments) => check::run(arguments, output),
        Command::Fit(arguments) => import::fit(arguments, output),
        Command::Import(arguments) => import::run(arguments, output),
        Command::Show(arguments) => show::run(arguments, output),
        Command::Tune(arguments) => tune::run(arguments, global, output),
    }
}

/// The samples in the file at `path`.
fn samples(path: &Path) -> Result<Samples> {
    let shown = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| shown.clone())?;
    Ok(read_samples(&mut BufReader::new(file), &shown)?)
}

/// Writes samples as JSON lines.
fn save_samples(samples: &Samples, path: &Path) -> Result<()> {
    files::write(path, |mut file| Ok(write_samples(samples, &mut file)?))
}

/// Fits a profile, with progress.
fn fitted(samples: &Samples, output: &Output) -> Result<Profile> {
    let bar = output.progress("fit", 0, Measure::Count);
    let profile = Profile::from_samples(samples, &|done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(profile?)
}

/// What a profile holds, for machines.
fn facts(profile: &Profile) -> Value {
    let tables: Vec<Value> = profile
        .tables()
        .iter()
        .map(|table| {
            json!({
                "family": table.family.name(),
                "variant": table.variant,
                "split": table.split(),
                "samples": table.samples,
                "form": table.form_name(),
                "constants": table.constants().into_iter()
                    .map(|(name, value)| (name.to_owned(), json!(value)))
                    .collect::<serde_json::Map<_, _>>(),
                "errors": table.errors,
                "flags": table.flags,
            })
        })
        .collect();
    json!({ "provenance": profile.provenance, "flags": profile.flags, "tables": tables })
}

/// The tables of a profile with their errors, pooled by family and variant.
fn summary(profile: &Profile) -> Table {
    let headings =
        ["kernel", "variant", "tables", "samples", "held out", "p90", "unseen shape", "form alone"];
    let mut table = Table::new(&headings);
    for row in profile.summary() {
        let percent = |error: moecast_profiles::table::ErrorSummary, value: f64| {
            if error.points == 0 { "-".to_owned() } else { format!("{:.1}%", value * 100.0) }
        };
        table.row([
            row.family.name().to_owned(),
            row.variant.clone(),
            row.tables.to_string(),
            row.samples.to_string(),
            percent(row.errors.grid, row.errors.grid.median),
            percent(row.errors.grid, row.errors.grid.p90),
            percent(row.errors.shape, row.errors.shape.median),
            percent(row.errors.form, row.errors.form.median),
        ]);
    }
    table
}

//! `moecast profile check`.

use std::path::Path;

use anyhow::{Result, ensure};
use moecast_profiles::profile::Checked;
use moecast_profiles::sample::{Provenance, Sample};
use moecast_reports::kernel_check;
use serde_json::{Value, json};

use crate::cli::profile::Check;
use crate::output::{Output, Table, show_micros};
use crate::{facts, files, picture};

/// Worst points that are shown.
const WORST_SHOWN: usize = 12;

pub(crate) fn run(arguments: &Check, output: &Output) -> Result<()> {
    if let Some(figure) = &arguments.figure {
        picture::check(figure)?;
        files::apart(figure, [&arguments.against])?;
    }
    let file = facts::profile(&arguments.profile)?;
    let profile = file.profile.as_ref();
    let samples = super::samples(&arguments.against)?;
    let found = profile.check(&samples.samples);
    let answered: u64 = found.iter().map(|checked| checked.errors.points).sum();
    ensure!(
        answered > 0,
        "{}: no sample that {} has a table for; expected kernels of {}",
        arguments.against.display(),
        arguments.profile,
        profile.provenance.engine
    );
    if let Some(path) = &arguments.figure {
        draw(&found, arguments, &profile.provenance, path)?;
    }
    if output.wants_json() {
        let kernels: Vec<Value> = found.iter().map(to_json).collect();
        output.json(&json!({ "profile": profile.provenance, "kernels": kernels }))?;
    } else {
        output.table(&errors(&found))?;
        output.note("\nworst points:")?;
        output.table(&worst(&found))?;
        output.remarks(&profile.flags)?;
        output.remarks(&samples.flags)?;
    }
    if let Some(most) = arguments.fail_above {
        for checked in &found {
            let median = checked.errors.median;
            ensure!(
                median <= most,
                "{} {}: median error {:.1}%; expected at most {:.1}%",
                checked.family.name(),
                checked.variant,
                median * 100.0,
                most * 100.0
            );
        }
    }
    Ok(())
}

fn draw(found: &[Checked], arguments: &Check, by: &Provenance, path: &Path) -> Result<()> {
    let title = format!("{} against {}", arguments.profile, arguments.against.display());
    let provenance = format!("{} {} on {}, from {}", by.engine, by.version, by.system, by.source);
    let picture = kernel_check(found, &title, &provenance);
    picture::write(&picture, path)
}

fn errors(found: &[Checked]) -> Table {
    let headings = ["kernel", "variant", "samples", "median", "p90", "measured", "no table"];
    let mut table = Table::new(&headings);
    for checked in found {
        let points = checked.errors.points;
        let share = |count: u64| format!("{:.0}%", count as f64 * 100.0 / points.max(1) as f64);
        let percent = |value: f64| {
            if points == 0 { "-".to_owned() } else { format!("{:.1}%", value * 100.0) }
        };
        table.row([
            checked.family.name().to_owned(),
            checked.variant.clone(),
            points.to_string(),
            percent(checked.errors.median),
            percent(checked.errors.p90),
            share(checked.sources[0]),
            checked.unanswered.to_string(),
        ]);
    }
    table
}

/// "heads 8, kv_heads 1, ...".
fn fields(sample: &Sample) -> String {
    let fields = sample.family.fields();
    let shape = fields.shape.iter().zip(sample.shape.iter().map(|value| u64::from(*value)));
    let at = fields.at.iter().zip(sample.at.iter().copied());
    let all: Vec<String> = shape.chain(at).map(|(name, value)| format!("{name} {value}")).collect();
    all.join(", ")
}

/// The worst points of all kernels, worst first.
fn worst(found: &[Checked]) -> Table {
    let mut table = Table::new(&["kernel", "variant", "at", "measured", "profile", "error"]);
    let mut points: Vec<_> = found
        .iter()
        .flat_map(|checked| checked.worst.iter().map(move |point| (checked, point)))
        .collect();
    points.sort_by(|a, b| b.1.error().abs().total_cmp(&a.1.error().abs()));
    for (checked, point) in points.into_iter().take(WORST_SHOWN) {
        table.row([
            checked.family.name().to_owned(),
            checked.variant.clone(),
            fields(&point.sample),
            show_micros(point.sample.time_us),
            show_micros(point.answer_us),
            format!("{:+.1}%", point.error() * 100.0),
        ]);
    }
    table
}

fn to_json(checked: &Checked) -> Value {
    let [measured, interpolated, extrapolated] = checked.sources;
    let point = |point: &moecast_profiles::profile::Worst| {
        json!({
            "at": fields(&point.sample),
            "measured_us": point.sample.time_us,
            "profile_us": point.answer_us,
            "error": point.error(),
        })
    };
    json!({
        "family": checked.family.name(),
        "variant": checked.variant,
        "errors": checked.errors,
        "sources": {
            "measured": measured, "interpolated": interpolated, "extrapolated": extrapolated,
        },
        "unanswered": checked.unanswered,
        "worst": checked.worst.iter().map(point).collect::<Vec<_>>(),
    })
}

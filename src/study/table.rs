//! What a study says: in the terminal, and line by line in study.csv.

use std::fmt::Write as _;

use anyhow::Result;
use moecast_reports::{StudyFile, StudyPoint};
use serde_json::Value;

use crate::output::{Output, Table};

/// A column of words: heading and text.
type Words = (&'static str, fn(&StudyPoint) -> &str);

/// Points of the frontier that the terminal shows.
const ROWS_MAX: usize = 12;
/// Reasons that the terminal shows.
const REASONS_MAX: usize = 6;

/// A column of the terminal: heading, figure, how it is said.
type Column = (&'static str, &'static str, fn(f64) -> String);

const COLUMNS: [Column; 6] = [
    ("tokens/s/GPU", "output_tokens_per_second_per_gpu", |value| format!("{value:.1}")),
    ("TPOT p50, ms", "tpot_ms_p50", |value| format!("{value:.2}")),
    ("TTFT p50, ms", "ttft_ms_p50", |value| format!("{value:.1}")),
    ("TTFT p99, ms", "ttft_ms_p99", |value| format!("{value:.1}")),
    ("kept the SLO", "goodput_share", |value| format!("{:.1}%", value * 100.0)),
    ("cost/million", "cost_per_million_output_tokens", |value| format!("{value:.3}")),
];

/// Every point as a line.
pub(super) fn csv(file: &StudyFile) -> String {
    let ours = ["point", "digest", "layout", "gpus", "frontier", "skipped"];
    let names = ours.iter().map(|name| (*name).to_owned());
    let names = names.chain(file.keys.iter().cloned()).chain(file.figures.iter().cloned());
    let mut text = names.map(|name| quoted(&name)).collect::<Vec<_>>().join(",") + "\n";
    for point in &file.points {
        let gpus = point.gpus.map_or_else(String::new, |gpus| gpus.to_string());
        let _ = write!(
            text,
            "{},{},{},{gpus},{},{}",
            point.point,
            point.digest.as_deref().unwrap_or_default(),
            quoted(&point.layout.join(" + ")),
            u8::from(point.frontier),
            quoted(point.skipped.as_deref().unwrap_or_default())
        );
        for key in &file.keys {
            text += ",";
            text += &match point.values.get(key) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(name)) => quoted(name),
                Some(other) => quoted(&other.to_string()),
            };
        }
        for name in &file.figures {
            text += ",";
            text += &point.figure(name).map_or_else(String::new, |value| value.to_string());
        }
        text.push('\n');
    }
    text
}

/// A field of a CSV line.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The frontier, and why points are missing.
pub(super) fn print(file: &StudyFile, output: &Output) -> Result<()> {
    let mut frontier: Vec<&StudyPoint> = file.points.iter().filter(|it| it.frontier).collect();
    let time = |point: &StudyPoint| point.figure("tpot_ms_p50").unwrap_or(0.0);
    frontier.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let skipped = file.points.iter().filter(|point| point.skipped.is_some()).count();
    let common: Vec<&str> = file.common.iter().map(|(_, value)| value.as_str()).collect();
    output.note(&format!(
        "{}: {} points of {}",
        file.study,
        file.points.len(),
        common.join(", ")
    ))?;
    if frontier.is_empty() {
        output.note("no point made an answer of two tokens or more")?;
    } else {
        output.note("points that no other beats in both time per token and tokens per GPU:\n")?;
        output.table(&table(file, &thinned(&frontier)))?;
        output.note("")?;
    }
    if let Some(best) = file.best_within_limits() {
        let rate = best.figure("output_tokens_per_second_per_gpu").unwrap_or(0.0);
        output.note(&format!(
            "most with 99% of the requests within their limits: point {} ({}), {rate:.1} \
             tokens/s/GPU",
            best.point,
            best.name()
        ))?;
    } else if file.has_limits() {
        output.note("note: no point serves 99% of the requests within their limits")?;
    }
    if frontier.len() > ROWS_MAX {
        let all = frontier.len();
        output.note(&format!("note: {ROWS_MAX} of {all} such points; study.csv has all"))?;
    }
    if skipped > 0 {
        reasons(file, skipped, output)?;
    }
    Ok(())
}

/// At most [`ROWS_MAX`] points, evenly spaced, the first and the last among them.
fn thinned<'a>(points: &[&'a StudyPoint]) -> Vec<&'a StudyPoint> {
    let count = points.len();
    if count <= ROWS_MAX {
        return points.to_vec();
    }
    (0..ROWS_MAX).map(|row| points[row * (count - 1) / (ROWS_MAX - 1)]).collect()
}

fn table(file: &StudyFile, points: &[&StudyPoint]) -> Table {
    let has = |name: &str| file.points.iter().any(|point| point.figure(name).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(|(_, name, _)| has(name)).collect();
    let words = |of: fn(&StudyPoint) -> &str| points.iter().any(|point| !of(point).is_empty());
    let texts: [Words; 2] = [("service", |it| it.series.as_str()), ("load", |it| it.load.as_str())];
    let texts: Vec<_> = texts.into_iter().filter(|(_, of)| words(*of)).collect();
    let mut headings = vec!["point"];
    headings.extend(texts.iter().map(|(heading, _)| *heading));
    headings.push("GPUs");
    headings.extend(columns.iter().map(|(heading, ..)| *heading));
    let mut table = Table::new(&headings);
    for point in points {
        let mut row = vec![point.point.to_string()];
        row.extend(texts.iter().map(|(_, of)| of(point).to_owned()));
        row.push(point.gpus.unwrap_or(0).to_string());
        row.extend(
            columns
                .iter()
                .map(|(_, name, said)| point.figure(name).map_or_else(|| "-".to_owned(), said)),
        );
        table.row(row);
    }
    table
}

/// Why points cannot exist, the most frequent reasons first.
fn reasons(file: &StudyFile, skipped: usize, output: &Output) -> Result<()> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for reason in file.points.iter().filter_map(|point| point.skipped.as_deref()) {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(REASONS_MAX) {
        let points = if *count == 1 { "point" } else { "points" };
        output.note(&format!("note: {count} {points} cannot exist: {reason}"))?;
    }
    let shown: usize = reasons.iter().take(REASONS_MAX).map(|(_, count)| count).sum();
    if shown < skipped {
        output.note(&format!("note: {} more cannot exist; study.csv says why", skipped - shown))?;
    }
    Ok(())
}

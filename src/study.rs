//! `moecast study`: a service over a grid of its keys.
//!
//! Points are independent of each other, so they run in parallel, and every finished one is kept
//! in the folder: a study that was stopped goes on where it was. A service that cannot exist is a
//! row with the reason; a wrong name or a missing file ends the study before it starts.

mod figures;
mod grid;
mod label;
mod point;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use moecast_reports::{STUDY_VERSION, StudyFile, StudyPoint};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cli::serving::Study;
use crate::cli::{Global, Report};
use crate::output::{Measure, Output};
use crate::{files, report};
use grid::{Grid, Point};
use point::{Found, Kept, Workshop};

/// Something that all points may have in common: its name for people, and what it is.
type Fact = (&'static str, fn(&Found) -> String);

/// Remarks that a report has room for.
const REMARKS_MAX: usize = 16;

pub(crate) fn run(arguments: &Study, global: &Global, output: &Output) -> Result<()> {
    let path = &arguments.study;
    let grid = grid::read(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let workshop = Workshop::new(folder, &arguments.out, global.seed, arguments.afresh)?;
    let (kept, simulated) = simulate(&grid, &workshop, path, output)?;
    let file = study_file(path, &grid, &kept)?;
    let written = write(&file, &arguments.out)?;
    if let Some(reason) = nothing(&file) {
        bail!("{}: no point can exist; the first: {reason}", path.display());
    }
    let mut object: Value = json!(file);
    object["simulated"] = json!(simulated);
    object["out"] = json!(arguments.out);
    object["report"] = json!(written);
    if output.json(&object)? {
        return Ok(());
    }
    table::print(&file, output)?;
    let again = kept.len() - simulated;
    if again > 0 {
        output.note(&format!("note: {again} of {} points were kept from before", kept.len()))?;
    }
    let csv = arguments.out.join("study.csv");
    output.line(&format!("report: {} (every point: {})", written.display(), csv.display()))
}

/// All points, in order, and how many of them had to be simulated.
fn simulate(
    grid: &Grid,
    workshop: &Workshop,
    path: &Path,
    output: &Output,
) -> Result<(Vec<Kept>, usize)> {
    let named = |number: usize| format!("{}: point {number}", path.display());
    let digests: Vec<String> = grid
        .points
        .par_iter()
        .enumerate()
        .map(|(number, point)| workshop.digest(&point.file).with_context(|| named(number)))
        .collect::<Result<_>>()?;
    let bar = output.progress("study", grid.points.len() as u64, Measure::Count);
    let kept: Vec<(Kept, bool)> = grid
        .points
        .par_iter()
        .zip(&digests)
        .enumerate()
        .with_max_len(1)
        .map(|(number, (point, digest))| {
            let before = workshop.kept(digest);
            let is_new = before.is_none();
            let kept = match before {
                Some(kept) => kept,
                None => workshop.simulate(&point.file, digest).with_context(|| named(number))?,
            };
            bar.inc(1);
            if let (Some(reason), false) = (&kept.skipped, grid.skip_impossible) {
                bail!("{}: {reason}", named(number));
            }
            Ok((kept, is_new))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let simulated = kept.iter().filter(|(_, is_new)| *is_new).count();
    Ok((kept.into_iter().map(|(kept, _)| kept).collect(), simulated))
}

fn study_file(path: &Path, grid: &Grid, kept: &[Kept]) -> Result<StudyFile> {
    let points = (0..).zip(grid.points.iter().zip(kept));
    let points = points.map(|(number, (point, kept))| study_point(number, &grid.keys, point, kept));
    let found: Vec<&Found> = kept.iter().filter_map(|kept| kept.found.as_ref()).collect();
    let name = path.file_stem().map_or_else(String::new, |stem| stem.display().to_string());
    let mut file = StudyFile {
        version: STUDY_VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        study: name,
        common: common(grid, &found),
        keys: grid.keys.clone(),
        figures: figures::names(),
        points: points.collect::<Result<_>>()?,
        remarks: remarks(&found),
    };
    file.mark_frontier();
    Ok(file)
}

fn study_point(number: u32, keys: &[String], point: &Point, kept: &Kept) -> Result<StudyPoint> {
    let values = keys.iter().zip(&point.values);
    let found = kept.found.as_ref();
    Ok(StudyPoint {
        point: number,
        digest: found.map(|_| kept.digest.clone()),
        values: values
            .map(|(key, value)| Ok((key.clone(), serde_json::to_value(value)?)))
            .collect::<Result<_>>()?,
        series: label::series(keys, &point.values),
        load: label::load(keys, &point.values),
        layout: found.map_or_else(Vec::new, |found| found.layout.clone()),
        gpus: found.map(|found| found.gpus),
        frontier: false,
        skipped: kept.skipped.clone(),
        figures: found.map_or_else(Default::default, |found| found.figures.clone()),
    })
}

/// What all points have in common, for people.
fn common(grid: &Grid, found: &[&Found]) -> Vec<(String, String)> {
    let mut common = Vec::new();
    let facts: [Fact; 5] = [
        ("Model", |it| it.model.clone()),
        ("GPU", |it| it.gpu.clone()),
        ("Engine", |it| it.engine.clone()),
        ("Layout", |it| it.layout.join(" + ")),
        ("Kernel costs", |it| it.cost.clone()),
    ];
    for (name, fact) in facts {
        if let Some(value) = shared(found.iter().map(|found| fact(found))) {
            common.push((name.to_owned(), value));
        }
    }
    let lengths = grid.points.iter().map(|point| {
        let load = &point.file.load;
        let said = |tokens: &Option<String>| tokens.clone().unwrap_or_else(|| "traced".to_owned());
        format!("{} tokens in, {} out", said(&load.input_tokens), said(&load.output_tokens))
    });
    if let Some(lengths) = shared(lengths) {
        common.push(("Requests".to_owned(), lengths));
    }
    common
}

/// The value that all have, if they do.
fn shared(mut values: impl Iterator<Item = String>) -> Option<String> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Remarks of all points, the most frequent first.
fn remarks(found: &[&Found]) -> Vec<String> {
    let mut counted: Vec<(&String, usize)> = Vec::new();
    for remark in found.iter().flat_map(|found| &found.remarks) {
        match counted.iter_mut().find(|(known, _)| *known == remark) {
            Some((_, count)) => *count += 1,
            None => counted.push((remark, 1)),
        }
    }
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = counted.len().saturating_sub(REMARKS_MAX);
    let said = counted.iter().take(REMARKS_MAX).map(|(remark, count)| match found.len() - count {
        0 => (*remark).clone(),
        _ => format!("{remark} ({count} of {} points)", found.len()),
    });
    let mut remarks: Vec<String> = said.collect();
    if more > 0 {
        remarks.push(format!("{more} more remarks of single points stand in points/"));
    }
    remarks
}

/// Why nothing was simulated, where nothing was.
fn nothing(file: &StudyFile) -> Option<&str> {
    let all = file.points.iter().all(|point| point.skipped.is_some());
    file.points.first().filter(|_| all)?.skipped.as_deref()
}

/// Writes study.json, study.csv and the report; gives the page.
fn write(file: &StudyFile, out: &Path) -> Result<PathBuf> {
    files::write_bytes(&out.join("study.json"), &serde_json::to_vec_pretty(file)?)?;
    files::write_bytes(&out.join("study.csv"), table::csv(file).as_bytes())?;
    let written = report::make(&Report { run: out.to_path_buf(), out: None })?;
    Ok(written.first().map_or_else(|| out.join("report.html"), PathBuf::from))
}

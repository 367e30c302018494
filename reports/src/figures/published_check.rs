//! What a recording should measure, and what it does.

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::{Label, Paint, Scene, Width, digits};
use crate::tables::{Cell, Rows};
use moecast_traces::synth::check::Check;

pub(super) const ENTRY: Entry = Entry {
    name: "published-check",
    about: "published or promised values of the recording beside those that were found",
    caption: "A generated recording promises statistics of the real one that it stands for. Every \
              line is one promise: the value as published, the value that was measured here, and \
              how far apart the two may be. The table names the source of each.",
    order: 12,
    kind: Kind::Recording { title, rows, draw },
};

/// More lines than these belong into the table only.
const LINES_MAX: usize = 100;

fn title(file: &StatsFile) -> Result<String, &'static str> {
    let answers: Vec<bool> = file.checks.iter().filter_map(Check::holds).collect();
    let (held, all) = (answers.iter().filter(|held| **held).count(), answers.len());
    match all {
        0 if !file.checks.is_empty() => Err("the recording is too short for what is published"),
        0 => Err("no values are published or promised for this recording"),
        _ if held == all => Ok(format!("All {all} published values are met within tolerance")),
        _ => Ok(format!("{held} of {all} published values are met within tolerance")),
    }
}

fn rows(file: &StatsFile) -> Rows {
    let rows = file.checks.iter().map(|it| {
        vec![
            it.name.as_str().into(),
            it.published.into(),
            found(it).into(),
            Cell::Number(found(it) - it.published),
            it.tolerance.into(),
            it.holds().map_or("", |holds| if holds { "yes" } else { "no" }).into(),
            it.source.as_str().into(),
        ]
    });
    Rows {
        columns: &["name", "published", "found", "difference", "tolerance", "within", "source"],
        rows: rows.collect(),
    }
}

/// What was measured; no number where the recording is too short for it.
fn found(it: &Check) -> f64 {
    it.found.unwrap_or(f64::NAN)
}

/// The numbers of a line as text.
fn numbers(it: &Check) -> [String; 4] {
    let difference = |found| {
        let sign = if found > it.published { "+" } else { "" };
        format!("{sign}{}", digits::significant(found - it.published))
    };
    [
        digits::significant(it.published),
        it.found.map_or_else(String::new, digits::significant),
        it.found.map_or_else(String::new, difference),
        format!("±{}", digits::significant(it.tolerance)),
    ]
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let shown = &file.checks[..file.checks.len().min(LINES_MAX)];
    let mut top = match width {
        Width::Wide => wide(&mut scene, shown),
        Width::Narrow => narrow(&mut scene, shown),
    };
    if file.checks.len() > shown.len() {
        let text = format!("and {} more in the table", file.checks.len() - shown.len());
        scene.text(Label::new(0.0, top + 10.0, text).paint(Paint::Soft));
        top += 22.0;
    }
    scene.height = top;
    scene
}

/// The colour and the word of the answer; never the colour alone.
fn answer(it: &Check) -> (Paint, &'static str) {
    match it.holds() {
        Some(true) => (Paint::Series(3), "within"),
        Some(false) => (Paint::Series(2), "outside"),
        None => (Paint::Soft, "too short"),
    }
}

fn wide(scene: &mut Scene, checks: &[Check]) -> f64 {
    const ENDS: [f64; 4] = [500.0, 595.0, 690.0, 785.0];
    const HEADS: [&str; 4] = ["published", "found", "difference", "tolerance"];
    for (end, head) in ENDS.into_iter().zip(HEADS) {
        scene.text(Label::new(end, 8.0, head).end().paint(Paint::Soft).size(11.5));
    }
    let mut top = 20.0;
    for it in checks {
        scene.line(vec![(0.0, top), (scene.width, top)], Paint::Grid, 1.0);
        let middle = top + 13.0;
        scene.text(Label::new(0.0, middle, &it.name).at_most(415.0));
        for (end, text) in ENDS.into_iter().zip(numbers(it)) {
            scene.text(Label::new(end, middle, text).end().at_most(90.0));
        }
        let (paint, word) = answer(it);
        scene.fill([805.0, middle - 5.0, 10.0, 10.0], paint);
        scene.text(Label::new(821.0, middle, word));
        top += 26.0;
    }
    top
}

fn narrow(scene: &mut Scene, checks: &[Check]) -> f64 {
    let mut top = 0.0;
    for it in checks {
        let (paint, word) = answer(it);
        let word = Label::new(scene.width, top + 13.0, word).end();
        let left = scene.width - word.width() - 16.0;
        scene.fill([left, top + 8.0, 10.0, 10.0], paint);
        scene.text(Label::new(0.0, top + 13.0, &it.name).at_most(left - 10.0));
        scene.text(word);
        let [published, found, _, tolerance] = numbers(it);
        let text = format!("published {published} {tolerance}, found {found}");
        let label = Label::new(0.0, top + 31.0, text).paint(Paint::Soft).size(11.5);
        scene.text(label.at_most(scene.width));
        top += 44.0;
        scene.line(vec![(0.0, top), (scene.width, top)], Paint::Grid, 1.0);
        top += 2.0;
    }
    top
}

//! How alike the popularity of experts is between the groups of requests that a recording names.

use moecast_traces::stats::drift::Drift;

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::{drawable, whole_ticks};
use crate::draw::paint::HEAT_LEVELS;
use crate::draw::{Label, Paint, Scene, Width, digits};
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "domain-drift",
    about: "cosine similarity of the expert loads of every two domains",
    caption: "Every cell compares the expert loads of two domains: their cosine similarity, mean \
              over the layers; 1 means that both use the same experts equally much. The darker, \
              the less alike. A placement that is made for one domain loses most under those \
              that are dark beside it. Short recordings look less alike than they are: the table \
              has the divergence that chance gives.",
    order: 14,
    kind: Kind::Recording { title, rows, draw },
};

/// More domains than these make neither a legible figure nor a small one; the table has all.
const DOMAINS_MAX: usize = 64;
/// The palest level, for what is alike; darker ones follow.
const PALEST: u8 = HEAT_LEVELS / 2;
/// Room for the names at the left.
const NAMES: (f64, f64) = (150.0, 96.0);
const CELL_MAX: f64 = 52.0;
/// Similarity of the darkest level, where none is lower: the same colour means the same in two
/// recordings, unless one of them is extreme.
const DARKEST: f64 = 0.5;

fn domains(file: &StatsFile) -> Option<&Drift> {
    file.stats.domains.as_ref().filter(|drift| drift.parts.len() > 1)
}

/// Every two different domains, and their similarity.
fn pairs(drift: &Drift) -> impl Iterator<Item = (usize, usize, Option<f64>)> {
    let parts = drift.parts.len();
    (0..parts).flat_map(move |a| {
        (a + 1..parts).map(move |b| (a, b, drift.cosine[a][b].and_then(drawable)))
    })
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    let drift = domains(file).ok_or("the recording names no domains")?;
    let found = pairs(drift).filter_map(|(a, b, cosine)| Some((a, b, cosine?)));
    let least = found.min_by(|one, two| one.2.total_cmp(&two.2));
    let (a, b, cosine) = least.ok_or("no two domains have any load")?;
    let name = |part: usize| {
        let name: String = drift.parts[part].chars().take(18).collect();
        name
    };
    Ok(format!(
        "{} and {} differ most: the cosine similarity of their loads is {}",
        name(a),
        name(b),
        digits::ratio(cosine)
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let number = |value: Option<f64>| Cell::Number(value.unwrap_or(f64::NAN));
    let rows = domains(file).into_iter().flat_map(|drift| {
        pairs(drift).map(move |(a, b, cosine)| {
            vec![
                drift.parts[a].as_str().into(),
                drift.parts[b].as_str().into(),
                number(cosine),
                number(drift.jensen_shannon[a][b]),
                number(drift.null_jensen_shannon[a][b]),
            ]
        })
    });
    Rows {
        columns: &["domain_a", "domain_b", "cosine", "jensen_shannon_bits", "null_bits"],
        rows: rows.collect(),
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    let mut scene = Scene::new(width);
    let Some(drift) = domains(file) else { return scene };
    let count = drift.parts.len().min(DOMAINS_MAX);
    let left = width.pick(NAMES.0, NAMES.1);
    let side = ((scene.width - left) / count as f64).min(CELL_MAX);
    // A row must hold the name beside it.
    let cell = (side, side.max(14.0));
    let lowest = pairs(drift).filter_map(|(_, _, cosine)| cosine).fold(DARKEST, f64::min);
    let level = |cosine: f64| {
        let share = ((1.0 - cosine) / (1.0 - lowest)).clamp(0.0, 1.0);
        PALEST + (share * f64::from(HEAT_LEVELS - 1 - PALEST)).round() as u8
    };
    let mut top = 0.0;
    if drift.parts.len() > count {
        let text = format!("the first {count} of {} domains", drift.parts.len());
        scene.text(Label::new(0.0, 8.0, text).paint(Paint::Soft));
        top = 22.0;
    }
    let numbers: Vec<u64> = (1..=count as u64).collect();
    for (index, text) in whole_ticks(&numbers, 24.0, |index| index as f64 * cell.0) {
        let middle = left + (index as f64 + 0.5) * cell.0;
        scene.text(Label::new(middle, top + 8.0, text).middle().paint(Paint::Soft));
    }
    top += 20.0;
    for (a, name) in drift.parts.iter().take(count).enumerate() {
        let above = top + a as f64 * cell.1;
        let label = Label::new(0.0, above + cell.1 / 2.0, format!("{} {name}", a + 1));
        scene.text(label.at_most(left - 8.0));
        for b in 0..count {
            let from = (left + b as f64 * cell.0).round();
            let to = (left + (b + 1) as f64 * cell.0).round();
            let at = [from, above.round(), to - from, (above + cell.1).round() - above.round()];
            let cosine = drift.cosine[a][b].and_then(drawable);
            scene.fill(at, cosine.map_or(Paint::Grid, |cosine| Paint::Heat(level(cosine))));
            if let Some(cosine) = cosine.filter(|_| a != b && cell.0 >= 34.0) {
                // Orange carries dark text until it is nearly brown.
                let dark = level(cosine) > PALEST + (HEAT_LEVELS - PALEST) * 7 / 10;
                let paint = if dark { Paint::OnPart } else { Paint::OnPale };
                let middle = (f64::midpoint(from, to), above + cell.1 / 2.0);
                let text = digits::ratio(cosine);
                let label = Label::new(middle.0, middle.1, text).middle().paint(paint).size(11.5);
                scene.text(label.at_most(cell.0 - 2.0));
            }
        }
    }
    scene.height = top + count as f64 * cell.1 + 2.0;
    scene
}

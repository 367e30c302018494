//! The page of a study: what was compared, and the table of its points.

use serde_json::Value;

use super::escape;
use super::words::amount;
use crate::StudyFile;
use crate::draw::digits;
use crate::study_file::{RATE, StudyPoint, TIME};

/// Points beyond this stand in `study.csv` only: a browser must be able to open the page.
const ROWS_MAX: usize = 2_000;

/// What the table shows of every point: heading, name of the figure, and how it is said.
type Column = (&'static str, &'static str, fn(f64) -> String);

const COLUMNS: [Column; 9] = [
    ("TPOT p50, ms", TIME, digits::significant),
    ("TTFT p50, ms", "ttft_ms_p50", digits::significant),
    ("TTFT p99, ms", "ttft_ms_p99", digits::significant),
    ("tokens/s per GPU", RATE, digits::significant),
    ("tokens/s", "output_tokens_per_second", digits::significant),
    ("kept the SLO", "goodput_share", digits::percent),
    ("KV use", "kv_use_mean", digits::percent),
    ("J per token", "energy_j_per_output_token", digits::significant),
    ("cost per million", "cost_per_million_output_tokens", digits::significant),
];

/// One line for a figure that travels alone.
pub(crate) fn about(file: &StudyFile) -> String {
    let common: Vec<&str> = file.common.iter().map(|(_, value)| value.as_str()).collect();
    format!("{} · {} of {}", common.join(", "), amount(simulated(file), "point"), file.study)
}

fn simulated(file: &StudyFile) -> u64 {
    file.points.iter().filter(|point| point.skipped.is_none()).count() as u64
}

pub(super) fn title(file: &StudyFile) -> String {
    format!("Study {}", file.study)
}

/// The paragraph under the title, as HTML.
pub(super) fn summary(file: &StudyFile) -> String {
    let keys: Vec<String> = file.keys.iter().map(|key| escape(key)).collect();
    let mut text = format!(
        "{} that differ in {}.",
        amount(file.points.len() as u64, "service"),
        super::words::listed(&keys)
    );
    let skipped = file.points.len() as u64 - simulated(file);
    if skipped > 0 {
        text += &format!(" {} cannot exist; the table says why.", digits::count(skipped));
    }
    for (what, best) in [
        ("Quickest for a request", extreme(file, |(time, _)| -time)),
        ("Most for a GPU", extreme(file, |(_, rate)| rate)),
    ] {
        if let Some((point, (time, rate))) = best {
            text += &format!(
                " {what}: <strong>{}</strong>, {} ms a token and {} tokens/s a GPU.",
                escape(&point.name()),
                digits::significant(time),
                digits::significant(rate)
            );
        }
    }
    text + &within_limits(file)
}

/// The sentence about the best point that keeps its limits.
fn within_limits(file: &StudyFile) -> String {
    let Some(best) = file.best_within_limits() else {
        let none = " No point serves 99% of the requests within their limits.";
        return if file.has_limits() { none.to_owned() } else { String::new() };
    };
    format!(
        " Most for a GPU with 99% of the requests within their limits: <strong>{}</strong>, {} \
         tokens/s a GPU.",
        escape(&best.name()),
        digits::significant(best.figure(RATE).unwrap_or(0.0))
    )
}

/// The point of the frontier with the most of something.
fn extreme(file: &StudyFile, value: fn((f64, f64)) -> f64) -> Option<(&StudyPoint, (f64, f64))> {
    let on = file.points.iter().filter(|point| point.frontier);
    let places = on.filter_map(|point| Some((point, point.place()?)));
    places.max_by(|a, b| value(a.1).total_cmp(&value(b.1)))
}

/// The figure, or why there is none.
pub(super) fn figure_section(drawn: &str) -> String {
    if drawn.is_empty() {
        return "<p class=\"absent\">Not shown: throughput-latency (no point made an answer of two \
                tokens or more).</p>\n"
            .to_owned();
    }
    format!("<h2>Figure</h2>\n{drawn}")
}

/// The points of the frontier, then all of them.
pub(super) fn tables(file: &StudyFile) -> String {
    let mut frontier: Vec<&StudyPoint> = file.points.iter().filter(|it| it.frontier).collect();
    frontier.sort_by(|a, b| a.place().partial_cmp(&b.place()).unwrap_or(std::cmp::Ordering::Equal));
    let all: Vec<&StudyPoint> = file.points.iter().take(ROWS_MAX).collect();
    let mut html = String::new();
    if !frontier.is_empty() {
        html += "<h2>The frontier</h2>\n";
        html += &table(file, &frontier);
    }
    html += "<h2>All points</h2>\n";
    html += &table(file, &all);
    if all.len() < file.points.len() {
        html += &format!(
            "<p class=\"absent\">Shown are the first {} of {} points; all are in study.csv.</p>\n",
            digits::count(all.len() as u64),
            digits::count(file.points.len() as u64)
        );
    }
    html
}

fn table(file: &StudyFile, points: &[&StudyPoint]) -> String {
    // A column that no point has a number for says nothing.
    let has = |name: &str| file.points.iter().any(|point| point.figure(name).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(|(_, name, _)| has(name)).collect();
    let mut html = "<div class=\"scroll\" tabindex=\"0\">\n<table class=\"wide-table\">\n\
                    <thead><tr>\
                    <th scope=\"col\" style=\"text-align:left;padding-left:0\">point</th>"
        .to_owned();
    for key in &file.keys {
        // Keys may be broken where they have dots.
        let key = escape(key).replace('.', ".<wbr/>");
        html += &format!("<th scope=\"col\">{key}</th>");
    }
    html += "<th scope=\"col\">GPUs</th>";
    for (heading, ..) in &columns {
        html += &format!("<th scope=\"col\">{heading}</th>");
    }
    html += "</tr></thead>\n<tbody>\n";
    for point in points {
        html += &row(file, point, &columns);
    }
    html + "</tbody>\n</table>\n</div>\n"
}

fn row(file: &StudyFile, point: &StudyPoint, columns: &[&Column]) -> String {
    let mut html = format!("<tr><th scope=\"row\">{}</th>", point.point);
    for key in &file.keys {
        html += &format!("<td>{}</td>", escape(&shown(point.values.get(key))));
    }
    if let Some(reason) = &point.skipped {
        html += &format!(
            "<td colspan=\"{}\" style=\"white-space:normal;text-align:left\">{}</td></tr>\n",
            1 + columns.len(),
            escape(reason)
        );
        return html;
    }
    html += &format!("<td>{}</td>", point.gpus.unwrap_or(0));
    for (_, name, text) in columns {
        let text = point.figure(name).map_or_else(|| "-".to_owned(), text);
        html += &format!("<td>{text}</td>");
    }
    html + "</tr>\n"
}

/// A value of a key as people read it.
fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

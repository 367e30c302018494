//! Headline numbers and the table that compares the candidates.

use super::escape;
use crate::RunFile;
use crate::draw::axes::largest;
use crate::draw::digits::{self, Unit, byte_unit, time_unit, with_unit};
use crate::draw::paint::candidate;
use crate::run_file::Candidate;

/// A number worth a card of its own.
struct Headline {
    title: &'static str,
    note: String,
    lower_is_better: bool,
    value: fn(&Candidate) -> f64,
    text: Box<dyn Fn(f64) -> String>,
}

fn headline_numbers(run: &RunFile) -> [Headline; 3] {
    let unit = step_unit(run);
    let bound = run.imbalance_bound;
    let bound = match bound.is_finite() && bound > 0.0 {
        true => {
            format!("; no placement with the slots of the plan gets below {}", digits::ratio(bound))
        }
        false => String::new(),
    };
    [
        Headline {
            title: "Imbalance",
            note: format!("load of the busiest rank / mean, lower is better{bound}"),
            lower_is_better: true,
            value: |it| it.summary.imbalance,
            text: Box::new(digits::ratio),
        },
        Headline {
            title: "Step time",
            note: "mean of one forward pass, lower is better".to_owned(),
            lower_is_better: true,
            value: |it| it.summary.step_time_us.mean,
            text: Box::new(move |value| with_unit(value, unit)),
        },
        Headline {
            title: "Tokens per second",
            note: "all ranks together, higher is better".to_owned(),
            lower_is_better: false,
            value: |it| it.summary.tokens_per_second,
            text: Box::new(digits::significant),
        },
    ]
}

/// The cards.
pub(super) fn headlines(run: &RunFile) -> String {
    let mut html = "<section class=\"cards\" aria-label=\"Headline numbers\">\n".to_owned();
    for headline in headline_numbers(run) {
        html += &format!("<div class=\"card\">\n<h2>{}</h2>\n<table>\n", headline.title);
        for (index, it) in run.candidates.iter().enumerate() {
            let value = (headline.value)(it);
            let first = (headline.value)(&run.candidates[0]);
            html += &format!(
                "<tr><th scope=\"row\"><i style=\"background:{}\"></i>{}</th><td>{}</td>{}</tr>\n",
                candidate(run, index).css(),
                escape(&it.name),
                (headline.text)(value),
                change(first, value, index, headline.lower_is_better),
            );
        }
        html += &format!("</table>\n<p>{}</p>\n</div>\n", escape(&headline.note));
    }
    html + "</section>\n"
}

/// The cell with the change against the first candidate.
fn change(first: f64, value: f64, index: usize, lower_is_better: bool) -> String {
    let text = if index == 0 { None } else { digits::change(first, value) };
    match text {
        None => "<td></td>".to_owned(),
        Some(text) => {
            let class = match (text.chars().next(), lower_is_better) {
                (Some('−'), true) | (Some('+'), false) => " class=\"better\"",
                (Some('+'), true) | (Some('−'), false) => " class=\"worse\"",
                _ => "",
            };
            format!("<td{class}>{text}</td>")
        }
    }
}

fn step_unit(run: &RunFile) -> Unit {
    time_unit(largest(run.candidates.iter().map(|it| it.summary.step_time_us.mean)))
}

/// A line of the table: what it is, and its text for a candidate.
type Line = (&'static str, Box<dyn Fn(&Candidate) -> String>);

fn line(name: &'static str, text: impl Fn(&Candidate) -> String + 'static) -> Line {
    (name, Box::new(text))
}

fn lines(run: &RunFile) -> Vec<Line> {
    let time = step_unit(run);
    let bytes = run.candidates.iter().map(|it| it.summary.bytes_per_step);
    let bytes = byte_unit(largest(bytes.flat_map(|it| [it.domain, it.network])));
    let timed =
        |name, value: fn(&Candidate) -> f64| line(name, move |it| with_unit(value(it), time));
    let sent =
        |name, value: fn(&Candidate) -> f64| line(name, move |it| with_unit(value(it), bytes));
    vec![
        line("Slots per layer", |it| digits::count(u64::from(it.slots))),
        line("Slots with a second copy on the same rank", |it| {
            digits::count(it.wasted_slots as u64)
        }),
        line("Imbalance (max / mean rank load)", |it| digits::ratio(it.summary.imbalance)),
        timed("Step time, mean", |it| it.summary.step_time_us.mean),
        line("± half its 95% interval", move |it| {
            let half = it.summary.step_time_us.mean_ci95;
            half.map_or("not known".to_owned(), |half| {
                // Two digits; more would claim that the interval itself is known exactly.
                let half = half / time.size;
                let places = digits::places(half).saturating_sub(1);
                format!("{} {}", digits::with_places(half, places), time.name)
            })
        }),
        timed("Step time, median", |it| it.summary.step_time_us.p50),
        timed("Step time, 90th percentile", |it| it.summary.step_time_us.p90),
        timed("Step time, 99th percentile", |it| it.summary.step_time_us.p99),
        line("Tokens per second", |it| digits::significant(it.summary.tokens_per_second)),
        line("Mean time computing, all ranks", |it| {
            let shares = &it.summary.rank_utilisation;
            digits::percent(shares.iter().sum::<f64>() / shares.len() as f64)
        }),
        sent("Bytes per step inside nodes", |it| it.summary.bytes_per_step.domain),
        sent("Bytes per step between nodes", |it| it.summary.bytes_per_step.network),
        line("Steps simulated", |it| digits::count(it.summary.steps)),
    ]
}

/// The table, a column per candidate.
pub(super) fn comparison(run: &RunFile) -> String {
    let mut html = "<h2>Comparison</h2>\n<div class=\"scroll\" tabindex=\"0\">\n\
                    <table class=\"wide-table\">\n<thead><tr><td></td>"
        .to_owned();
    for it in &run.candidates {
        html += &format!("<th scope=\"col\">{}</th>", escape(&it.name));
    }
    html += "</tr></thead>\n<tbody>\n";
    for (name, text) in lines(run) {
        html += &format!("<tr><th scope=\"row\">{name}</th>");
        for it in &run.candidates {
            html += &format!("<td>{}</td>", text(it));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n</div>\n"
}

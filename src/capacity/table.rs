//! The answer in the terminal.

use anyhow::Result;

use super::judge::Verdict;
use super::row::Row;
use super::{Answer, Limits};
use crate::output::{Output, Table};

/// What holds, what is beyond it, and what is doubtful.
pub(super) fn print(answer: &Answer, output: &Output) -> Result<()> {
    let Answer { model, engine, .. } = answer;
    let asked = match answer.rate {
        Some(rate) => format!("fewest replicas for {} requests/s", figure(rate)),
        None => "largest rate of the given replicas".to_owned(),
    };
    output.note(&format!("{model} under {engine}, {asked}"))?;
    output.note(&format!("{}\n", said(&answer.slo, answer.goodput)))?;
    let held: Vec<(&Row, &Verdict)> =
        answer.rows.iter().filter_map(|row| Some((row, row.holds.as_ref()?))).collect();
    if !held.is_empty() {
        output.table(&holding(answer, &held))?;
        output.note("")?;
    }
    let beyond: Vec<(&Row, &Verdict)> =
        answer.rows.iter().filter_map(|row| Some((row, row.beyond.as_ref()?))).collect();
    if !beyond.is_empty() {
        let single = beyond.iter().all(|(_, verdict)| verdict.replicas.len() == 1);
        let step = match (held.is_empty(), answer.rate, single) {
            (true, ..) => "",
            (_, None, _) => " with 1% more requests",
            (_, _, true) => " with one replica fewer",
            (_, _, false) => " with one step fewer replicas",
        };
        output.note(&format!("What breaks first{step}:\n"))?;
        output.table(&breaking(answer, &beyond))?;
        output.note("")?;
    }
    for row in &answer.rows {
        output.remarks(&unanswered(answer, row))?;
    }
    output.remarks(&answer.remarks)
}

/// The limits in words.
fn said(slo: &Limits, goodput: f64) -> String {
    let limit = |name: &str, ms: Option<f64>| ms.map(|ms| format!("{name} {} ms", figure(ms)));
    let limits: Vec<String> = [
        limit("TTFT", slo.ttft_ms),
        limit("TPOT", slo.tpot_ms),
        limit("end to end", slo.end_to_end_ms),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{}% of the requests within {}", figure(goodput * 100.0), limits.join(" and "))
}

/// A number with no more digits than it needs, four at most.
fn figure(value: f64) -> String {
    let digits = if value >= 100.0 { 1 } else { 3 };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn replicas(verdict: &Verdict) -> String {
    let counts: Vec<String> = verdict.replicas.iter().map(u16::to_string).collect();
    counts.join(" + ")
}

fn start(answer: &Answer, row: &Row, verdict: &Verdict) -> Vec<String> {
    let mut cells = vec![row.gpu.clone(), row.layout.join(" + "), replicas(verdict)];
    if answer.rate.is_none() {
        cells.push(figure(verdict.rate));
    }
    cells
}

fn headings(answer: &Answer) -> Vec<&'static str> {
    let mut headings = vec!["GPU", "layout", "replicas"];
    if answer.rate.is_none() {
        headings.push("requests/s");
    }
    headings
}

/// What a verdict says of times: heading, whether its limit was asked for, time.
type Time = (&'static str, fn(&Limits) -> bool, fn(&Verdict) -> f64);

const TIMES: [Time; 3] = [
    ("TTFT p99, ms", |slo| slo.ttft_ms.is_some(), |it| it.ttft_ms_p99),
    ("TPOT p99, ms", |slo| slo.tpot_ms.is_some(), |it| it.tpot_ms_p99),
    ("end to end p99, ms", |slo| slo.end_to_end_ms.is_some(), |it| it.end_to_end_ms_p99),
];

fn holding(answer: &Answer, rows: &[(&Row, &Verdict)]) -> Table {
    let times: Vec<&Time> = TIMES.iter().filter(|(_, asked, _)| asked(&answer.slo)).collect();
    let priced = rows.iter().any(|(row, _)| row.cost_per_hour.is_some());
    let mut headings = headings(answer);
    headings.extend(["GPUs", "kept"]);
    headings.extend(times.iter().map(|(heading, ..)| *heading));
    headings.extend(["KV, most", "tokens/s/GPU"]);
    if priced {
        headings.extend(["cost/hour", "cost/million"]);
    }
    let mut table = Table::new(&headings);
    for (row, held) in rows {
        let mut cells = start(answer, row, held);
        cells.extend([held.gpus.to_string(), percent(held.goodput)]);
        cells.extend(times.iter().map(|(.., time)| format!("{:.1}", time(held))));
        let rate = held.rate * held.output_tokens_per_request / f64::from(held.gpus);
        cells.extend([percent(held.kv_use_max), format!("{rate:.1}")]);
        if priced {
            let said = |cost: Option<f64>, digits: usize| {
                cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.digits$}"))
            };
            cells.push(said(row.cost_per_hour, 2));
            cells.push(said(row.cost_per_million_output_tokens, 3));
        }
        table.row(cells);
    }
    table
}

fn breaking(answer: &Answer, rows: &[(&Row, &Verdict)]) -> Table {
    let times: Vec<&Time> = TIMES.iter().filter(|(_, asked, _)| asked(&answer.slo)).collect();
    let mut headings = headings(answer);
    headings.push("kept");
    headings.extend(times.iter().map(|(heading, ..)| *heading));
    headings.extend(["KV, most", "queue grows, ms/s", "breaks first", "because"]);
    let mut table = Table::new(&headings);
    for (row, verdict) in rows {
        let mut cells = start(answer, row, verdict);
        cells.push(percent(verdict.goodput));
        cells.extend(times.iter().map(|(.., time)| format!("{:.1}", time(verdict))));
        cells.push(percent(verdict.kv_use_max));
        // A queue that shrinks by nothing is one that does not grow.
        let growth = (verdict.queue_growth_ms_per_second * 10.0).round() / 10.0 + 0.0;
        cells.push(format!("{growth:.1}"));
        let (limit, because) = verdict.breaks_first.as_ref().map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |it| (format!("{} ({})", it.limit, percent(it.missed)), it.because.to_owned()),
        );
        cells.extend([limit, because]);
        table.row(cells);
    }
    table
}

/// Why a row has no answer, or only half of one.
fn unanswered(answer: &Answer, row: &Row) -> Option<String> {
    let name = row.name();
    if let Some(reason) = &row.skipped {
        let fits = row.fits_from.as_ref().map_or_else(String::new, |fit| {
            format!("; {} GPUs a replica are enough: {}", fit.gpus, fit.layout)
        });
        return Some(format!("{name}: {reason}{fits}"));
    }
    match (&row.holds, &row.beyond, answer.rate) {
        (None, Some(last), Some(_)) => {
            let broken = last.breaks_first.as_ref().map_or_else(String::new, |it| {
                format!(": {} of the requests miss the {}", percent(it.missed), it.limit)
            });
            Some(format!("{name}: even {} replicas do not hold it{broken}", replicas(last)))
        }
        (None, Some(_), None) => Some(format!("{name}: no rate is low enough")),
        (Some(_), None, Some(_)) => Some(format!(
            "{name}: the smallest number of replicas holds it; --rate-max says how much more"
        )),
        (Some(_), None, None) => Some(format!("{name}: no rate is too high for these requests")),
        _ => None,
    }
}

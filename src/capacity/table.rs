//! The answer in the terminal, in lines of 100 characters where two limits and the layout of one
//! pool are shown; `--json` says more.

use anyhow::Result;

use super::judge::{self, Break, Verdict};
use super::row::Row;
use super::{Answer, Limits};
use crate::output::{Output, Table};

/// What holds, what is beyond it, and what is doubtful.
pub(super) fn print(answer: &Answer, output: &Output) -> Result<()> {
    let Answer { model, engine, .. } = answer;
    let asked = match answer.rate {
        Some(rate) => format!("fewest replicas for {} requests/s", figure(rate)),
        None => "largest rate (requests/s) of the given replicas".to_owned(),
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
    let limits = limits.join(" and ");
    format!("{}% of the requests within {limits}; times in ms", figure(goodput * 100.0))
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
    let asked = if answer.rate.is_some() { replicas(verdict) } else { figure(verdict.rate) };
    vec![row.gpu.clone(), row.layout.join(" + "), asked]
}

fn headings(answer: &Answer) -> Vec<&'static str> {
    vec!["GPU", "layout", if answer.rate.is_some() { "replicas" } else { "rate" }]
}

/// What a verdict says of times: heading, whether its limit was asked for, time.
type Time = (&'static str, fn(&Limits) -> bool, fn(&Verdict) -> f64);

const TIMES: [Time; 3] = [
    ("TTFT p99", |slo| slo.ttft_ms.is_some(), |it| it.ttft_ms_p99),
    ("TPOT p99", |slo| slo.tpot_ms.is_some(), |it| it.tpot_ms_p99),
    ("end to end p99", |slo| slo.end_to_end_ms.is_some(), |it| it.end_to_end_ms_p99),
];

fn holding(answer: &Answer, rows: &[(&Row, &Verdict)]) -> Table {
    let times: Vec<&Time> = TIMES.iter().filter(|(_, asked, _)| asked(&answer.slo)).collect();
    let priced = rows.iter().any(|(row, _)| row.cost_per_hour.is_some());
    let mut headings = headings(answer);
    headings.extend(["GPUs", "kept"]);
    headings.extend(times.iter().map(|(heading, ..)| *heading));
    headings.extend(["KV max", "tokens/s/GPU"]);
    if priced {
        // Of output tokens; GPUs times price is easily said.
        headings.push("cost/1M");
    }
    let mut table = Table::new(&headings);
    for (row, held) in rows {
        let mut cells = start(answer, row, held);
        cells.extend([held.gpus.to_string(), percent(held.goodput)]);
        cells.extend(times.iter().map(|(.., time)| format!("{:.1}", time(held))));
        let rate = held.rate * held.output_tokens_per_request / f64::from(held.gpus);
        cells.extend([percent(held.kv_use_max), format!("{rate:.1}")]);
        if priced {
            let cost = row.cost_per_million_output_tokens;
            cells.push(cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}")));
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
    headings.extend(["breaks", "because"]);
    let mut table = Table::new(&headings);
    for (row, verdict) in rows {
        let mut cells = start(answer, row, verdict);
        cells.push(percent(verdict.goodput));
        cells.extend(times.iter().map(|(.., time)| format!("{:.1}", time(verdict))));
        let (limit, because) = match &verdict.breaks_first {
            Some(first) => (first.limit.to_owned(), reason(first, verdict)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        cells.extend([limit, because]);
        table.row(cells);
    }
    table
}

/// Why a limit is missed, with the figure that shows it.
fn reason(first: &Break, verdict: &Verdict) -> String {
    let because = first.because;
    match because {
        judge::KV_IS_FULL => format!("{because} ({})", percent(verdict.kv_use_max)),
        judge::REQUESTS_QUEUE if verdict.queue_growth_ms_per_second >= 0.1 => {
            format!("{because} (+{:.1} ms/s)", verdict.queue_growth_ms_per_second)
        }
        _ => because.to_owned(),
    }
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

//! What `moecast trace stats` says of the whole model, below its table of layers.

use std::collections::BTreeMap;

use anyhow::Result;
use moecast_traces::stats::TraceStats;
use moecast_traces::stats::drift::Drift;
use moecast_traces::stats::transition::TransitionStats;

use crate::output::{Output, Table};

pub(crate) fn print(stats: &TraceStats, output: &Output) -> Result<()> {
    let locality = &stats.locality;
    if !locality.srp.is_empty() {
        output.line("\nthe whole model: is an expert that was picked soon picked again?")?;
        let title = "segment of tokens";
        let rows = [("SRP (F1)", &locality.srp), ("by chance", &stats.srp_null)];
        output.table(&figures(title, &rows))?;
        output.line("")?;
        let rates = [
            ("LRU", &locality.chr.lru),
            ("LFU", &locality.chr.lfu),
            ("Belady (bound)", &locality.chr.belady),
        ];
        output.table(&figures("hit rate of a cache, x top-k", &rates))?;
        output.line("")?;
        output.table(&structure(stats))?;
    }
    let mut table = Table::new(&["drift, bits", "mean", "by chance", "most", "between"]);
    let windows = format!("{} windows of time", stats.drift.parts.len());
    let domains = stats.domains.as_ref();
    let named = domains.map(|drift| (format!("{} domains", drift.parts.len()), drift));
    let mut rows = 0;
    for (name, drift) in [Some((windows, &stats.drift)), named].into_iter().flatten() {
        if let Some(cells) = drift_cells(drift) {
            table.row([vec![name], cells].concat());
            rows += 1;
        }
    }
    if rows > 0 {
        output.line("")?;
        output.table(&table)?;
    }
    Ok(())
}

/// What tokens and layers have to do with each other, beside what chance gives.
#[expect(clippy::cast_precision_loss, reason = "a number of layers")]
fn structure(stats: &TraceStats) -> Table {
    let mut table = Table::new(&["structure", "here", "by chance"]);
    let mut row = |name: String, here: Option<f64>, chance: Option<f64>| {
        if here.is_some() {
            table.row([name, show(here), show(chance)]);
        }
    };
    if let Some(reuse) = &stats.reuse {
        row("other experts used before one returns".to_owned(), reuse.mean, reuse.null_mean);
    }
    let batches = stats.active_experts.iter().flatten();
    for active in batches.filter(|active| [16, 256].contains(&active.batch)) {
        let name = format!("distinct experts of {} tokens in a row", active.batch);
        row(name, Some(active.consecutive), Some(active.null));
    }
    if let Some(pairs) = stats.transitions.as_ref().filter(|pairs| !pairs.is_empty()) {
        let mean = |of: fn(&TransitionStats) -> f64| {
            Some(pairs.iter().map(of).sum::<f64>() / pairs.len() as f64)
        };
        let name = "bits that a pick tells of the next layer's".to_owned();
        row(name, mean(|pair| pair.bits), mean(|pair| pair.null_bits));
    }
    let strongest = stats.per_layer.iter().filter_map(|layer| layer.coactivation.as_ref());
    let lifts = strongest.filter_map(|all| Some((all.pairs.first()?.lift, all.null_lift)));
    if let Some((lift, null)) = lifts.max_by(|one, other| one.0.total_cmp(&other.0)) {
        row("strongest pair of experts, times chance".to_owned(), Some(lift), null);
    }
    table
}

/// Rows of figures by the numbers that they are given for.
fn figures(title: &str, rows: &[(&str, &BTreeMap<u32, Option<f64>>)]) -> Table {
    let numbers: Vec<String> = rows[0].1.keys().map(u32::to_string).collect();
    let headings: Vec<&str> =
        [title].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let mut table = Table::new(&headings);
    for (name, figures) in rows {
        let cells = figures.values().map(|value| show(*value));
        table.row([(*name).to_owned()].into_iter().chain(cells));
    }
    table
}

fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// Mean divergence between two different parts, that of chance, and the largest with its parts.
#[expect(clippy::cast_precision_loss, reason = "a number of pairs")]
fn drift_cells(drift: &Drift) -> Option<Vec<String>> {
    let parts = drift.parts.len();
    let pairs = || (0..parts).flat_map(|a| (a + 1..parts).map(move |b| (a, b)));
    let mean = |matrix: &[Vec<Option<f64>>]| {
        let values: Vec<f64> = pairs().filter_map(|(a, b)| matrix[a][b]).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let divergence = |&(a, b): &(usize, usize)| drift.jensen_shannon[a][b];
    let (a, b) = pairs()
        .filter(|pair| divergence(pair).is_some())
        .max_by(|x, y| divergence(x).unwrap_or(0.0).total_cmp(&divergence(y).unwrap_or(0.0)))?;
    Some(vec![
        show(mean(&drift.jensen_shannon)),
        show(mean(&drift.null_jensen_shannon)),
        show(divergence(&(a, b))),
        format!("parts {} and {}", drift.parts[a], drift.parts[b]),
    ])
}

//! What `moecast trace cache` answers: JSON, a table, a file and a figure.

use anyhow::Result;
use moecast_profiles::units::Bytes;
use moecast_reports::{MissCurve, Picture, miss_curves};
use moecast_sim::cache::Sees;
use moecast_sim::replay::Capacity;
use moecast_sim::replay::curve::Curve;
use moecast_traces::RoutingTrace;
use serde_json::{Value, json};

use super::Answer;
use crate::cli::trace::cache::{Cache, GranularityArgument, PoolArgument};
use crate::output::{Output, Table};
use crate::trace::describe;
use crate::{files, picture};

/// Points of the LRU curve that are written at most.
const POINTS_MAX: usize = 256;

/// What every answer repeats of the question.
pub(super) struct Told<'a> {
    pub(super) arguments: &'a Cache,
    pub(super) trace: &'a RoutingTrace,
    pub(super) notes: Vec<String>,
    /// Jobs that ran side by side while they were timed.
    pub(super) at_once: usize,
}

pub(super) fn print(
    told: &Told<'_>,
    answers: &[Answer],
    curve: Option<&Curve>,
    output: &Output,
) -> Result<()> {
    let json = json_of(told, answers, curve);
    if let Some(out) = &told.arguments.out {
        files::write_bytes(&out.join("cache.json"), &serde_json::to_vec_pretty(&json)?)?;
        picture::write_both(&figure(told, answers, curve), out, "cache")?;
    }
    if output.json(&json)? {
        return Ok(());
    }
    output.note(&describe(told.trace))?;
    let header = &told.trace.header().remarks;
    output.remarks(header.iter().chain(&told.notes))?;
    output.line(&format!(
        "hit rates at granularity {}, pool {}",
        granularity(told.arguments),
        pool(told.arguments)
    ))?;
    output.table(&table(answers))?;
    if answers.iter().any(|answer| answer.job.entry.sees == Sees::Future) {
        output.note("belady sees the future: a bound on all policies, not one of them")?;
    }
    match &told.arguments.out {
        Some(out) => output.line(&format!("results: {}", out.join("cache.json").display())),
        None => Ok(()),
    }
}

fn granularity(arguments: &Cache) -> &'static str {
    match arguments.granularity {
        GranularityArgument::Access => "access",
        GranularityArgument::Layer => "layer",
        GranularityArgument::Token => "token",
    }
}

fn pool(arguments: &Cache) -> &'static str {
    match arguments.pool {
        PoolArgument::Global => "global",
        PoolArgument::PerLayer => "per-layer",
        PoolArgument::Planned => "planned",
    }
}

fn sees(sees: Sees) -> &'static str {
    match sees {
        Sees::Past => "past",
        Sees::Training => "training",
        Sees::Future => "future",
    }
}

/// A row for every policy, a column for every size.
fn table(answers: &[Answer]) -> Table {
    let mut sizes: Vec<Capacity> = Vec::new();
    for answer in answers {
        if !sizes.contains(&answer.job.capacity) {
            sizes.push(answer.job.capacity);
        }
    }
    let name = |size: &Capacity| match size {
        Capacity::Slots(slots) => format!("{slots} slots"),
        Capacity::Bytes(bytes) => Bytes(*bytes).to_string(),
    };
    let headings: Vec<String> = sizes.iter().map(name).collect();
    let mut columns = vec!["policy"];
    columns.extend(headings.iter().map(String::as_str));
    let mut table = Table::new(&columns);
    for answers in answers.chunks(sizes.len().max(1)) {
        let entry = answers[0].job.entry;
        let bound = if entry.sees == Sees::Future { " (bound)" } else { "" };
        let rate = |answer: &Answer| match answer.outcome.total.hit_rate() {
            Some(rate) => format!("{:.2}%", 100.0 * rate),
            None => "-".to_owned(),
        };
        let cells = answers.iter().map(rate);
        table.row([format!("{}{bound}", entry.name)].into_iter().chain(cells));
    }
    table
}

/// The answer of `trace cache --json`; keys are stable.
fn json_of(told: &Told<'_>, answers: &[Answer], curve: Option<&Curve>) -> Value {
    let header = told.trace.header();
    let results: Vec<Value> = answers.iter().map(|answer| result(told, answer)).collect();
    let mut object = json!({
        "model": header.model,
        "source": header.source,
        "synthetic": header.synthetic,
        "granularity": granularity(told.arguments),
        "pool": pool(told.arguments),
        "heldout": told.arguments.heldout,
        "timed_at_once": told.at_once,
        "remarks": header.remarks.iter().chain(&told.notes).collect::<Vec<_>>(),
        "results": results,
    });
    if let Some(curve) = curve {
        let points = points(curve);
        object["curve"] = json!({
            "policy": "lru",
            "slots": points.iter().map(|point| point.0).collect::<Vec<_>>(),
            "hit_rate": points.iter().map(|point| point.1).collect::<Vec<_>>(),
        });
    }
    object
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn result(told: &Told<'_>, answer: &Answer) -> Value {
    let Answer { job, outcome, seconds } = answer;
    let total = outcome.total;
    let layers = told.trace.header().layers.iter().zip(&outcome.per_layer);
    let per_layer: Vec<Value> = layers
        .map(|(layer, tally)| {
            json!({
                "layer": layer,
                "lookups": tally.look_ups,
                "hits": tally.hits,
                "hit_rate": tally.hit_rate(),
            })
        })
        .collect();
    let over_time: Vec<Value> = outcome
        .over_time
        .iter()
        .map(|window| {
            json!({
                "first_step": window.first_step,
                "steps": window.steps,
                "lookups": window.tally.look_ups,
                "hits": window.tally.hits,
                "hit_rate": window.tally.hit_rate(),
                "bytes_moved": window.bytes_moved,
            })
        })
        .collect();
    let mut object = json!({
        "policy": job.entry.name,
        "sees": sees(job.entry.sees),
        "granularity": granularity(told.arguments),
        "pool": pool(told.arguments),
        "lookups": total.look_ups,
        "hits": total.hits,
        "misses": total.misses(),
        "hit_rate": total.hit_rate(),
        "prefill_hit_rate": outcome.prefill.hit_rate(),
        "decode_hit_rate": outcome.decode.hit_rate(),
        "bytes_moved": outcome.bytes_moved,
        "lookups_per_second": total.look_ups as f64 / seconds.max(1e-9),
        "per_layer": per_layer,
        "over_time": over_time,
    });
    match job.capacity {
        Capacity::Slots(slots) => object["slots"] = json!(slots),
        Capacity::Bytes(bytes) => object["bytes"] = json!(bytes),
    }
    object
}

/// Slots of all pools and the hit rate with them.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn points(curve: &Curve) -> Vec<(usize, f64)> {
    let sizes: Vec<usize> = (curve.from..curve.hits.len()).collect();
    let step = sizes.len().div_ceil(POINTS_MAX).max(1);
    let kept = sizes
        .iter()
        .enumerate()
        .filter(|(index, size)| index % step == 0 || **size + 1 == curve.hits.len());
    let rate = |size: usize| curve.hits[size] as f64 / curve.look_ups.max(1) as f64;
    kept.map(|(_, &size)| (size * curve.pools, rate(size))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes are drawn")]
fn figure(told: &Told<'_>, answers: &[Answer], curve: Option<&Curve>) -> Picture {
    let mut curves: Vec<MissCurve> = Vec::new();
    let in_bytes = answers.iter().any(|it| matches!(it.job.capacity, Capacity::Bytes(_)));
    for answer in answers {
        let name = answer.job.entry.name;
        if curves.last().is_none_or(|curve| curve.name != name) {
            let bound = answer.job.entry.sees == Sees::Future;
            curves.push(MissCurve { name: name.to_owned(), bound, points: Vec::new() });
        }
        let size = match answer.job.capacity {
            Capacity::Slots(slots) => slots as f64,
            Capacity::Bytes(bytes) => bytes as f64 / f64::from(1 << 30),
        };
        let miss = answer.outcome.total.hit_rate().map(|rate| 1.0 - rate);
        let last = curves.last_mut().expect("pushed above");
        last.points.extend(miss.map(|miss| (size, miss)));
        last.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    if let (Some(curve), false) = (curve, in_bytes) {
        let all = points(curve).into_iter().map(|(slots, rate)| (slots as f64, 1.0 - rate));
        match curves.iter_mut().find(|curve| curve.name == "lru") {
            Some(known) => known.points = all.collect(),
            None => curves.push(MissCurve {
                name: "lru".to_owned(),
                bound: false,
                points: all.collect(),
            }),
        }
    }
    let sizes = if in_bytes { "cache, GiB" } else { "cache, experts of all layers" };
    let title = "What a cache of experts misses";
    let header = told.trace.header();
    let about = format!(
        "{}{} · granularity {}, pool {}",
        if header.synthetic { "synthetic recording · " } else { "" },
        header.model,
        granularity(told.arguments),
        pool(told.arguments)
    );
    miss_curves(&curves, sizes, title, &about)
}

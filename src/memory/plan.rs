//! `moecast memory plan`: what a memory gives, and what memory a speed needs.

mod answer;
mod base;
mod candidate;
mod curves;
mod figure;
mod search;
mod widths;
mod write;

use std::path::Path;

use anyhow::{Result, ensure};
use moecast_profiles::seed::Seed;
use serde_json::{Value, json};

use self::answer::{Answer, Row, answer, gib};
use self::base::Base;
use crate::cli::Global;
use crate::cli::memory::plan::Plan;
use crate::output::{Output, Table};
use crate::{files, picture};

/// Characters of the longest bar of a curve.
const BAR: usize = 24;

pub(super) fn run(arguments: &Plan, global: &Global, output: &Output) -> Result<()> {
    let many = arguments.out.is_some() && arguments.memory.len() > 1;
    ensure!(!many, "--out: {} sizes of --memory; expected one", arguments.memory.len());
    let base = Base::new(arguments, Seed(global.seed))?;
    let spinner = output.spinner("memory plan");
    let answer = answer(&base, arguments)?;
    spinner.finish_and_clear();
    let written = match &arguments.out {
        Some(out) => write_all(arguments, &base, &answer, out)?,
        None => None,
    };
    let object = json!({
        "model": base.model.name,
        "gpus": base.gpus(),
        "dense_bytes": base.dense,
        "kv_bytes": base.kv,
        "reserve_bytes": base.reserve,
        "all_expert_bytes": base.experts,
        "precision": base.precision(),
        "plans": answer.plans.iter().map(row_json).collect::<Vec<_>>(),
        "baselines": answer.baselines.iter().map(row_json).collect::<Vec<_>>(),
        "curve": answer.curve.iter().map(row_json).collect::<Vec<_>>(),
        "answer": answer_json(arguments, &answer),
        "stop_reason": answer.stops.iter().map(|stop| stop.name()).collect::<Vec<_>>(),
        "simulations": answer.simulations,
        "out": written,
        "remarks": base.remarks,
    });
    if output.json(&object)? {
        return Ok(());
    }
    print(arguments, &base, &answer, output)?;
    if let Some(path) = written {
        output.note(&format!(
            "\n{path}: the best plan, and its figure beside it; `moecast memory export` writes \
             engine files"
        ))?;
    }
    Ok(())
}

/// The best plan, where there is one, and the figure; the path of the plan.
fn write_all(arguments: &Plan, base: &Base, answer: &Answer, out: &Path) -> Result<Option<String>> {
    let path = out.join("memory.json");
    files::apart(&path, arguments.file.iter().chain(&arguments.trace).chain(&arguments.errors))?;
    let best = answer.plans.first().map(|best| write::plan(base, answer, best)).transpose()?;
    picture::write_both(&figure::figure(arguments, base, answer), out, "memory")?;
    let Some(best) = best else { return Ok(None) };
    files::write_bytes(&path, best.to_json().as_bytes())?;
    Ok(Some(path.display().to_string()))
}

fn answer_json(arguments: &Plan, answer: &Answer) -> Value {
    match arguments.tokens_per_second {
        Some(wanted) => json!({
            "wanted_tokens_per_second": wanted,
            "reached": answer.reached.is_some(),
            "memory_bytes": answer.reached,
            "ceiling_tokens_per_second": answer.ceiling,
        }),
        None => json!({
            "memory_bytes": answer.plans.first().map(|row| row.memory),
            "tokens_per_second": answer.plans.first().map(Row::rate),
            "ceiling_tokens_per_second": answer.ceiling,
        }),
    }
}

fn row_json(row: &Row) -> Value {
    let summary = &row.heldout.summary;
    let mut object = row.candidate.json();
    object["name"] = json!(row.name);
    object["memory_bytes"] = json!(row.memory);
    object["capacity_bytes"] = json!(row.capacity);
    object["expert_bytes_max"] = json!(row.heldout.expert_bytes);
    object["tokens_per_second"] = json!({ "train": row.train, "heldout": row.rate() });
    object["tpot_ms"] = json!(summary.tpot[0] * 1e3);
    object["ttft_ms"] = json!(summary.ttft[0] * 1e3);
    object["hit_rate"] = json!(summary.usual_hit_rate());
    object["link_bytes_per_token"] = json!(summary.bytes_per_token);
    object["stall_share"] = json!(row.heldout.stall);
    object
}

fn print(arguments: &Plan, base: &Base, answer: &Answer, output: &Output) -> Result<()> {
    output.note(&format!(
        "{}: {} of experts, {} of other weights, {} of keys and values, {} kept free on each GPU\n",
        base.model.name,
        gib(base.experts),
        gib(base.dense),
        gib(base.kv),
        gib(base.reserve)
    ))?;
    if let Some((narrowing, widths)) = base.narrowed() {
        output.note(&format!("bits by {}\n", narrowing.say(widths)))?;
    }
    say(arguments, base, answer, output)?;
    if !answer.plans.is_empty() {
        output.table(&plans(answer))?;
        output.note("")?;
    }
    output.table(&curve(base, answer))?;
    let stops: Vec<&str> = answer.stops.iter().map(|stop| stop.name()).collect();
    output.note(&format!(
        "\nfrom {} requests, judged on {} others; memory of one GPU; hits of generated tokens, a \
         whole layer at a time; {} simulations, ended by {}",
        base.search.requests * 2,
        base.judge.requests,
        answer.simulations,
        stops.join(", ")
    ))?;
    output.remarks(&base.remarks)
}

/// The answer in a line.
fn say(arguments: &Plan, base: &Base, answer: &Answer, output: &Output) -> Result<()> {
    let line = match (arguments.tokens_per_second, answer.reached) {
        (Some(wanted), Some(memory)) => {
            let device = match base.device_memory {
                Some(own) if own < memory => format!(", more than the GPU's {}", gib(own)),
                _ => String::new(),
            };
            format!("{wanted} tokens/s need {} on each GPU{device}", gib(memory))
        }
        (Some(wanted), None) => format!(
            "{wanted} tokens/s are not reached with any memory: {:.2} with every expert in it",
            answer.ceiling
        ),
        (None, _) => return Ok(()),
    };
    output.line(&format!("{line}\n"))
}

fn plans(answer: &Answer) -> Table {
    let mut table = Table::new(&[
        "rank", "memory", "policy", "pool", "pinned", "prefetch", "computes", "train", "held-out",
        "ms/token", "hits",
    ]);
    let mut rank = 0;
    let mut memory = None;
    for row in answer.plans.iter().chain(&answer.baselines) {
        if memory != Some(row.memory) {
            (rank, memory) = (0, Some(row.memory));
        }
        rank += 1;
        let summary = &row.heldout.summary;
        table.row([
            if row.name == "plan" { rank.to_string() } else { row.name.to_owned() },
            gib(row.memory),
            row.candidate.policy().to_owned(),
            row.candidate.pool.name().to_owned(),
            format!("{:.0}%", row.candidate.pinned * 100.0),
            row.candidate.prefetch(),
            row.candidate.compute.to_owned(),
            format!("{:.2}", row.train),
            format!("{:.2}", row.rate()),
            format!("{:.2}", summary.tpot[0] * 1e3),
            format!("{:.1}%", summary.usual_hit_rate() * 100.0),
        ]);
    }
    table
}

fn curve(base: &Base, answer: &Answer) -> Table {
    let mut table =
        Table::new(&["memory", "experts", "tokens/s train", "held-out", "hits", "best", ""]);
    let most = answer.curve.iter().map(Row::rate).fold(0.0, f64::max);
    for row in &answer.curve {
        let summary = &row.heldout.summary;
        let own = &row.candidate;
        let share = if most > 0.0 { row.rate() / most } else { 0.0 };
        table.row([
            gib(row.memory),
            format!("{:.0}%", row.capacity as f64 / base.experts.max(1) as f64 * 100.0),
            format!("{:.2}", row.train),
            format!("{:.2}", row.rate()),
            format!("{:.1}%", summary.usual_hit_rate() * 100.0),
            format!("{}, {}, {}", own.policy(), own.pool.name(), own.prefetch()),
            format!("{:<1$}", "#".repeat((share * BAR as f64).round() as usize), BAR),
        ]);
    }
    table
}

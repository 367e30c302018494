//! `moecast rebalance`: does it pay to move experts while serving, and how often?
//!
//! The recording is served by a placement that never changes, by every policy that was asked for,
//! and by one that knows the future; all of them begin with the same placement.

mod defaults;
mod row;

use anyhow::{Context, Result};
use moecast_planner::problem::Shape;
use moecast_planner::{Plan, Problem, algorithms};
use moecast_profiles::engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::{DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Nanos;
use moecast_sim::rebalance::{How, Policy, clairvoyant, rebalance};
use moecast_sim::{Placement, Scenario, Setting};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::rebalance::{HowArgument, Rebalance};
use crate::exchanges::Exchanges;
use crate::facts;
use crate::files;
use crate::output::{Measure, Output, Table, show_micros};

use row::{Made, Row};

/// Largest plan that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What is served, and everything that the policies share.
struct Task {
    scenario: Scenario,
    shape: Shape,
    seed: Seed,
    steps: usize,
    window: usize,
    intervals: Vec<usize>,
    algorithm_time: Nanos,
    /// One line about the whole.
    about: String,
    remarks: Vec<String>,
}

pub(crate) fn run(arguments: &Rebalance, global: &Global, output: &Output) -> Result<()> {
    let task = task(arguments, global)?;
    let made = serve(&task, arguments, output)?;
    let rows: Vec<&Row> = made.iter().map(|made| &made.row).collect();
    let best = best(&rows);
    let object: Value = json!({
        "steps": task.steps,
        "window": task.window,
        "threshold": arguments.threshold,
        "rows": rows,
        "best": best,
        "remarks": task.remarks,
        "out": arguments.out,
    });
    if let Some(out) = &arguments.out {
        files::write_bytes(&out.join("rebalance.json"), &serde_json::to_vec(&object)?)?;
        files::write_bytes(&out.join("rebalance.csv"), &row::csv(&made))?;
    }
    if output.json(&object)? {
        return Ok(());
    }
    print(&task, &rows, best, output)?;
    match &arguments.out {
        Some(out) => output.line(&format!("steps: {}", out.join("rebalance.csv").display())),
        None => Ok(()),
    }
}

fn task(arguments: &Rebalance, global: &Global) -> Result<Task> {
    let source = facts::trace(&arguments.trace)?;
    let shown = arguments.trace.display().to_string();
    let header = source.trace.header();
    let named = arguments.model.clone();
    let preset = || facts::preset_in(&header.model).map(str::to_owned);
    let name = named.or_else(preset).with_context(|| {
        format!("{shown}: model `{}` is no preset; expected --model", header.model)
    })?;
    let mut model = facts::model(&name)?;
    if let Some(text) = &arguments.expert_type {
        model.expert_type = data_type(text)?;
    }
    let hardware = Hardware::from_spec(&arguments.cluster)?;
    let engine = engine::find(&arguments.engine)?;
    let (cost, profile) = (arguments.cost.as_deref(), arguments.profile.as_deref());
    let costs = facts::costs(cost, profile, &model, &hardware, &arguments.engine)?;
    let read = costs.read.as_deref();
    let exchanges =
        Exchanges::new(arguments.exchange.as_deref(), &model, &engine, &hardware, read)?;
    let seed = Seed(global.seed);
    let (placement, shape) = initial(arguments, &model, &hardware, seed)?;
    let steps = source.trace.steps().len();
    let defaults = defaults::of(&arguments.engine);
    let mut remarks = vec![format!("kernel costs: {}", costs.kernels.about)];
    remarks.extend(exchanges.remarks());
    let window = arguments.window.unwrap_or(defaults.window);
    let intervals = match arguments.interval.as_slice() {
        [] => vec![defaults.interval],
        intervals => intervals.to_vec(),
    };
    if arguments.window.is_none() || arguments.interval.is_empty() {
        remarks.push(format!("window and interval that were not given: {}", defaults.source));
    }
    if let Some(late) = intervals.iter().find(|interval| **interval >= steps) {
        remarks.push(format!("the recording has {steps} steps: every {late} steps is never"));
    }
    let algorithm_time = arguments.algorithm_time.unwrap_or_else(|| {
        remarks.push(defaults::EPLB_SOURCE.to_owned());
        defaults::eplb_time(model.moe_layers.len(), shape.slots)
    });
    remarks.push(
        "weights: the busiest port of each layer, one layer after the other; beside traffic they \
         have what tokens leave of the links; copies within a GPU are free"
            .to_owned(),
    );
    let about = format!(
        "{} on {} as served by {}: {steps} steps, {} slots, {} of weights an expert",
        model.name,
        hardware.spec(),
        arguments.engine,
        shape.slots,
        model.expert_bytes()
    );
    let setting = Setting {
        model,
        hardware,
        engine,
        cost: costs.kernels,
        exchange: exchanges.models.clone(),
        context_assumed: arguments.context,
        seed,
    };
    let scenario = Scenario::new(setting, source.trace, placement).context(shown)?;
    Ok(Task { scenario, shape, seed, steps, window, intervals, algorithm_time, about, remarks })
}

fn data_type(text: &str) -> Result<DataType> {
    let parsed = serde_json::from_value(Value::from(text));
    parsed
        .ok()
        .with_context(|| format!("--expert-type: `{text}`; expected bf16, fp8, mxfp4 or int4"))
}

/// What serving begins with.
fn initial(
    arguments: &Rebalance,
    model: &ModelShape,
    hardware: &Hardware,
    seed: Seed,
) -> Result<(Placement, Shape)> {
    let (ranks, experts) = (hardware.ranks(), model.experts);
    let shape =
        |slots| Shape { ranks, nodes: hardware.nodes(), groups: model.expert_groups, slots };
    if let Some(path) = &arguments.plan {
        let shown = path.display().to_string();
        let plan = Plan::read(&files::read_small(path, FILE_BYTES_MAX)?, &shown)?;
        let slots = plan.placement.slots();
        return Ok((plan.placement, shape(slots)));
    }
    let slots = match (arguments.slots, arguments.redundant) {
        (Some(slots), _) => Some(slots),
        (None, Some(redundant)) => experts.checked_add(redundant),
        (None, None) => experts.checked_next_multiple_of(ranks),
    };
    let slots = slots.with_context(|| format!("slots of {experts} experts; at most 65535"))?;
    let even = vec![vec![1.0; usize::from(experts)]; model.moe_layers.len()];
    let problem = Problem::from_weights(&even, shape(slots))?;
    Ok(((algorithms::find("linear")?.propose)(&problem, seed)?, shape(slots)))
}

/// Never, every policy, and foresight.
fn serve(task: &Task, arguments: &Rebalance, output: &Output) -> Result<Vec<Made>> {
    for name in &arguments.algorithm {
        algorithms::find(name)?;
    }
    let named = arguments.algorithm.len() * task.intervals.len();
    let policies = arguments.how.len() * named + 1 + named;
    let bar = output.progress("rebalance", (task.steps * policies) as u64, Measure::Count);
    let progress = |steps: usize| bar.inc(steps as u64);
    let run = moecast_sim::run(&task.scenario, &progress)?;
    let mut made = vec![Made::never(run)];
    let idle = |_: &[Vec<f64>]| -> moecast_sim::Result<Placement> {
        Ok(task.scenario.placement().clone())
    };
    if arguments.how.contains(&HowArgument::EveryStep) {
        // It picks the hottest: no algorithm of a planner's that anybody waits for.
        let policy = Policy {
            algorithm_time: Nanos(0),
            ..policy(task, arguments, How::EveryStep, 1, &idle)
        };
        let served = rebalance(&task.scenario, &policy, &progress)?;
        made.push(Made::new("every-step", None, None, served, &made[0].row));
    }
    for name in &arguments.algorithm {
        let entry = algorithms::find(name)?;
        let algorithm = |loads: &[Vec<f64>]| -> moecast_sim::Result<Placement> {
            #[expect(clippy::cast_possible_truncation, reason = "EPLB computes in 32 bits too")]
            let narrow = |layer: &Vec<f64>| layer.iter().map(|load| *load as f32).collect();
            let weights: Vec<Vec<f32>> = loads.iter().map(narrow).collect();
            let proposed = Problem::from_weights(&weights, task.shape)
                .and_then(|problem| (entry.propose)(&problem, task.seed));
            proposed.map_err(|error| {
                moecast_sim::Error::scenario(
                    format!("algorithm {}", entry.name),
                    error.to_string(),
                    "a placement",
                )
            })
        };
        for (label, how) in hows(arguments) {
            for &interval in &task.intervals {
                let policy = policy(task, arguments, how, interval, &algorithm);
                let served = rebalance(&task.scenario, &policy, &progress)?;
                made.push(Made::new(label, Some(name), Some(interval), served, &made[0].row));
            }
        }
        for &interval in &task.intervals {
            let served = clairvoyant(&task.scenario, interval, &algorithm, &progress)?;
            made.push(Made::new("clairvoyant", Some(name), Some(interval), served, &made[0].row));
        }
    }
    bar.finish_and_clear();
    Ok(made)
}

fn hows(arguments: &Rebalance) -> impl Iterator<Item = (&'static str, How)> {
    let layers_per_step = arguments.layers_per_step;
    arguments.how.iter().filter_map(move |how| match how {
        HowArgument::Blocking => Some(("blocking", How::Blocking)),
        HowArgument::LayerByLayer => {
            Some(("layer-by-layer", How::LayerByLayer { layers_per_step }))
        }
        // Neither algorithm nor interval has a say in it.
        HowArgument::EveryStep => None,
    })
}

fn policy<'a>(
    task: &Task,
    arguments: &Rebalance,
    how: How,
    interval: usize,
    algorithm: &'a moecast_sim::rebalance::Algorithm<'a>,
) -> Policy<'a> {
    Policy {
        window: task.window,
        interval,
        threshold: arguments.threshold,
        how,
        algorithm,
        algorithm_time: task.algorithm_time,
        algorithm_beside: arguments.algorithm_beside,
    }
}

/// The fastest of what can be had; foresight cannot.
fn best<'a>(rows: &[&'a Row]) -> Option<&'a Row> {
    let deployable = rows.iter().filter(|row| row.policy != "clairvoyant");
    deployable.copied().min_by(|a, b| a.time_ms.total_cmp(&b.time_ms))
}

fn print(task: &Task, rows: &[&Row], best: Option<&Row>, output: &Output) -> Result<()> {
    output.note(&format!("{}\n", task.about))?;
    let mut table = Table::new(&[
        "policy",
        "every",
        "imbalance",
        "step time",
        "stalls",
        "all steps",
        "calls",
        "slots moved",
        "over links",
        "net gain",
    ]);
    for row in rows {
        table.row([
            row.name(),
            row.interval.map_or_else(|| "-".to_owned(), |interval| interval.to_string()),
            format!("{:.3}", row.imbalance),
            show_micros(row.step_time_us),
            show_micros(row.stall_ms * 1e3),
            show_micros(row.time_ms * 1e3),
            row.calls.to_string(),
            row.slots_moved.to_string(),
            row.over_links().to_string(),
            format!("{:+.2}%", row.gain * 100.0),
        ]);
    }
    output.table(&table)?;
    output.note("")?;
    if let Some(best) = best {
        let every = best.interval.map_or_else(String::new, |steps| format!(" every {steps} steps"));
        output.line(&match best.policy.as_str() {
            "never" => "best: never; no policy earns what it costs".to_owned(),
            _ => format!("best: {}{every}, {:+.2}% net", best.name(), best.gain * 100.0),
        })?;
    }
    output.remarks(&task.remarks)
}

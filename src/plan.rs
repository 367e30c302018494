//! `moecast plan`: loads in, a placement and the files that engines load out.

mod setting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use moecast_planner::plan::{Judged, Plan, Predicted, Provenance, VERSION};
use moecast_planner::problem::Shape;
use moecast_planner::{Problem, algorithms, export, judge};
use moecast_profiles::engine::{self, Engine};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::registry::Named;
use moecast_profiles::seed::Seed;
use moecast_sim::scenario::check_trace;
use moecast_sim::{Placement, Scenario, Setting};
use moecast_traces::RoutingTrace;
use moecast_traces::import::Input;
use moecast_traces::split::split;
use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::exchanges::Exchanges;
use crate::facts::{self, TraceFile};
use crate::files;
use crate::output::{Measure, Output, Table, show_micros};

/// Steps of each part that predictions are made on; longer recordings are sampled evenly.
const STEPS_MAX: usize = 1_000;
/// What plans are held against.
pub(crate) const BASELINES: [&str; 2] = ["linear", "eplb"];

/// Everything that is known before the search begins.
struct Task {
    source: TraceFile,
    /// Path of the recording, for errors.
    path: String,
    model: Option<ModelShape>,
    hardware: Option<Hardware>,
    shape: Shape,
    engine: Engine,
    exporters: Vec<&'static export::Entry>,
    /// The machine of the predictions; absent without a model and a cluster.
    setting: Option<(Setting, Exchanges)>,
    seed: Seed,
    heldout: f64,
}

/// The parts of the recording.
struct Parts {
    train: RoutingTrace,
    heldout: Option<RoutingTrace>,
    how: String,
}

/// A finished plan with everything that is said about it.
pub(crate) struct Made {
    task: Task,
    how: String,
    plan: Plan,
    files: BTreeMap<String, String>,
    wasted: BTreeMap<&'static str, usize>,
}

pub(crate) fn run(arguments: &cli::Plan, global: &Global, output: &Output) -> Result<()> {
    let made = make(arguments, global, output)?;
    if output.json(&made.json())? {
        return Ok(());
    }
    made.print(output)
}

/// Plans, and writes the files where a folder was named.
pub(crate) fn make(arguments: &cli::Plan, global: &Global, output: &Output) -> Result<Made> {
    let task = task(arguments, global)?;
    let parts = parts(&task)?;
    let algorithm = algorithms::find(&arguments.algorithm)?;
    let problem = Problem::from_trace(&parts.train, task.shape)?;
    let spinner = output.spinner("search");
    let numbers = &parts.train.header().layers;
    let placement = (algorithm.propose)(&problem, task.seed)?.chained(numbers);
    spinner.finish_and_clear();
    let mut candidates: Vec<(&'static str, Placement)> = Vec::new();
    for name in BASELINES {
        candidates
            .push((name, (algorithms::find(name)?.propose)(&problem, task.seed)?.chained(numbers)));
    }
    candidates.push(("plan", placement));
    let predicted = predict(&task, &parts, &candidates, output)?;
    let wasted =
        candidates.iter().map(|(name, placement)| (*name, placement.wasted_slots())).collect();
    let (_, placement) = candidates.pop().expect("the plan was pushed last");
    let plan = assemble(&task, algorithm.name(), placement, predicted);
    let files = match &arguments.out {
        Some(out) => write_files(&plan, &task.exporters, out)?,
        None => BTreeMap::new(),
    };
    Ok(Made { task, how: parts.how, plan, files, wasted })
}

fn task(arguments: &cli::Plan, global: &Global) -> Result<Task> {
    let named = arguments.model.as_deref().map(facts::model).transpose()?;
    let (path, source, heldout) = match (&arguments.trace, &arguments.loads) {
        (Some(path), _) => (path, facts::trace(path)?, arguments.heldout),
        (None, Some(path)) => (path, loads(path, named.as_ref())?, 0.0),
        (None, None) => anyhow::bail!("plan: nothing to plan on; expected --trace or --loads"),
    };
    let header = source.trace.header();
    let model = match named {
        Some(model) => Some(model),
        None => facts::preset_in(&header.model).map(facts::model).transpose()?,
    };
    if let Some(model) = &model {
        check_trace(&source.trace, model)?;
    }
    let hardware = arguments.cluster.as_deref().map(Hardware::from_spec).transpose()?;
    let (ranks, nodes) = match &hardware {
        Some(hardware) => (hardware.ranks(), hardware.nodes()),
        None => (arguments.gpus.unwrap_or(1), arguments.nodes.unwrap_or(1)),
    };
    let groups = arguments.groups.or(model.as_ref().map(|model| model.expert_groups)).unwrap_or(1);
    let slots = slots(arguments, header.experts, ranks)?;
    let exporters =
        arguments.engine.iter().map(|name| export::find(name)).collect::<Result<Vec<_>, _>>()?;
    ensure!(
        exporters.is_empty() || arguments.out.is_some(),
        "plan: --engine without --out; expected --out FOLDER for the files of {}",
        arguments.engine.join(", ")
    );
    let engine = arguments.engine.iter().find_map(|name| engine::find(name).ok());
    let engine = engine.map_or_else(|| engine::find("sglang"), Ok)?;
    let seed = Seed(global.seed);
    let machine = (model.as_ref(), hardware.as_ref());
    let setting = setting::setting(machine, &engine, arguments, seed)?;
    ensure!(
        arguments.exchange.is_none() || setting.is_some(),
        "plan: --exchange without a model and --cluster; expected both: nothing is timed else"
    );
    Ok(Task {
        path: path.display().to_string(),
        model,
        hardware,
        shape: Shape { ranks, nodes, groups, slots },
        engine,
        exporters,
        setting,
        seed,
        heldout,
        source,
    })
}

/// The loads of a CSV as a recording of one step.
fn loads(path: &Path, model: Option<&ModelShape>) -> Result<TraceFile> {
    let input = Input { paths: &[path.to_path_buf()], model, progress: &|_| {}, spill: None };
    let trace = moecast_traces::import::read("counts-csv", input)?;
    let sha256 = trace.header().inputs[0].sha256.clone();
    Ok(TraceFile { trace, sha256 })
}

/// Slots as asked for; by default the fewest that hold every expert and divide by ranks.
fn slots(arguments: &cli::Plan, experts: u16, ranks: u16) -> Result<u16> {
    ensure!(ranks > 0, "plan: --gpus 0; expected at least 1");
    let slots = match (arguments.slots, arguments.redundant) {
        (Some(slots), _) => Some(slots),
        (None, Some(redundant)) => experts.checked_add(redundant),
        (None, None) => experts.checked_next_multiple_of(ranks),
    };
    slots.with_context(|| format!("plan: slots of {experts} experts; expected at most 65535"))
}

fn parts(task: &Task) -> Result<Parts> {
    let trace = &task.source.trace;
    if task.heldout == 0.0 {
        let how = "planned on everything; nothing is held out".to_owned();
        return Ok(Parts { train: trace.clone(), heldout: None, how });
    }
    let parts = split(trace, task.heldout, task.seed, &task.path)?;
    Ok(Parts { train: parts.train, heldout: Some(parts.heldout), how: parts.how })
}

fn predict(
    task: &Task,
    parts: &Parts,
    candidates: &[(&str, Placement)],
    output: &Output,
) -> Result<Predicted> {
    let thin = |trace: &RoutingTrace| trace.thinned(STEPS_MAX).unwrap_or_else(|| trace.clone());
    let train = thin(&parts.train);
    let heldout = parts.heldout.as_ref().map(thin);
    let steps = train.steps().len() + heldout.as_ref().map_or(0, |part| part.steps().len());
    let bar = output.progress("predict", (steps * candidates.len()) as u64, Measure::Count);
    let mut predicted = Predicted::default();
    for (name, placement) in candidates {
        let judge_part = |trace: &RoutingTrace| -> Result<(f64, Option<f64>)> {
            let Some((setting, _)) = &task.setting else {
                return Ok((judge::imbalance(placement, trace), None));
            };
            let scenario = Scenario::new(setting.clone(), trace.clone(), placement.clone())?;
            let run = moecast_sim::run(&scenario, &|steps| bar.inc(steps as u64))?;
            let summary = run.summary();
            Ok((summary.imbalance, Some(summary.step_time_us.mean)))
        };
        let on_train = judge_part(&train)?;
        let on_heldout = heldout.as_ref().map(judge_part).transpose()?;
        let imbalance = Judged { train: on_train.0, heldout: on_heldout.map(|part| part.0) };
        predicted.imbalance.insert((*name).to_owned(), imbalance);
        if let Some(time) = on_train.1 {
            let judged = Judged { train: time, heldout: on_heldout.and_then(|part| part.1) };
            predicted.step_time_us.insert((*name).to_owned(), judged);
        }
    }
    bar.finish_and_clear();
    // A simulation sends whole tokens to replicas; without one, loads are split evenly.
    let bound_of = if task.setting.is_some() { judge::bound } else { judge::bound_even };
    let bound = |trace: &RoutingTrace| bound_of(trace, task.shape.slots, task.shape.ranks);
    predicted.imbalance_bound =
        Some(Judged { train: bound(&train), heldout: heldout.as_ref().map(bound) });
    Ok(predicted)
}

fn assemble(task: &Task, algorithm: &str, placement: Placement, predicted: Predicted) -> Plan {
    let header = task.source.trace.header();
    Plan {
        version: VERSION,
        model: task.model.as_ref().map_or_else(|| header.model.clone(), |m| m.name.clone()),
        layers: header.layers.clone(),
        hidden_layers: task.model.as_ref().map(|model| model.hidden_layers),
        nodes: task.shape.nodes,
        placement,
        predicted,
        provenance: Provenance {
            tool: concat!("moecast ", env!("CARGO_PKG_VERSION")).to_owned(),
            algorithm: algorithm.to_owned(),
            seed: task.seed.0,
            trace_sha256: task.source.sha256.clone(),
            synthetic: header.synthetic,
            heldout: task.heldout,
            cluster: task.hardware.as_ref().map_or_else(String::new, Hardware::spec),
            engine: task.engine.name.to_owned(),
        },
    }
}

/// Writes plan.json, the engines' files and README.txt; all bytes exist before the first write.
fn write_files(
    plan: &Plan,
    exporters: &[&'static export::Entry],
    out: &Path,
) -> Result<BTreeMap<String, String>> {
    let mut written: Vec<(PathBuf, Vec<u8>)> = vec![("plan.json".into(), plan.to_json().into())];
    let mut named = BTreeMap::from([("plan".to_owned(), out.join("plan.json"))]);
    let mut readme = String::from(
        "Files written by moecast. plan.json is the plan itself; the others say the same to one \
         engine each.\n",
    );
    for exporter in exporters {
        let files = (exporter.write)(plan)?;
        named.insert(exporter.name.to_owned(), out.join(&files[0].name));
        readme += &format!("\n{}\n\n{}\n", exporter.name, (exporter.launch)(plan).trim());
        written.extend(files.into_iter().map(|file| (file.name.into(), file.bytes)));
    }
    written.push(("README.txt".into(), readme.into_bytes()));
    for (name, bytes) in written {
        files::write_bytes(&out.join(name), &bytes)?;
    }
    Ok(named.into_iter().map(|(name, path)| (name, path.display().to_string())).collect())
}

fn remarks(task: &Task) -> Vec<String> {
    let header = task.source.trace.header();
    let mut remarks = header.remarks.clone();
    if let Some(model) = task.model.as_ref().filter(|model| model.top_k != header.top_k) {
        remarks.push(format!(
            "the recording has k = {} where {} has k = {}: the recording is used as it is",
            header.top_k, model.name, model.top_k
        ));
    }
    let steps = task.source.trace.steps().len();
    if steps > STEPS_MAX {
        remarks.push(format!(
            "predictions are of {STEPS_MAX} evenly spaced steps of each part that is longer, of \
             {steps} steps in all; `moecast simulate` runs every step"
        ));
    }
    if header.synthetic {
        remarks.push("the trace is synthetic: generated, not recorded".to_owned());
    }
    if let Some((_, exchanges)) = &task.setting {
        remarks.extend(exchanges.remarks());
    }
    if task.setting.is_none() {
        remarks.push("no step times: they need a cluster and a model".to_owned());
    }
    remarks
}

impl Made {
    /// The answer with `--json`; keys are stable.
    pub(crate) fn json(&self) -> Value {
        let Self { task, how, plan, files, wasted } = self;
        let mut imbalance = json!(plan.predicted.imbalance);
        let bound = plan.predicted.imbalance_bound;
        // The smaller of the two bounds holds for every figure of the table.
        let smallest = bound.map(|bound| bound.heldout.map_or(bound.train, |h| h.min(bound.train)));
        imbalance["bound"] = json!(smallest);
        json!({
            "model": plan.model,
            "algorithm": plan.provenance.algorithm,
            "engine": task.engine.name,
            "cluster": plan.provenance.cluster,
            "seed": task.seed.0,
            "experts": plan.placement.experts(),
            "slots": plan.placement.slots(),
            "ranks": plan.placement.ranks(),
            "nodes": plan.nodes,
            "layers": plan.layers,
            "split": how,
            "phys2log": plan.placement.layers(),
            "imbalance": imbalance,
            "imbalance_bound": bound,
            "step_time_us": plan.predicted.step_time_us,
            "wasted_slots": wasted,
            "files": files,
            "remarks": remarks(task),
        })
    }

    /// The answer for people.
    pub(crate) fn print(&self, output: &Output) -> Result<()> {
        let Self { task, how, plan, files, .. } = self;
        output.note(&format!(
            "{}: {} experts in {} slots on {} GPUs, {} MoE layers; {how}",
            if plan.model.is_empty() { "plan" } else { &plan.model },
            plan.placement.experts(),
            plan.placement.slots(),
            plan.placement.ranks(),
            plan.layers.len(),
        ))?;
        output.note(&format!("replicas are chosen as by {}\n", task.engine.about))?;
        output.table(&self.table())?;
        output.note(
            "\nimbalance: load of the busiest GPU over the mean, mean over layers and steps\n\
             wasted slots: second copies of an expert on a GPU that has it already\n",
        )?;
        for (name, path) in files {
            output.line(&format!("{name}: {path}"))?;
        }
        output.details(task.hardware.iter().flat_map(facts::hardware_details))?;
        output.remarks(&remarks(task))
    }

    /// The placements side by side, on what the planner saw and on what it did not.
    fn table(&self) -> Table {
        let predicted = &self.plan.predicted;
        let mut table = Table::new(&[
            "placement",
            "imbalance seen",
            "held out",
            "step time seen",
            "held out",
            "wasted slots",
        ]);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let figure = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.3}")));
        let time_of = |micros: Option<f64>| or_dash(micros.map(show_micros));
        for (name, imbalance) in in_order(&predicted.imbalance) {
            let time = predicted.step_time_us.get(name);
            table.row([
                name.to_owned(),
                figure(Some(imbalance.train)),
                figure(imbalance.heldout),
                time_of(time.map(|time| time.train)),
                time_of(time.and_then(|time| time.heldout)),
                self.wasted[name].to_string(),
            ]);
        }
        if let Some(bound) = predicted.imbalance_bound {
            let mut row = vec!["bound".into(), figure(Some(bound.train)), figure(bound.heldout)];
            row.resize(6, or_dash(None));
            table.row(row);
        }
        table
    }
}

/// The baselines in their order, then the plan.
fn in_order(judged: &BTreeMap<String, Judged>) -> impl Iterator<Item = (&str, &Judged)> {
    BASELINES.into_iter().chain(["plan"]).filter_map(|name| Some((name, judged.get(name)?)))
}

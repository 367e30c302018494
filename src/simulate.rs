//! `moecast simulate`: recorded forward passes with a plan and with the placements it replaces.

mod steps;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use moecast_planner::problem::Shape;
use moecast_planner::{Plan, Problem, algorithms, judge};
use moecast_profiles::cost::Known;
use moecast_profiles::engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::MoeLayer;
use moecast_profiles::seed::Seed;
use moecast_reports::{Candidate, RunFile, TraceFacts};
use moecast_sim::{Part, Placement, Run, Scenario, ScenarioFile, Setting};
use moecast_traces::RoutingTrace;
use moecast_traces::split::split;
use serde_json::{Value, json};

use crate::cli::{self, Global, PartArgument};
use crate::exchanges::Exchanges;
use crate::facts::{self, TraceFile};
use crate::files;
use crate::output::{Measure, Output};
use crate::plan::BASELINES;

/// Largest plan or scenario that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A scenario file with everything it names, read and checked.
struct Loaded {
    file: ScenarioFile,
    source: TraceFile,
    plan: Plan,
    setting: Setting,
    exchanges: Exchanges,
}

/// A finished run and the folder that it was written to.
pub(crate) struct Made {
    run: RunFile,
    hardware: Hardware,
    out: PathBuf,
}

pub(crate) fn run(arguments: &cli::Simulate, global: &Global, output: &Output) -> Result<()> {
    let made = make(arguments, global, output)?;
    if output.json(&made.json())? {
        return Ok(());
    }
    made.print(output)
}

/// Simulates, and writes the run's folder.
pub(crate) fn make(arguments: &cli::Simulate, global: &Global, output: &Output) -> Result<Made> {
    let loaded = match &arguments.scenario {
        Some(path) => from_file(path)?,
        None => from_arguments(arguments, global)?,
    };
    let parts = parts(&loaded)?;
    let candidates = candidates(&loaded, &parts)?;
    let steps = parts.simulated.steps().len() * candidates.len();
    let bar = output.progress("simulate", steps as u64, Measure::Count);
    let mut results = Vec::new();
    for (name, placement) in candidates {
        let scenario =
            Scenario::new(loaded.setting.clone(), parts.simulated.clone(), placement.clone())?;
        let run = moecast_sim::run(&scenario, &|steps| bar.inc(steps as u64))?;
        results.push((name, placement, run));
    }
    bar.finish_and_clear();
    let run = run_file(&loaded, &parts, &results);
    write_run(&run, &results, &loaded, &arguments.out)?;
    Ok(Made { run, hardware: loaded.setting.hardware, out: arguments.out.clone() })
}

impl Made {
    /// The answer with `--json`: run.json, and where it lies.
    pub(crate) fn json(&self) -> Value {
        let mut object = json!(self.run);
        object["out"] = json!(self.out.display().to_string());
        object
    }

    /// The answer for people.
    pub(crate) fn print(&self, output: &Output) -> Result<()> {
        let Self { run, hardware, out } = self;
        output.note(&format!(
            "{} on {} as served by {}: {} tokens ({})\n",
            run.model, run.cluster, run.engine, run.trace.tokens, run.trace.part
        ))?;
        output.table(&table::comparison(run))?;
        output.note("")?;
        output.remarks(&run.remarks)?;
        output.details(facts::hardware_details(hardware))?;
        output.line(&format!("run: {}", out.join("run.json").display()))
    }
}

/// Reads what a scenario file names; its paths are relative to its folder.
fn from_file(path: &Path) -> Result<Loaded> {
    let shown = path.display();
    let text = String::from_utf8(files::read_small(path, FILE_BYTES_MAX)?)
        .with_context(|| format!("{shown}: expected UTF-8 text"))?;
    let mut file: ScenarioFile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{shown}: line {line}: {}", error.message())
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let from_folder = |name: &str| folder.join(name).display().to_string();
    file.trace = from_folder(&file.trace);
    file.plan = from_folder(&file.plan);
    if file.model.ends_with(".json") {
        file.model = from_folder(&file.model);
    }
    if let Some(profile) = file.profile.as_mut().filter(|profile| facts::is_path(profile)) {
        *profile = from_folder(profile);
    }
    file.cluster = facts::each_cluster(&file.cluster, |path| Ok(from_folder(path)))?;
    let expected = file.clone();
    let loaded = load(file)?;
    let found = &loaded.file;
    let profile = |file: &ScenarioFile| {
        (file.profile.clone().unwrap_or_default(), file.profile_sha256.clone().unwrap_or_default())
    };
    for (what, found, expected) in [
        (&found.trace, &found.trace_sha256, &expected.trace_sha256),
        (&found.plan, &found.plan_sha256, &expected.plan_sha256),
        (&profile(found).0, &profile(found).1, &profile(&expected).1),
    ] {
        ensure!(found == expected, "{what}: SHA-256 {found}; {shown} expects {expected}");
    }
    Ok(loaded)
}

fn from_arguments(arguments: &cli::Simulate, global: &Global) -> Result<Loaded> {
    let (Some(trace), Some(plan_path)) = (&arguments.trace, &arguments.plan) else {
        anyhow::bail!("simulate: expected --trace and --plan, or a scenario.toml");
    };
    let plan = read_plan(plan_path)?;
    let given = |typed: &Option<String>, planned: &str, flag: &str| {
        let text = typed.clone().unwrap_or_else(|| planned.to_owned());
        ensure!(!text.is_empty(), "simulate: the plan names none; expected {flag}");
        Ok(text)
    };
    let provenance = &plan.provenance;
    load(ScenarioFile {
        tool: tool(),
        trace: trace.display().to_string(),
        trace_sha256: String::new(),
        plan: plan_path.display().to_string(),
        plan_sha256: String::new(),
        model: given(&arguments.model, &plan.model, "--model")?,
        cluster: given(&arguments.cluster, &provenance.cluster, "--cluster")?,
        engine: given(&arguments.engine, &provenance.engine, "--engine")?,
        cost: arguments.cost.clone().unwrap_or_default(),
        profile: arguments.profile.clone(),
        profile_sha256: None,
        exchange: arguments.exchange.clone(),
        part: match arguments.part {
            Some(PartArgument::All) => Part::All,
            Some(PartArgument::Heldout) => Part::Heldout,
            Some(PartArgument::Train) => Part::Train,
            None if provenance.heldout > 0.0 => Part::Heldout,
            None => Part::All,
        },
        baselines: BASELINES.map(str::to_owned).to_vec(),
        context_assumed: arguments.context,
        seed: global.seed,
    })
}

fn tool() -> String {
    concat!("moecast ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn read_plan(path: &Path) -> Result<Plan> {
    let bytes = files::read_small(path, FILE_BYTES_MAX)?;
    Ok(Plan::read(&bytes, &path.display().to_string())?)
}

/// Opens what `file` names and fills in the digests.
fn load(mut file: ScenarioFile) -> Result<Loaded> {
    let source = facts::trace(Path::new(&file.trace))?;
    let plan = read_plan(Path::new(&file.plan))?;
    file.trace_sha256.clone_from(&source.sha256);
    file.plan_sha256 = moecast_traces::digest_file(Path::new(&file.plan))?.sha256;
    let header = source.trace.header();
    plan.check_matches(header.experts, &header.layers, &file.plan)?;
    let model = facts::model(&file.model)?;
    let hardware = Hardware::from_spec(&file.cluster)?;
    let engine = engine::find(&file.engine)?;
    // A file written by an earlier run names its costs; the command line may leave them open.
    let cost = Some(file.cost.as_str()).filter(|cost| !cost.is_empty());
    let costs = facts::costs(cost, file.profile.as_deref(), &model, &hardware, &file.engine)?;
    costs.entry.clone_into(&mut file.cost);
    let (name, read) = (file.exchange.as_deref(), costs.read.as_deref());
    let exchanges = Exchanges::new(name, &model, &engine, &hardware, read)?;
    (file.profile, file.profile_sha256) = costs.profile.unzip();
    let setting = Setting {
        model,
        hardware,
        engine,
        cost: costs.kernels,
        exchange: exchanges.models.clone(),
        context_assumed: file.context_assumed,
        seed: Seed(file.seed),
    };
    Ok(Loaded { file, source, plan, setting, exchanges })
}

/// What is simulated, and what the baselines may be fitted on.
struct Parts {
    simulated: RoutingTrace,
    /// What EPLB sees: the same part that the planner saw.
    train: RoutingTrace,
    part: Part,
    how: String,
}

fn parts(loaded: &Loaded) -> Result<Parts> {
    let provenance = &loaded.plan.provenance;
    let whole = &loaded.source.trace;
    let same_trace = provenance.trace_sha256 == loaded.source.sha256;
    if loaded.file.part == Part::All || !same_trace || provenance.heldout == 0.0 {
        let how = if same_trace {
            "the whole recording, which the planner has seen".to_owned()
        } else {
            "another recording than the plan was made on: all of it is unseen".to_owned()
        };
        let (simulated, train) = (whole.clone(), whole.clone());
        return Ok(Parts { simulated, train, part: Part::All, how });
    }
    let seed = Seed(provenance.seed);
    let parts = split(whole, provenance.heldout, seed, &loaded.file.trace)?;
    let simulated = match loaded.file.part {
        Part::Train => parts.train.clone(),
        Part::Heldout | Part::All => parts.heldout,
    };
    Ok(Parts { simulated, train: parts.train, part: loaded.file.part, how: parts.how })
}

fn candidates(loaded: &Loaded, parts: &Parts) -> Result<Vec<(String, Placement)>> {
    let placement = &loaded.plan.placement;
    let shape = Shape {
        ranks: placement.ranks(),
        nodes: loaded.setting.hardware.nodes(),
        groups: loaded.setting.model.expert_groups,
        slots: placement.slots(),
    };
    let problem = Problem::from_trace(&parts.train, shape)?;
    let mut candidates = Vec::new();
    let numbers = &parts.train.header().layers;
    for name in &loaded.file.baselines {
        let seed = Seed(loaded.plan.provenance.seed);
        candidates.push((
            name.clone(),
            (algorithms::find(name)?.propose)(&problem, seed)?.chained(numbers),
        ));
    }
    candidates.push(("plan".to_owned(), placement.clone()));
    Ok(candidates)
}

fn run_file(loaded: &Loaded, parts: &Parts, results: &[(String, Placement, Run)]) -> RunFile {
    let header = parts.simulated.header();
    let layers = u16::try_from(header.moe_layers()).expect("layer numbers are u16");
    let placement = &loaded.plan.placement;
    RunFile {
        version: moecast_reports::RUN_VERSION,
        tool: tool(),
        model: loaded.setting.model.name.clone(),
        cluster: loaded.setting.hardware.label(),
        ranks: placement.ranks(),
        engine: loaded.setting.engine.name.to_owned(),
        cost: loaded.setting.cost.name.clone(),
        kernels: known(loaded),
        kernel_flags: loaded.setting.cost.flags.clone(),
        trace: TraceFacts {
            source: header.source.clone(),
            synthetic: header.synthetic,
            tokens: parts.simulated.token_count(),
            requests: parts.simulated.request_count(),
            top_k: header.top_k,
            part: parts.part.name().to_owned(),
            inputs: header.inputs.clone(),
            remarks: header.remarks.clone(),
        },
        layers: header.layers.clone(),
        popularity: (0..layers).map(|l| parts.simulated.layer_loads(MoeLayer(l))).collect(),
        imbalance_bound: judge::bound(&parts.simulated, placement.slots(), placement.ranks()),
        candidates: results
            .iter()
            .map(|(name, placement, run)| Candidate {
                name: name.clone(),
                slots: placement.slots(),
                wasted_slots: placement.wasted_slots(),
                summary: run.summary(),
            })
            .collect(),
        remarks: remarks(loaded, parts),
    }
}

/// How every time is known: kernels, then exchanges.
fn known(loaded: &Loaded) -> Vec<Known> {
    let mut known = loaded.setting.cost.model.known();
    known.extend(loaded.exchanges.known());
    known
}

/// What a reader must know to judge the figures.
fn remarks(loaded: &Loaded, parts: &Parts) -> Vec<String> {
    let (model, header) = (&loaded.setting.model, parts.simulated.header());
    let mut remarks = vec![
        parts.how.clone(),
        format!("kernel costs: {}", loaded.setting.cost.about),
        "tokens are dealt to the GPUs' attention in turn: recordings do not say who served them"
            .to_owned(),
        "absent: overlap of computation and transfers, output head, host time of the engine"
            .to_owned(),
    ];
    remarks.extend(loaded.exchanges.remarks());
    let flags = loaded.setting.cost.flags.len();
    if let Some(name) = loaded.file.profile.as_ref().filter(|_| flags > 0) {
        remarks.push(format!(
            "{flags} remarks on the measured kernels: `moecast profile show {name}`"
        ));
    }
    if header.top_k != model.top_k {
        remarks.push(format!(
            "the recording has k = {} where {} has k = {}: the recording is used as it is",
            header.top_k, model.name, model.top_k
        ));
    }
    if parts.simulated.tokens().is_none() {
        remarks.push(format!(
            "the recording only counted: tokens were drawn from its counts, so that correlation \
             within a token was lost; every context is assumed to be {} tokens",
            loaded.file.context_assumed
        ));
    }
    remarks
}

/// Writes run.json, one CSV of steps per placement and the scenario that repeats this run.
fn write_run(
    run: &RunFile,
    results: &[(String, Placement, Run)],
    loaded: &Loaded,
    out: &Path,
) -> Result<()> {
    let mut scenario = loaded.file.clone();
    scenario.tool = tool();
    let seen_from = |name: &str| -> Result<String> {
        Ok(files::relative(Path::new(name), out)?.display().to_string())
    };
    scenario.trace = seen_from(&scenario.trace)?;
    scenario.plan = seen_from(&scenario.plan)?;
    if scenario.model.ends_with(".json") {
        scenario.model = seen_from(&scenario.model)?;
    }
    scenario.cluster = facts::each_cluster(&scenario.cluster, seen_from)?;
    let mut written: Vec<(PathBuf, Vec<u8>)> = vec![
        ("run.json".into(), serde_json::to_vec(run)?),
        ("scenario.toml".into(), toml::to_string(&scenario)?.into_bytes()),
    ];
    for (name, _, run) in results {
        written.push((format!("steps-{name}.csv").into(), steps::steps_csv(&run.steps)));
    }
    for (name, bytes) in written {
        files::write_bytes(&out.join(name), &bytes)?;
    }
    Ok(())
}

//! A service file becomes a service: everything it names is opened and checked.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use moecast_planner::Plan;
use moecast_profiles::calibration::{Calibration, Factors, Key};
use moecast_profiles::engine::Phase;
use moecast_profiles::hardware::Device;
use moecast_profiles::model::ModelShape;
use moecast_profiles::registry::nearest;
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;
use moecast_sim::serving::file::{LoadFile, PoolFile, RoutingMode, ServiceFile};
use moecast_sim::serving::service::{Role, RoutingSource};
use moecast_sim::serving::{Service, Setting, router};
use moecast_traces::requests::generators::{self, Length, Lengths};
use moecast_traces::requests::{self, Load};

use crate::deployment::{Deployment, Names};
use crate::{facts, files};

/// Largest file of a service, plan or calibration that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A service with what reports say of it.
pub(crate) struct Loaded {
    /// With everything that was left open filled in; paths are as seen from here.
    pub(crate) file: ServiceFile,
    pub(crate) service: Service,
    pub(crate) device: Device,
    pub(crate) gpus_per_node: u16,
    pub(crate) model: String,
    pub(crate) layouts: Vec<String>,
    pub(crate) cost: String,
    pub(crate) remarks: Vec<String>,
    pub(crate) details: Vec<String>,
}

/// The service file at `path`.
pub(crate) fn read_file(path: &Path) -> Result<ServiceFile> {
    let shown = path.display();
    let text = String::from_utf8(files::read_small(path, FILE_BYTES_MAX)?)
        .with_context(|| format!("{shown}: expected UTF-8 text"))?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text[..start].matches('\n').count() + 1;
        let key = match key_of(text.lines().nth(line - 1).unwrap_or_default()) {
            // What is missing, or unknown, says its own name.
            _ if error.message().contains("field `") => String::new(),
            Some(key) => format!("key `{key}`: "),
            None => String::new(),
        };
        anyhow::anyhow!("{shown}: line {line}: {key}{}", plain(error.message()))
    })
}

/// The key of a line that gives one a value.
fn key_of(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    let bare = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    (!key.is_empty() && key.chars().all(bare)).then_some(key)
}

/// What the parser says, in one line and without the names of Rust's types; a wrong key or value
/// is answered with the nearest right one.
pub(crate) fn plain(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    for (start, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(rest) = message.strip_prefix(start) else { continue };
        let words: Vec<&str> = rest.split('`').step_by(2).collect();
        let [found, valid @ ..] = words.as_slice() else { return message };
        let hint =
            nearest(found, valid).map_or_else(String::new, |key| format!("did you mean `{key}`? "));
        return format!("{what} `{found}`: unknown; {hint}valid {what}s are {}", valid.join(", "));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("key {key}: missing");
    }
    let types = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected f64", "expected a number"),
    ];
    types.iter().fold(message, |message, (word, plain)| message.replace(word, plain))
}

/// Opens what `file` names, relative to `folder`; `seed` stands where the file has none.
pub(crate) fn load(mut file: ServiceFile, folder: &Path, seed: u64) -> Result<Loaded> {
    let seed = Seed(*file.seed.get_or_insert(seed));
    each_path(&mut file, |name| Ok(folder.join(name).display().to_string()))?;
    let model = facts::model(&file.model)?;
    let version = file.engine_version.clone().unwrap_or_default();
    let phase = file.decode.is_some().then_some(Phase::Prefill);
    let first = deployment(&file, &model, (file.layout.resolve(), phase), &version)?;
    let mut remarks = vec![format!("kernel costs: {}", first.costs.kernels.about)];
    check_digest(&mut file.profile, &mut file.profile_sha256, first.costs.profile.clone())?;
    file.cost = Some(first.costs.entry.to_owned());
    let placement = plan(&mut file)?;
    let routing = routing(&mut file, &model, seed, &mut remarks)?;
    let factors = factors(&file, &first, &model, &version, &mut remarks)?;
    let role = if file.decode.is_some() { Role::Prefill } else { Role::Both };
    let limits = file.limits;
    let mut layouts = vec![format!("{} x {}", file.replicas, first.layout)];
    let first_placement = placement.clone().filter(|_| role == Role::Both);
    let mut pools =
        vec![first.pool(role, file.replicas, routing.clone(), first_placement, limits)?];
    if let Some(PoolFile { replicas, layout, limits }) = &file.decode {
        let layout = (layout.resolve(), Some(Phase::Decode));
        let second = deployment(&file, &model, layout, &version)?;
        layouts.push(format!("{replicas} x {}", second.layout));
        pools.push(second.pool(Role::Decode, *replicas, routing, placement, *limits)?);
    }
    let load = requests_of(&mut file.load, seed)?;
    let device = first.hardware.device().clone();
    let details = facts::hardware_details(&first.hardware);
    let gpus_per_node = first.hardware.device().domain_size.value;
    let service = Service::new(Setting {
        engine: first.engine,
        factors,
        pools,
        router: router::find(&file.router)?,
        load,
        speculation: file.speculation,
        preemption: file.preemption,
        prefix_cache: file.prefix_cache,
        seed,
        model: model.clone(),
    })?;
    let service = service.with_faults(&file.faults)?;
    for memory in service.memory() {
        remarks.push(format!(
            "{} of weights on every GPU leave a data-parallel rank room for {} tokens of context",
            memory.weights, memory.kv_tokens
        ));
    }
    if let Some(stop) = file.stop {
        let precision = stop.precision;
        let valid = precision > 0.0 && precision.is_finite();
        ensure!(valid, "stop.precision: {precision}; expected a share above 0");
    }
    Ok(Loaded {
        gpus_per_node: file.gpus_per_node.unwrap_or(gpus_per_node),
        cost: first.costs.kernels.name.clone(),
        model: model.name,
        file,
        service,
        device,
        layouts,
        remarks,
        details,
    })
}

/// `file` with paths as seen from `out`.
pub(crate) fn seen_from(file: &ServiceFile, out: &Path) -> Result<ServiceFile> {
    let mut file = file.clone();
    file.tool = Some(super::tool());
    each_path(&mut file, |name| Ok(files::relative(Path::new(name), out)?.display().to_string()))?;
    Ok(file)
}

/// `file`, which was read in the folder `from`, with paths as seen from the folder `to`.
pub(crate) fn moved(file: &ServiceFile, from: &Path, to: &Path) -> Result<ServiceFile> {
    let mut file = file.clone();
    // An empty path is no path, though it means a folder.
    let to = Path::new(".").join(to);
    each_path(&mut file, |name| Ok(files::relative(&from.join(name), &to)?.display().to_string()))?;
    Ok(file)
}

/// Replaces every path that `file` holds.
pub(crate) fn each_path(
    file: &mut ServiceFile,
    change: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    if file.model.ends_with(".json") {
        file.model = change(&file.model)?;
    }
    if let Some(profile) = file.profile.as_mut().filter(|profile| facts::is_path(profile)) {
        *profile = change(profile)?;
    }
    let paths = [
        &mut file.calibration,
        &mut file.routing.trace,
        &mut file.routing.plan,
        &mut file.load.trace,
    ];
    for path in paths.into_iter().flatten() {
        *path = change(path)?;
    }
    Ok(())
}

fn deployment(
    file: &ServiceFile,
    model: &ModelShape,
    (layout, phase): (moecast_sim::serving::Layout, Option<Phase>),
    version: &str,
) -> Result<Deployment> {
    Deployment::new(Names {
        model: model.clone(),
        gpu: &file.gpu,
        gpus_per_node: file.gpus_per_node.unwrap_or(0),
        engine: &file.engine,
        version,
        layout,
        cost: file.cost.as_deref(),
        profile: file.profile.as_deref(),
        phase,
    })
}

/// Fills in name and digest of what was read, and refuses another file than the one expected.
fn check_digest(
    name: &mut Option<String>,
    digest: &mut Option<String>,
    found: Option<(String, String)>,
) -> Result<()> {
    let Some((path, sha256)) = found else { return Ok(()) };
    if let Some(expected) = digest {
        ensure!(*expected == sha256, "{path}: SHA-256 {sha256}; the file expects {expected}");
    }
    *digest = Some(sha256);
    *name = Some(path);
    Ok(())
}

fn digest_of(path: &str) -> Result<Option<(String, String)>> {
    Ok(Some((path.to_owned(), moecast_traces::digest_file(Path::new(path))?.sha256)))
}

fn plan(file: &mut ServiceFile) -> Result<Option<Placement>> {
    let Some(path) = file.routing.plan.clone() else { return Ok(None) };
    let plan = Plan::read(&files::read_small(Path::new(&path), FILE_BYTES_MAX)?, &path)?;
    check_digest(&mut file.routing.plan, &mut file.routing.plan_sha256, digest_of(&path)?)?;
    Ok(Some(plan.placement))
}

fn routing(
    file: &mut ServiceFile,
    model: &ModelShape,
    seed: Seed,
    remarks: &mut Vec<String>,
) -> Result<RoutingSource> {
    let routing = &mut file.routing;
    let default = if routing.trace.is_some() { RoutingMode::Recorded } else { RoutingMode::Like };
    let mode = *routing.mode.get_or_insert(default);
    let recording = match (&routing.trace, mode) {
        (Some(path), RoutingMode::Mean | RoutingMode::Recorded) => {
            let source = facts::trace(Path::new(path))?;
            let found = Some((path.clone(), source.sha256));
            check_digest(&mut routing.trace, &mut routing.trace_sha256, found)?;
            Some(Arc::new(source.trace))
        }
        (None, RoutingMode::Mean | RoutingMode::Recorded) => {
            anyhow::bail!("routing.trace: none; expected a recording for this mode")
        }
        (Some(path), _) => anyhow::bail!("routing.trace: {path}; expected none in this mode"),
        (None, _) => None,
    };
    Ok(match (mode, recording) {
        (RoutingMode::Recorded, Some(trace)) => {
            remarks.push(if trace.tokens().is_some() {
                "routing: every request borrows that of a recorded one, token by token".to_owned()
            } else {
                "routing: drawn from recorded counts; correlation within a token was lost"
                    .to_owned()
            });
            RoutingSource::Recorded(trace)
        }
        (RoutingMode::Mean, Some(trace)) => {
            remarks.push("routing: the mean over batches drawn from a recording".to_owned());
            RoutingSource::Mean(trace)
        }
        (RoutingMode::Like, _) => match facts::likeness(model, seed)? {
            Some(trace) => {
                remarks.push(format!(
                    "routing: synthetic, like published statistics of {} (`moecast trace synth \
                     --like`); a recording of your own traffic is better",
                    model.name
                ));
                RoutingSource::Mean(trace)
            }
            None => {
                remarks.push(format!("routing: nothing is known of {}: even", model.name));
                RoutingSource::Even
            }
        },
        _ => {
            remarks.push("routing: every expert is as likely as the others".to_owned());
            RoutingSource::Even
        }
    })
}

fn factors(
    file: &ServiceFile,
    deployment: &Deployment,
    model: &ModelShape,
    version: &str,
    remarks: &mut Vec<String>,
) -> Result<Factors> {
    let Some(path) = &file.calibration else {
        remarks.push("host time and offsets: the engine's defaults, not calibrated".to_owned());
        return Ok(Factors::of(&deployment.engine));
    };
    let calibration = calibration(Path::new(path))?;
    // Records go by the name that the model's maker gave it.
    let named = calibration.records().iter().map(|record| record.key.model.as_str());
    let same = |name: &&str| facts::preset_in(name) == Some(model.name.as_str());
    let key = Key {
        engine: file.engine.clone(),
        version: version.to_owned(),
        kernel_source: file.profile.clone().unwrap_or_else(|| "shipped".to_owned()),
        gpu: file.gpu.clone(),
        model: named.into_iter().find(same).unwrap_or(&model.name).to_owned(),
    };
    let found = calibration.lookup(&key, &deployment.engine);
    remarks.push(format!("host time and offsets: {found}"));
    Ok(found.factors)
}

/// The calibration records at `path`.
pub(crate) fn calibration(path: &Path) -> Result<Calibration> {
    let shown = path.display().to_string();
    let text = String::from_utf8(files::read_small(path, FILE_BYTES_MAX)?)
        .with_context(|| format!("{shown}: expected UTF-8 text"))?;
    Ok(Calibration::read(&text, &shown)?)
}

/// What clients ask; paths of `file` are as seen from here.
pub(crate) fn requests_of(file: &mut LoadFile, seed: Seed) -> Result<Load> {
    let recorded = match file.trace.clone() {
        Some(path) => {
            let trace = requests::read("auto", &[Path::new(&path).to_owned()])?;
            check_digest(&mut file.trace, &mut file.trace_sha256, digest_of(&path)?)?;
            Some(trace)
        }
        None => None,
    };
    let Some(generator) = &file.generator else {
        let trace = recorded.context("load: nothing; expected load.generator or load.trace")?;
        let given = [&file.input_tokens, &file.output_tokens].into_iter().any(Option::is_some);
        ensure!(
            file.set.is_empty() && !given,
            "load: settings of a generator beside a trace; expected load.generator too"
        );
        return Ok(Load::Open(trace));
    };
    let length = |key: &str, text: &Option<String>| -> Result<Length> {
        let text = text.as_deref().with_context(|| {
            format!(
                "load.{key}: nothing; expected TOKENS, lognormal:MEAN,CV or uniform:TOKENS,LOW,HIGH"
            )
        })?;
        text.parse::<Length>().with_context(|| format!("load.{key}"))
    };
    let lengths = match &recorded {
        Some(trace) => Lengths::Recorded(trace),
        None => Lengths::Drawn {
            input: length("input_tokens", &file.input_tokens)?,
            output: length("output_tokens", &file.output_tokens)?,
        },
    };
    Ok(generators::generate(generator, &file.set, lengths, seed)?)
}

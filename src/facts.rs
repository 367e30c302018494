//! Names on the command line become facts: models, traces, digests.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use moecast_profiles::builtin;
use moecast_profiles::cost::{self, Kernels};
use moecast_profiles::engine::Backend;
use moecast_profiles::hardware::{Hardware, SourceKind, Sourced};
use moecast_profiles::model::{ModelShape, read_config};
use moecast_profiles::profile::Profile;
use moecast_profiles::registry::find;
use moecast_profiles::seed::Seed;
use moecast_traces::synth::{self, Amount, presets};
use moecast_traces::{RoutingTrace, TraceBuilder, format};

use crate::files;

/// A longer file is no profile.
const PROFILE_BYTES_MAX: u64 = 64 << 20;

/// A preset by name, or the `config.json` at a path.
pub(crate) fn model(name: &str) -> Result<ModelShape> {
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(read_config(path)?);
    }
    builtin::model(name).context("a model is a preset or the path of a config.json")
}

/// The cluster `spec` with the path of its file changed, where it names one.
pub(crate) fn each_cluster(spec: &str, change: impl Fn(&str) -> Result<String>) -> Result<String> {
    match Hardware::file_of(spec) {
        Some(path) => Ok(change(path)? + &spec[path.len()..]),
        None => Ok(spec.to_owned()),
    }
}

/// A profile of measured kernels and the digest of its bytes.
pub(crate) struct ProfileFile {
    pub(crate) profile: Arc<Profile>,
    pub(crate) sha256: String,
}

/// Profiles that were read, by name: deployments of a study or a validation share them.
static READ: Mutex<BTreeMap<String, Arc<ProfileFile>>> = Mutex::new(BTreeMap::new());

/// A shipped profile by name, or the file at a path; read once.
pub(crate) fn profile(name: &str) -> Result<Arc<ProfileFile>> {
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = read.get(name) {
        return Ok(Arc::clone(known));
    }
    let file = Arc::new(read_profile(name)?);
    read.insert(name.to_owned(), Arc::clone(&file));
    Ok(file)
}

fn read_profile(name: &str) -> Result<ProfileFile> {
    let bytes = if is_path(name) {
        files::read_small(Path::new(name), PROFILE_BYTES_MAX)?
    } else {
        let preset = find("profile", builtin::PROFILES, name)
            .context("a profile is a shipped one or the path of one")?;
        preset.bytes.to_vec()
    };
    let sha256 = moecast_profiles::profile::digest(&bytes);
    Ok(ProfileFile { profile: Arc::new(Profile::read(&bytes, name)?), sha256 })
}

/// Whether a profile's name is that of a file.
pub(crate) fn is_path(profile: &str) -> bool {
    let path = Path::new(profile);
    path.extension().is_some() || path.components().count() > 1
}

/// Kernel costs, and the profile that they come from where they come from one.
pub(crate) struct Costs {
    pub(crate) kernels: Kernels,
    pub(crate) entry: &'static str,
    pub(crate) profile: Option<(String, String)>,
    /// What was read of it.
    pub(crate) read: Option<Arc<Profile>>,
}

/// The costs called `cost` of `model` on `hardware`; without a name, measured kernels where a
/// profile of that GPU under that engine is given or shipped, else the roofline.
pub(crate) fn costs(
    cost: Option<&str>,
    profile: Option<&str>,
    model: &ModelShape,
    hardware: &Hardware,
    engine: &str,
) -> Result<Costs> {
    let layout = Layout { tensor: 1, expert_tensor: 1, experts: hardware.ranks(), exchange: None };
    costs_of(cost, profile, model, hardware, engine, layout)
}

/// Over how many ranks a model is divided.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) tensor: u16,
    pub(crate) expert_tensor: u16,
    pub(crate) experts: u16,
    /// What brings experts their tokens, where it is known for all passes.
    pub(crate) exchange: Option<Backend>,
}

/// The same on some other layout than experts over all ranks.
pub(crate) fn costs_of(
    cost: Option<&str>,
    profile: Option<&str>,
    model: &ModelShape,
    hardware: &Hardware,
    engine: &str,
    layout: Layout,
) -> Result<Costs> {
    let device = hardware.device();
    let shipped = builtin::profile_for(&device.name, engine).map(|preset| preset.name);
    let named = profile.or(shipped.filter(|_| cost.is_none_or(|cost| cost == "calibrated")));
    let read =
        named.map(|name| Ok::<_, anyhow::Error>((name, self::profile(name)?))).transpose()?;
    let default = if read.is_some() { "calibrated" } else { "roofline" };
    let entry = cost::find(cost.unwrap_or(default))?;
    let setting = cost::Setting {
        model,
        device,
        tensor_ranks: layout.tensor,
        expert_tensor_ranks: layout.expert_tensor,
        expert_ranks: layout.experts,
        exchange: layout.exchange,
        profile: read.as_ref().map(|(_, file)| file.profile.as_ref()),
    };
    let kernels = Kernels::new(entry, &setting)?;
    let profile = read.as_ref().map(|(name, file)| ((*name).to_owned(), file.sha256.clone()));
    let read = read.map(|(_, file)| Arc::clone(&file.profile));
    Ok(Costs { kernels, entry: entry.name, profile, read })
}

/// A trace and the digest of its file.
pub(crate) struct TraceFile {
    pub(crate) trace: RoutingTrace,
    pub(crate) sha256: String,
}

pub(crate) fn trace(path: &Path) -> Result<TraceFile> {
    let trace = format::read(path)?;
    Ok(TraceFile { trace, sha256: moecast_traces::digest_file(path)?.sha256 })
}

/// The figures of a machine that a result rests on, each with its source.
pub(crate) fn hardware_details(hardware: &Hardware) -> Vec<String> {
    fn line<T: Display>(what: &str, figure: &Sourced<T>) -> String {
        let kind = match figure.kind {
            SourceKind::Measured => "measured",
            SourceKind::Published => "published",
            SourceKind::Assumed => "assumed",
        };
        format!("  {what}: {} ({kind}: {})", figure.value, figure.source)
    }
    let device = hardware.device();
    vec![
        format!("{}:", device.name),
        line("memory", &device.memory),
        line("memory bandwidth", &device.memory_bandwidth),
        line("bf16", &device.flops_bf16),
        line("fp8", &device.flops_fp8),
        line("domain bandwidth, one direction", &device.domain_bandwidth),
        line("domain latency", &device.domain_latency),
        line("network bandwidth, one direction", &device.network_bandwidth),
        line("network latency", &device.network_latency),
    ]
}

/// The preset that a recording's model name means: engines write names such as
/// `Qwen3-30B-A3B-Q4_K_M.gguf` or `deepseek-ai/DeepSeek-V3`.
pub(crate) fn preset_in(recorded: &str) -> Option<&'static str> {
    let recorded = recorded.to_lowercase();
    let names = builtin::MODELS.iter().map(|preset| preset.name);
    names.filter(|name| recorded.contains(name)).max_by_key(|name| name.len())
}

/// Requests and tokens of each in a trace that stands for a model whose routing nobody gave.
const LIKENESS: Amount = Amount { requests: 64, tokens: 64, generated: 32, batch: 64 };

/// The same where a part of the requests only tells a planner what to expect.
const LIKENESS_TO_SPLIT: Amount = Amount { requests: 256, tokens: 64, generated: 32, batch: 64 };

/// Routing like that of `model`, where a preset says what that is like.
pub(crate) fn likeness(model: &ModelShape, seed: Seed) -> Result<Option<Arc<RoutingTrace>>> {
    made_like(model, seed, LIKENESS)
}

/// As [`likeness`], for more requests: half of them are for the planner.
pub(crate) fn likeness_to_split(
    model: &ModelShape,
    seed: Seed,
) -> Result<Option<Arc<RoutingTrace>>> {
    made_like(model, seed, LIKENESS_TO_SPLIT)
}

fn made_like(model: &ModelShape, seed: Seed, amount: Amount) -> Result<Option<Arc<RoutingTrace>>> {
    type Made = BTreeMap<(String, u64, u64), Arc<RoutingTrace>>;
    static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());
    let Some(preset) = presets::ALL.iter().find(|preset| preset.name == model.name) else {
        return Ok(None);
    };
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (model.name.clone(), seed.0, amount.requests as u64);
    if let Some(known) = made.get(&key) {
        return Ok(Some(Arc::clone(known)));
    }
    let recipe = presets::read(preset.name)?.recipe;
    let header = synth::header(&synth::Shape::from(model), &recipe, Some(preset.name), seed);
    let mut builder = TraceBuilder::new(header);
    synth::generate(&mut builder, &recipe, amount, seed, &|_| ())?;
    let trace = Arc::new(builder.finish(preset.name)?);
    made.insert(key, Arc::clone(&trace));
    Ok(Some(trace))
}

//! From a machine as typed to one that can be run.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::builtin;
use moecast_profiles::cost::{self, CostModel, Kernels};
use moecast_profiles::ids::MoeLayer;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_sim::offload::{
    Cache, Load, Machine, Run, Setup, Shape, Sharing, Split, Start, arrivals, rule, run, target,
};
use moecast_sim::prefetch::{self, Trained};
use moecast_sim::{cache, serving};
use moecast_traces::import::{self, Input};
use moecast_traces::split::split;
use moecast_traces::synth::{self, Amount, presets};
use moecast_traces::{RoutingTrace, TraceBuilder, format};

use super::file::{CacheFile, ChosenFile, OffloadFile, PoolFile, StartFile, TraceFile};
use crate::pass::build as shared;

/// A machine that can be run, and what to say about it.
pub(crate) struct Built {
    pub(crate) model: ModelShape,
    trace: Arc<RoutingTrace>,
    shape: Shape,
    machine: Machine,
    cache: Cache,
    kernels: Arc<dyn CostModel>,
    prefetcher: &'static prefetch::Entry,
    prefetch: prefetch::Setting,
    target: &'static target::Entry,
    rule: &'static rule::Entry,
    knobs: Vec<f64>,
    load: Load,
    /// Bytes of everything but routed experts, on all GPUs.
    pub(crate) dense_bytes: u64,
    /// Bytes of all experts, in all versions.
    pub(crate) expert_bytes: u64,
    pub(crate) about: String,
}

impl Built {
    pub(crate) fn run(&self) -> Result<Run> {
        Ok(run(&Setup {
            trace: &self.trace,
            model: &self.model,
            shape: self.shape.clone(),
            machine: self.machine.clone(),
            cache: self.cache.clone(),
            kernels: Arc::clone(&self.kernels),
            prefetcher: self.prefetcher,
            prefetch: self.prefetch.clone(),
            target: self.target,
            rule: self.rule,
            knobs: self.knobs.clone(),
            load: self.load.clone(),
        })?)
    }

    /// Bytes of GPU memory that weights and the longest contexts take.
    pub(crate) fn memory_max(&self, run: &Run) -> u64 {
        let kv = self.model.kv_bytes_per_token().0 * u64::from(self.model.hidden_layers);
        self.dense_bytes + run.expert_bytes_max + kv * run.context_max
    }
}

/// `folder` is where paths start.
pub(crate) fn build(file: &OffloadFile, folder: &Path, seed: Seed) -> Result<Built> {
    let mut model = shared::model(&file.model, folder)?;
    model.expert_type = file.expert_type.unwrap_or(model.expert_type);
    model.dense_type = file.dense_type.unwrap_or(model.dense_type);
    file.machine.check()?;
    let (seen, trace) = routing(&file.trace, &model, folder, seed)?;
    let shape = shape(file, &model, &trace)?;
    let cache = cache(file, &shape, &seen, seed)?;
    let prefetcher = prefetch::find(&file.prefetch.name)?;
    let setting = prefetch::Setting {
        layers: shape.layers,
        experts: shape.experts,
        top_k: shape.top_k,
        depth: file.prefetch.depth.max(1),
        accuracy: file.prefetch.accuracy,
        seed,
        trained: Arc::new(trained(&seen)),
    };
    if let Some(accuracy) = file.prefetch.accuracy {
        let right = (0.0..=1.0).contains(&accuracy);
        ensure!(right, "prefetch.accuracy: {accuracy}; expected a share of 0 to 1");
    }
    let load = load(file, &trace, seed)?;
    let expert_bytes = shape.bytes.iter().sum();
    Ok(Built {
        about: about(file, &model, &cache, expert_bytes),
        dense_bytes: serving::memory::weights_beside_experts(&model)?.0,
        expert_bytes,
        kernels: kernels(file, &model)?,
        machine: file.machine.clone(),
        prefetcher,
        prefetch: setting,
        target: target::find(&file.compute)?,
        rule: rule::find(&file.rule.name)?,
        knobs: file.rule.knobs.clone(),
        model,
        trace: Arc::new(trace),
        shape,
        cache,
        load,
    })
}

fn about(file: &OffloadFile, model: &ModelShape, cache: &Cache, all: u64) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    format!(
        "{} with {:.1} of {:.1} GiB of experts in GPU memory, {} cache, {} prefetch, {} computes \
         what is missing, rule {}",
        model.name,
        gib(cache.capacity * u64::from(file.machine.ranks())),
        gib(all),
        file.cache.policy,
        file.prefetch.name,
        file.compute,
        file.rule.name,
    )
}

/// What policies may see, and what is served.
fn routing(
    file: &TraceFile,
    model: &ModelShape,
    folder: &Path,
    seed: Seed,
) -> Result<(RoutingTrace, RoutingTrace)> {
    let whole = match (&file.path, &file.like) {
        (Some(_), Some(_)) => bail!("trace: path and like; expected one of them"),
        (Some(path), None) => recording(&folder.join(path))?,
        (None, like) => made(file, like.as_deref().unwrap_or(&model.name), model, seed)?,
    };
    ensure!(
        (0.0..1.0).contains(&file.heldout),
        "trace.heldout: {}; expected a share of 0 to 1",
        file.heldout
    );
    let splits = file.heldout > 0.0 && whole.request_count().is_some_and(|count| count > 1);
    if !splits {
        return Ok((whole.clone(), whole));
    }
    let parts = split(&whole, file.heldout, seed, "trace")?;
    Ok((parts.train, parts.heldout))
}

/// A trace, or a recording as its engine wrote it.
fn recording(path: &Path) -> Result<RoutingTrace> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return Ok(format::read(path)?);
    }
    let paths = [path.to_path_buf()];
    let input = Input { paths: &paths, model: None, progress: &|_| (), spill: None };
    Ok(import::read("auto", input)?)
}

fn made(file: &TraceFile, like: &str, model: &ModelShape, seed: Seed) -> Result<RoutingTrace> {
    let preset = presets::read(like).context("trace.like")?;
    let amount = Amount {
        requests: file.requests,
        tokens: file.prompt + file.generated,
        generated: file.generated,
        batch: 1,
    };
    let header = synth::header(&synth::Shape::from(model), &preset.recipe, Some(like), seed);
    let mut builder = TraceBuilder::new(header);
    synth::generate(&mut builder, &preset.recipe, amount, seed, &|_| ())?;
    Ok(builder.finish(like)?)
}

fn shape(file: &OffloadFile, model: &ModelShape, trace: &RoutingTrace) -> Result<Shape> {
    let precision = &file.precision;
    let versions = &precision.versions;
    let ordered = versions.windows(2).all(|pair| pair[0] > pair[1]);
    let right = !versions.is_empty()
        && versions.len() <= 8
        && ordered
        && versions.iter().all(|share| *share > 0.0 && share.is_finite());
    ensure!(right, "precision.versions: {versions:?}; expected falling shares above 0, at most 8");
    let (layers, experts) = (model.moe_layers.len(), usize::from(model.experts));
    let recorded = &trace.header().expert_bytes;
    let mut bytes = Vec::with_capacity(layers * experts * versions.len());
    for layer in 0..layers {
        let whole = recorded.get(layer).copied().unwrap_or(model.expert_bytes().0);
        let of = |version: usize| (whole as f64 * versions[version]).round() as u64;
        for _ in 0..experts {
            bytes.extend((0..versions.len()).map(|version| match versions.get(version + 1) {
                Some(_) if precision.nested => of(version) - of(version + 1),
                _ => of(version),
            }));
        }
    }
    Ok(Shape {
        layers,
        experts,
        top_k: trace.header().top_k.into(),
        versions: versions.len(),
        nested: precision.nested || versions.len() == 1,
        bytes,
        ranks: file.machine.ranks().into(),
        per_layer: file.cache.pool == PoolFile::PerLayer,
    })
}

fn cache(file: &OffloadFile, shape: &Shape, seen: &RoutingTrace, seed: Seed) -> Result<Cache> {
    let CacheFile { capacity, share, slots, policy, start, pinned, .. } = &file.cache;
    let given = (capacity.is_some(), share.is_some(), !slots.is_empty());
    let right = given.0 != given.1 || given == (false, false, true);
    ensure!(right, "cache: both of capacity and share, or none; expected one, or slots");
    let ranks = shape.ranks as u64;
    let all: u64 = shape.bytes.iter().sum();
    let planned: Vec<u32> = match slots.len() {
        1 => vec![slots[0]; shape.layers],
        _ => slots.clone(),
    };
    let right = slots.is_empty() || planned.len() == shape.layers;
    ensure!(right, "cache.slots: {} layers; expected 1 or {}", slots.len(), shape.layers);
    let full =
        |layer: usize| shape.parts(layer, 0, 0).map(|unit| shape.bytes[unit as usize]).sum::<u64>();
    let whole = match (capacity, share) {
        (Some(capacity), _) if slots.is_empty() => capacity.0,
        (_, Some(share)) if slots.is_empty() => {
            ensure!((0.0..=1.0).contains(share), "cache.share: {share}; expected 0 to 1");
            (all as f64 * share).round() as u64
        }
        _ => (0..shape.layers).map(|layer| u64::from(planned[layer]) * full(layer)).sum::<u64>(),
    };
    let trained: Vec<Vec<u64>> = match file.cache.chosen {
        ChosenFile::Frequency => loads(seen),
        // Nobody is more frequent than others: the first experts of all layers by turns.
        ChosenFile::Uniform => {
            let layer: Vec<u64> = (0..shape.experts as u64).rev().collect();
            vec![layer; shape.layers]
        }
    };
    let capacity = whole / ranks;
    let shares = if file.precision.shares.is_empty() && !shape.nested {
        vec![1.0 / shape.versions as f64; shape.versions]
    } else if shape.nested {
        vec![1.0]
    } else {
        file.precision.shares.clone()
    };
    ensure!((0.0..=1.0).contains(pinned), "cache.pinned: {pinned}; expected 0 to 1");
    Ok(Cache {
        capacity,
        sharing: match (file.cache.pool, planned.is_empty()) {
            (PoolFile::Global, _) => Sharing::Global,
            (PoolFile::PerLayer, true) => Sharing::PerLayer,
            (PoolFile::PerLayer, false) => Sharing::Planned(planned),
        },
        version_shares: shares,
        policy: cache::find(policy)?,
        pinned: most_used(&trained, (whole as f64 * pinned) as u64, &full),
        start: match start {
            StartFile::Empty => Start::Empty,
            StartFile::Frequent => Start::Frequent,
        },
        trained,
        seed,
    })
}

/// Experts that training used most, of so many bytes.
fn most_used(trained: &[Vec<u64>], bytes: u64, size: &dyn Fn(usize) -> u64) -> Vec<(usize, u16)> {
    let mut order: Vec<(u64, usize, u16)> = Vec::new();
    for (layer, loads) in trained.iter().enumerate() {
        order.extend((0_u16..).zip(loads).map(|(expert, load)| (u64::MAX - load, layer, expert)));
    }
    order.sort_unstable();
    let mut left = bytes;
    let mut pinned = Vec::new();
    for (_, layer, expert) in order {
        if size(layer) <= left {
            left -= size(layer);
            pinned.push((layer, expert));
        }
    }
    pinned
}

fn loads(trace: &RoutingTrace) -> Vec<Vec<u64>> {
    let layers = u16::try_from(trace.header().moe_layers()).expect("layers are u16");
    (0..layers).map(|layer| trace.layer_loads(MoeLayer(layer))).collect()
}

/// What prefetchers learn from.
fn trained(trace: &RoutingTrace) -> Trained {
    let header = trace.header();
    let (layers, experts) = (header.moe_layers(), usize::from(header.experts));
    let mut transitions = vec![vec![vec![0_u32; experts]; experts]; layers.saturating_sub(1)];
    let mut requests: Vec<Vec<u32>> = Vec::new();
    let Some(columns) = trace.tokens() else {
        return Trained { loads: loads(trace), transitions, requests };
    };
    let mut numbers: Vec<u32> = columns.request.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    requests.resize(numbers.len(), vec![0; layers * experts]);
    let layer_of = |layer: usize| MoeLayer(u16::try_from(layer).expect("layers are u16"));
    for row in 0..columns.request.len() {
        let own = numbers.binary_search(&columns.request[row]).expect("collected above");
        for layer in 0..layers {
            for expert in trace.chosen(row, layer_of(layer)) {
                requests[own][layer * experts + expert.index()] += 1;
                if layer + 1 < layers {
                    for next in trace.chosen(row, layer_of(layer + 1)) {
                        transitions[layer][expert.index()][next.index()] += 1;
                    }
                }
            }
        }
    }
    Trained { loads: loads(trace), transitions, requests }
}

fn kernels(file: &OffloadFile, model: &ModelShape) -> Result<Arc<dyn CostModel>> {
    let gpu = match (&file.gpu, file.kernels) {
        (_, Some(given)) => return Ok(Arc::new(given)),
        (None, None) => bail!("gpu: missing; expected a hardware preset, or kernels"),
        (Some(gpu), None) => builtin::device(gpu)?,
    };
    let Machine { gpus, split, .. } = file.machine;
    let (expert_tensor, experts) = match split {
        Split::Tensor => (gpus, 1),
        Split::Expert => (1, gpus),
    };
    let setting = cost::Setting {
        model,
        device: &gpu,
        tensor_ranks: gpus,
        expert_tensor_ranks: expert_tensor,
        expert_ranks: experts,
        exchange: None,
        profile: None,
    };
    let entry = cost::find(file.cost.as_deref().unwrap_or("roofline"))?;
    Ok(Kernels::new(entry, &setting)?.model)
}

fn load(file: &OffloadFile, trace: &RoutingTrace, seed: Seed) -> Result<Load> {
    let own = &file.load;
    let requests = match own.requests {
        0 => trace.request_count().unwrap_or(1),
        count => count,
    };
    let comes = match own.rate {
        None => Vec::new(),
        Some(rate) => {
            ensure!(rate > 0.0 && rate.is_finite(), "load.rate: {rate}; expected more than 0");
            arrivals(requests, rate, seed)
        }
    };
    Ok(Load {
        requests,
        arrivals: comes,
        batch: own.batch,
        window: own.window.max(own.batch),
        batching: own.batching,
        chunk: own.chunk,
        prompt_max: usize::MAX,
        answer_max: usize::MAX,
    })
}

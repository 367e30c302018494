//! From a machine as typed to one that can be run.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use moecast_profiles::builtin;
use moecast_profiles::cost::{self, CostModel, Kernels};
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_sim::offload::{
    Cache, Load, Machine, Run, Setup, Shape, Sharing, Split, Start, arrivals, rule, run, target,
};
use moecast_sim::prefetch::{self, Accuracy, Trained};
use moecast_sim::{cache, serving};
use moecast_traces::RoutingTrace;

use super::file::{CacheFile, ChosenFile, OffloadFile, PoolFile, StartFile};
use super::routing::Routing;
use crate::pass::build as shared;

/// A machine that can be run, and what to say about it.
pub(crate) struct Built {
    pub(crate) setup: Setup,
    /// Bytes of everything but routed experts, on all GPUs.
    pub(crate) dense_bytes: u64,
    /// Bytes of all experts, in all versions.
    pub(crate) expert_bytes: u64,
    pub(crate) about: String,
}

impl Built {
    pub(crate) fn run(&self) -> Result<Run> {
        Ok(run(&self.setup)?)
    }

    /// Bytes of GPU memory that weights and the longest contexts take.
    pub(crate) fn memory_max(&self, run: &Run) -> u64 {
        let model = &self.setup.model;
        let kv = model.kv_bytes_per_token().0 * u64::from(model.hidden_layers);
        self.dense_bytes + run.expert_bytes_max + kv * run.context_max
    }
}

/// The model of `file`, its weights stored as the file says; `folder` is where paths start.
pub(crate) fn model(file: &OffloadFile, folder: &Path) -> Result<ModelShape> {
    let mut model = shared::model(&file.model, folder)?;
    model.expert_type = file.expert_type.unwrap_or(model.expert_type);
    model.dense_type = file.dense_type.unwrap_or(model.dense_type);
    Ok(model)
}

/// `folder` is where paths start.
pub(crate) fn build(file: &OffloadFile, folder: &Path, seed: Seed) -> Result<Built> {
    let model = model(file, folder)?;
    file.machine.check()?;
    let routing = Routing::of(&file.trace, &model, folder, seed)?;
    build_from(file, model, &routing, seed)
}

/// The machine of `file` with routing that was read before.
pub(crate) fn build_from(
    file: &OffloadFile,
    model: ModelShape,
    routing: &Routing,
    seed: Seed,
) -> Result<Built> {
    file.machine.check()?;
    let trace = &routing.served;
    let shape = shape(file, &model, trace)?;
    let cache = cache(file, &shape, &routing.trained, seed)?;
    let prefetcher = prefetch::find(&file.prefetch.name)?;
    let setting = prefetch::Setting {
        layers: shape.layers,
        experts: shape.experts,
        top_k: shape.top_k,
        depth: file.prefetch.depth.max(1),
        accuracy: file.prefetch.accuracy,
        seed,
        trained: Arc::clone(&routing.trained),
    };
    if let Some(accuracy) = file.prefetch.accuracy {
        let right = (0.0..=1.0).contains(&accuracy);
        ensure!(right, "prefetch.accuracy: {accuracy}; expected a share of 0 to 1");
        ensure!(
            prefetcher.accuracy == Accuracy::Given,
            "prefetch.accuracy: {accuracy}; expected none: that of `{}` follows from the recording",
            prefetcher.name,
        );
    }
    let expert_bytes = shape.bytes.iter().sum();
    Ok(Built {
        about: about(file, &model, &cache, expert_bytes),
        dense_bytes: serving::memory::weights_beside_experts(&model)?.0,
        expert_bytes,
        setup: Setup {
            load: load(file, trace, seed)?,
            kernels: kernels(file, &model)?,
            machine: file.machine.clone(),
            prefetcher,
            prefetch: setting,
            target: target::find(&file.compute)?,
            rule: rule::find(&file.rule.name)?,
            knobs: file.rule.knobs.clone(),
            model,
            trace: Arc::clone(trace),
            shape,
            cache,
            seed,
        },
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

fn cache(file: &OffloadFile, shape: &Shape, seen: &Trained, seed: Seed) -> Result<Cache> {
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
        ChosenFile::Frequency => seen.loads.clone(),
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
    let mut sharing = match (file.cache.pool, planned.is_empty()) {
        (PoolFile::Global, _) => Sharing::Global,
        (PoolFile::PerLayer, true) => Sharing::PerLayer,
        (PoolFile::PerLayer, false) => Sharing::Planned(planned),
    };
    let pinned = pins(&sharing, &trained, whole, *pinned, &full);
    if let Sharing::Planned(slots) = &mut sharing {
        // Slots are typed for all GPUs, and simulated for each.
        slots.iter_mut().for_each(|slots| *slots /= u32::from(file.machine.ranks()));
    }
    Ok(Cache {
        capacity,
        pinned,
        sharing,
        version_shares: shares,
        policy: cache::find(policy)?,
        start: match start {
            StartFile::Empty => Start::Empty,
            StartFile::Frequent => Start::Frequent,
        },
        trained,
        seed,
    })
}

/// Experts that are pinned, `share` of each pool.
fn pins(
    sharing: &Sharing,
    trained: &[Vec<u64>],
    whole: u64,
    share: f64,
    size: &dyn Fn(usize) -> u64,
) -> Vec<(usize, u16)> {
    let part = |bytes: u64| (bytes as f64 * share) as u64;
    let layers = trained.len();
    let of_layers = |bytes: &dyn Fn(usize) -> u64| {
        (0..layers)
            .flat_map(|layer| most_used(trained, layer..layer + 1, bytes(layer), size))
            .collect()
    };
    match sharing {
        Sharing::Global => most_used(trained, 0..layers, part(whole), size),
        Sharing::PerLayer => of_layers(&|_| part(whole / layers.max(1) as u64)),
        Sharing::Planned(slots) => of_layers(&|layer| part(u64::from(slots[layer]) * size(layer))),
    }
}

/// Experts of `layers` that training used most, of so many bytes.
fn most_used(
    trained: &[Vec<u64>],
    layers: Range<usize>,
    bytes: u64,
    size: &dyn Fn(usize) -> u64,
) -> Vec<(usize, u16)> {
    let mut order: Vec<(u64, usize, u16)> = Vec::new();
    for layer in layers {
        let loads = (0_u16..).zip(&trained[layer]);
        order.extend(loads.map(|(expert, load)| (u64::MAX - load, layer, expert)));
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

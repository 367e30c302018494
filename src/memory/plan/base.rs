//! What is planned for: a machine whose cache is open, the parts of a recording, and the memory
//! that is not the experts'.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::builtin;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Bytes};
use moecast_sim::offload::{Beside, Costs, Machine, Processor, Tier};
use moecast_sim::serving::memory::weights_beside_experts;
use moecast_traces::split::split;
use moecast_traces::{Phase, RoutingTrace};
use serde_json::Value;

use super::answer::gib;
use super::curves::Curves;
use super::widths::{Narrowing, Widths};
use crate::cli::memory::plan::Plan;
use crate::offload::build;
use crate::offload::file::{
    CacheFile, ChosenFile, LoadFile, OffloadFile, Offloads, PoolFile, PrecisionFile, PrefetchFile,
    RuleFile, StartFile, TraceFile,
};
use crate::offload::routing::{self, Routing};
use crate::pass::file::ModelFile;

/// Share of a link's bandwidth that copies of pinned memory reach; assumed: 25 to 26 of 32 GB/s
/// are commonly measured on PCIe 4.0 x16.
const LINK_EFFICIENCY: f64 = 0.8;

/// A part of the recording with what was fitted on another.
pub(super) struct Part {
    pub(super) routing: Routing,
    pub(super) curves: Curves,
    pub(super) requests: usize,
    /// The bits of experts by what was seen; `None` where they stay as stored.
    pub(super) widths: Option<Widths>,
}

impl Part {
    fn new(seen: RoutingTrace, served: RoutingTrace) -> Self {
        let requests = served.request_count().unwrap_or(1);
        let routing = Routing::new(Arc::new(seen), Arc::new(served));
        let curves = Curves::new(&routing.seen, &routing.trained.loads);
        Self { routing, curves, requests, widths: None }
    }
}

/// What is planned for.
pub(super) struct Base {
    pub(super) file: OffloadFile,
    pub(super) model: ModelShape,
    /// The model as kernels see it.
    pub(super) kernels: ModelShape,
    pub(super) narrowing: Option<Narrowing>,
    pub(super) seed: Seed,
    /// Fitted on one half of the training part, judged on the other.
    pub(super) search: Part,
    /// Fitted on the training part, judged on what the search did not see.
    pub(super) judge: Part,
    /// Bytes of one GPU, where they are known.
    pub(super) device_memory: Option<u64>,
    pub(super) dense: u64,
    pub(super) kv: u64,
    pub(super) reserve: u64,
    /// Bytes of all experts, in the bits that they are given.
    pub(super) experts: u64,
    /// `[M]` bytes of an expert as stored.
    pub(super) stored: Vec<u64>,
    /// Bytes of the experts that one token needs in one layer.
    pub(super) least: u64,
    pub(super) heldout: f64,
    pub(super) trace_sha256: String,
    pub(super) layers: Vec<u16>,
    pub(super) top_k: u16,
    pub(super) synthetic: bool,
    pub(super) remarks: Vec<String>,
}

impl Base {
    pub(super) fn new(arguments: &Plan, seed: Seed) -> Result<Self> {
        let mut remarks = Vec::new();
        let file = match &arguments.file {
            Some(path) => of_file(path, arguments.variant.as_deref())?,
            None => of_options(arguments, &mut remarks)?,
        };
        let folder = arguments.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let model = build::model(&file, folder)?;
        file.machine.check()?;
        let heldout = arguments.heldout;
        ensure!(heldout > 0.0 && heldout < 1.0, "--heldout: {heldout}; expected between 0 and 1");
        let whole = routing::whole(&file.trace, &model, folder, seed)?;
        check(&whole, &model)?;
        let (layers, top_k) = (whole.header().layers.clone(), whole.header().top_k);
        let synthetic = whole.header().synthetic;
        let trace_sha256 = match &file.trace.path {
            Some(path) => moecast_traces::digest_file(&folder.join(path))?.sha256,
            None => String::new(),
        };
        let outer = split(&whole, heldout, seed, "trace")?;
        let inner = split(&outer.train, 0.5, seed, "trace: the training part")?;
        let mut judge = Part::new(outer.train, outer.heldout);
        let mut search = Part::new(inner.train, inner.heldout);
        if synthetic {
            remarks.push("the routing is synthetic: generated, not recorded".to_owned());
        }
        let gpu = file.gpu.as_deref().map(builtin::device).transpose()?;
        let built = build::build_from(&file, model.clone(), &judge.routing, seed)?;
        let shape = &built.setup.shape;
        let stored: Vec<u64> = shape.bytes.chunks(shape.experts.max(1)).map(|row| row[0]).collect();
        let narrowing = Narrowing::new(arguments, whole.header(), &model, &stored)?;
        let mut kernels = model.clone();
        if let Some(narrowing) = &narrowing {
            search.widths = Some(narrowing.widths(&search.routing.seen, &stored)?);
            let widths = narrowing.widths(&judge.routing.seen, &stored)?;
            // A profile has kernels of the types that were measured, and of no others.
            if file.cost.as_deref().is_none_or(|cost| cost == "roofline") {
                kernels = narrowing.kernels(&model, &widths);
            }
            remarks.extend(narrowing.remarks(&widths, &kernels));
            judge.widths = Some(widths);
        }
        let parts = [&judge, &search].map(|part| part.widths.as_ref());
        let total = |own: Option<&Widths>| own.map_or(built.expert_bytes, Widths::total);
        let widest = |own: Option<&Widths>| own.map_or(stored[0], |own| own.widest(0));
        let kv = model.kv_bytes_per_token().0 * u64::from(model.hidden_layers);
        Ok(Self {
            device_memory: gpu.map(|gpu| gpu.memory.value.0),
            dense: weights_beside_experts(&model)?.0,
            kv: kv * u64::from(arguments.context) * file.load.batch as u64,
            reserve: arguments.reserve.0,
            experts: parts.into_iter().map(total).fold(0, u64::max),
            least: parts.into_iter().map(widest).fold(0, u64::max) * u64::from(top_k),
            stored,
            file,
            model,
            kernels,
            narrowing,
            seed,
            search,
            judge,
            heldout,
            trace_sha256,
            layers,
            top_k,
            synthetic,
            remarks,
        })
    }

    /// The bits of every expert, and by what rule; null where they stay as stored.
    pub(super) fn precision(&self) -> Value {
        let json =
            |(narrowing, widths): (&Narrowing, &Widths)| narrowing.json(widths, &self.layers);
        self.narrowed().map_or(Value::Null, json)
    }

    /// What was asked of the bits, and what experts are judged with.
    pub(super) fn narrowed(&self) -> Option<(&Narrowing, &Widths)> {
        self.narrowing.as_ref().zip(self.judge.widths.as_ref())
    }

    /// The kind of GPU, for people.
    pub(super) fn gpu(&self) -> &str {
        self.file.gpu.as_deref().unwrap_or("GPU with measured kernels")
    }

    /// Bytes of all experts of `layer`.
    pub(super) fn layer_bytes(&self, part: &Part, layer: usize) -> u64 {
        let stored = || self.stored[layer] * u64::from(self.model.experts);
        part.widths.as_ref().map_or_else(stored, |widths| widths.layer(layer).iter().sum())
    }

    /// Bytes of the first expert of `layer`.
    pub(super) fn first_bytes(&self, part: &Part, layer: usize) -> u64 {
        part.widths.as_ref().map_or(self.stored[layer], |widths| widths.layer(layer)[0])
    }

    pub(super) fn gpus(&self) -> u64 {
        u64::from(self.file.machine.gpus)
    }

    /// Bytes of all GPUs that are not the experts'.
    pub(super) fn fixed(&self) -> u64 {
        self.dense.saturating_add(self.kv).saturating_add(self.reserve * self.gpus())
    }

    /// Bytes for experts on all GPUs with `memory` each.
    pub(super) fn capacity(&self, memory: u64) -> Result<u64> {
        let all = memory.saturating_mul(self.gpus());
        let fixed = self.fixed();
        if all < fixed {
            // Rounded up: what is advised must suffice.
            let least = fixed.div_ceil(self.gpus()).next_multiple_of((1 << 30) / 100 + 1);
            bail!(
                "--memory: {} on each of {} GPU(s); expected {} or more: {} of weights beside \
                 experts, {} of keys and values, {} kept free on each",
                gib(memory),
                self.gpus(),
                gib(least),
                gib(self.dense),
                gib(self.kv),
                gib(self.reserve),
            );
        }
        Ok((all - fixed).min(self.experts))
    }

    /// Memory of one GPU, in whole MiB, with room for `capacity` bytes of experts on all.
    pub(super) fn memory(&self, capacity: u64) -> u64 {
        let each = (self.fixed().saturating_add(capacity)).div_ceil(self.gpus());
        each.div_ceil(1 << 20) << 20
    }
}

fn check(trace: &RoutingTrace, model: &ModelShape) -> Result<()> {
    let header = trace.header();
    let found = (header.moe_layers(), u32::from(header.experts));
    let expected = (model.moe_layers.len(), u32::from(model.experts));
    ensure!(
        found == expected,
        "trace: {} MoE layers x {} experts; expected {} x {}, as {} has",
        found.0,
        found.1,
        expected.0,
        expected.1,
        model.name
    );
    let requests = trace.request_count().unwrap_or(1);
    ensure!(requests >= 4, "trace: {requests} requests; expected 4 or more to split them");
    let columns =
        trace.tokens().context("trace: a recording that only counted; expected tokens")?;
    let generates = |code: &u8| Phase::from_code(*code) == Some(Phase::Decode);
    ensure!(columns.phase.iter().any(generates), "trace: no generated tokens; expected some");
    Ok(())
}

fn of_file(path: &Path, variant: Option<&str>) -> Result<OffloadFile> {
    let suite = Offloads::read(path)?;
    let chosen = match variant {
        Some(name) => suite.find("--variant", name)?,
        None => suite.variants.first().context("a file without variants; expected one")?,
    };
    let mut file = chosen.typed.clone();
    // Precision and rules change the model's output: they stay as typed, the rest is searched for.
    let versions = file.precision.versions.len();
    ensure!(versions == 1, "precision.versions: {versions}; expected 1: plans keep one precision");
    file.cache = open();
    file.prefetch = PrefetchFile::default();
    Ok(file)
}

/// A cache that the search sets.
fn open() -> CacheFile {
    CacheFile {
        chosen: ChosenFile::Frequency,
        capacity: Some(Bytes(0)),
        share: None,
        slots: Vec::new(),
        pool: PoolFile::Global,
        policy: "lru".to_owned(),
        start: StartFile::Frequent,
        pinned: 0.0,
    }
}

fn of_options(arguments: &Plan, remarks: &mut Vec<String>) -> Result<OffloadFile> {
    let name = arguments
        .model
        .as_deref()
        .context("--model: missing; expected --model and --gpu, or a file")?;
    let gpu = arguments.gpu.as_deref().context("--gpu: missing; expected a kind of GPU")?;
    let device = builtin::device(gpu)?;
    let bandwidth = arguments.host_bandwidth.unwrap_or_else(|| {
        let link = device.host_bandwidth.value;
        let reached = Bandwidth((link.0 as f64 * LINK_EFFICIENCY) as u64);
        remarks.push(format!("copies at {reached}: 80% of the link's {link}, assumed"));
        reached
    });
    let tier = |name: &str, bandwidth: Bandwidth, capacity: Option<Bytes>| Tier {
        name: name.to_owned(),
        capacity,
        bandwidth,
        latency: moecast_profiles::units::Nanos(10_000),
        staging: None,
        queue: 1,
        policy: "lru".to_owned(),
    };
    let mut tiers = vec![tier("host", bandwidth, arguments.host_memory)];
    tiers.extend(arguments.storage_bandwidth.map(|bandwidth| tier("storage", bandwidth, None)));
    let processor = match (arguments.cpu_bandwidth, arguments.cpu_flops) {
        (Some(bandwidth), Some(flops)) => Some(Processor { bandwidth, flops, launch: LAUNCH }),
        _ => None,
    };
    remarks.push(format!(
        "each layer's router is read in {}, a copy starts in 10 us: assumed",
        arguments.synchronisation
    ));
    let path = arguments.trace.as_ref().map(|path| path.display().to_string());
    Ok(OffloadFile {
        model: ModelFile::Named(name.to_owned()),
        expert_type: arguments.expert_type,
        dense_type: arguments.dense_type,
        trace: TraceFile {
            path,
            like: None,
            requests: arguments.requests,
            prompt: arguments.prompt,
            generated: arguments.generated,
            heldout: arguments.heldout,
        },
        gpu: Some(gpu.to_owned()),
        cost: None,
        kernels: None,
        machine: Machine {
            beside_copies: Beside::Experts,
            gpus: arguments.gpus,
            split: arguments.split.into(),
            tiers,
            processor,
            swap: false,
            costs: Costs { synchronisation: arguments.synchronisation, ..Costs::default() },
        },
        cache: open(),
        prefetch: PrefetchFile::default(),
        compute: "gpu".to_owned(),
        rule: RuleFile::default(),
        precision: PrecisionFile::default(),
        load: LoadFile { batch: arguments.batch.into(), ..LoadFile::default() },
    })
}

/// Time of one expert on the processor before its first byte; assumed.
const LAUNCH: moecast_profiles::units::Nanos = moecast_profiles::units::Nanos(5_000);

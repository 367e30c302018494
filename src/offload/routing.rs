//! The routing that a machine serves, and what policies may see of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::ids::MoeLayer;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_sim::prefetch::Trained;
use moecast_traces::import::{self, Input};
use moecast_traces::split::split;
use moecast_traces::synth::{self, Amount, presets};
use moecast_traces::{RoutingTrace, TraceBuilder, format};

use super::file::TraceFile;

/// What policies may see, and what is served; read once for all machines that serve it.
#[derive(Clone)]
pub(crate) struct Routing {
    pub(crate) seen: Arc<RoutingTrace>,
    pub(crate) served: Arc<RoutingTrace>,
    pub(crate) trained: Arc<Trained>,
}

impl Routing {
    pub(crate) fn new(seen: Arc<RoutingTrace>, served: Arc<RoutingTrace>) -> Self {
        let trained = Arc::new(trained(&seen));
        Self { seen, served, trained }
    }

    /// As `file` says.
    pub(crate) fn of(
        file: &TraceFile,
        model: &ModelShape,
        folder: &Path,
        seed: Seed,
    ) -> Result<Self> {
        let whole = whole(file, model, folder, seed)?;
        let splits = file.heldout > 0.0 && whole.request_count().is_some_and(|count| count > 1);
        if !splits {
            let whole = Arc::new(whole);
            return Ok(Self::new(Arc::clone(&whole), whole));
        }
        let parts = split(&whole, file.heldout, seed, "trace")?;
        Ok(Self::new(Arc::new(parts.train), Arc::new(parts.heldout)))
    }
}

/// The recording that `file` names, or makes.
pub(crate) fn whole(
    file: &TraceFile,
    model: &ModelShape,
    folder: &Path,
    seed: Seed,
) -> Result<RoutingTrace> {
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
    Ok(whole)
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

//! Reads `plan.json`: version first, then every key by name.

use std::collections::BTreeMap;

use moecast_sim::Placement;

use super::{Judged, Plan, Predicted, Provenance, VERSION};
use crate::error::{Error, Result};
use crate::export::cursor::At;
use crate::export::{shape, tree};

/// One more than the largest absolute layer number.
const LAYERS_MAX: u32 = 1 << 16;

pub(super) fn plan(text: &[u8], path: &str) -> Result<Plan> {
    let root = tree::json(text, path)?;
    if let Some(found) = root.peek_int("version").filter(|found| *found != VERSION.into()) {
        let expected = format!("{VERSION}, the version that this build reads");
        return Err(Error::invalid(path, "key `version`", found.to_string(), expected));
    }
    let [version, model, layers, hidden_layers, nodes, placed, predicted, provenance] = root
        .fields([
            "version",
            "model",
            "layers",
            "hidden_layers",
            "nodes",
            "placement",
            "predicted",
            "provenance",
        ])?;
    version.expect_number(VERSION.into(), ", the version that this build reads")?;
    let plan = Plan {
        version: VERSION,
        model: model.text()?,
        layers: layers.numbers(LAYERS_MAX, "a layer number")?,
        hidden_layers: hidden_layers.optional(|at| at.number("a number of layers up to 65535"))?,
        nodes: nodes.number("a number of nodes up to 65535")?,
        placement: placement(placed, path)?,
        predicted: figures(predicted)?,
        provenance: origin(provenance)?,
    };
    plan.check().map_err(|error| match error {
        Error::Problem { place, found, expected } => Error::invalid(path, place, found, expected),
        other => other,
    })?;
    Ok(plan)
}

fn placement(at: At<'_>, path: &str) -> Result<Placement> {
    let [experts, ranks, slots, layers] = at.fields(["experts", "ranks", "slots", "layers"])?;
    let experts = experts.number("a number of experts up to 65535")?;
    let ranks = ranks.number("a number of ranks up to 65535")?;
    let rows = layers.items("layers")?.into_iter().map(|item| item.row(experts));
    let placement = shape::placement(path, experts, ranks, rows.collect::<Result<_>>()?)?;
    slots.expect_number(placement.slots().into(), ", the slots of every layer")?;
    Ok(placement)
}

fn figures(at: At<'_>) -> Result<Predicted> {
    let [imbalance, bound, step_time] =
        at.fields(["imbalance", "imbalance_bound", "step_time_us"])?;
    Ok(Predicted {
        imbalance: by_name(imbalance)?,
        imbalance_bound: bound.optional(judged)?,
        step_time_us: by_name(step_time)?,
    })
}

fn by_name(at: At<'_>) -> Result<BTreeMap<String, Judged>> {
    at.named()?.into_iter().map(|(name, at)| Ok((name, judged(at)?))).collect()
}

fn judged(at: At<'_>) -> Result<Judged> {
    let [train, heldout] = at.fields(["train", "heldout"])?;
    Ok(Judged { train: train.float()?, heldout: heldout.optional(At::float)? })
}

fn origin(at: At<'_>) -> Result<Provenance> {
    let [tool, algorithm, seed, trace_sha256, synthetic, heldout, cluster, engine] =
        at.fields([
            "tool",
            "algorithm",
            "seed",
            "trace_sha256",
            "synthetic",
            "heldout",
            "cluster",
            "engine",
        ])?;
    Ok(Provenance {
        tool: tool.text()?,
        algorithm: algorithm.text()?,
        seed: seed.number("a seed: an integer from 0 to 2^64 - 1")?,
        trace_sha256: trace_sha256.text()?,
        synthetic: synthetic.bool()?,
        heldout: heldout.float()?,
        cluster: cluster.text()?,
        engine: engine.text()?,
    })
}

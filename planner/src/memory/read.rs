//! Reads `memory.json`: version first, then every key by name.

use super::{BITS_MAX, Figures, MemoryPlan, Predicted, Prefetcher, Provenance, Slots, VERSION};
use crate::error::{Error, Result};
use crate::export::cursor::At;
use crate::export::tree;

/// One more than the largest absolute layer number.
const LAYERS_MAX: u32 = 1 << 16;

/// The keys, in the order of the fields.
const KEYS: [&str; 20] = [
    "version",
    "model",
    "layers",
    "hidden_layers",
    "experts",
    "top_k",
    "pinned",
    "slots",
    "policy",
    "prefetcher",
    "compute",
    "bits",
    "stored_bits",
    "expert_bytes",
    "budget",
    "gpu_bytes",
    "other_bytes",
    "loads",
    "predicted",
    "provenance",
];

pub(super) fn plan(text: &[u8], path: &str) -> Result<MemoryPlan> {
    let root = tree::json(text, path)?;
    if let Some(found) = root.peek_int("version").filter(|found| *found != VERSION.into()) {
        let expected = format!("{VERSION}, the version that this build reads");
        return Err(Error::invalid(path, "key `version`", found.to_string(), expected));
    }
    let plan = fields(root)?;
    plan.check().map_err(|error| match error {
        Error::Problem { place, found, expected } => Error::invalid(path, place, found, expected),
        other => other,
    })?;
    Ok(plan)
}

fn fields(root: At<'_>) -> Result<MemoryPlan> {
    let [
        version,
        model,
        layers,
        hidden_layers,
        experts,
        top_k,
        pinned,
        slots,
        policy,
        prefetcher,
        compute,
        bits,
        stored_bits,
        expert_bytes,
        budget,
        gpu_bytes,
        other_bytes,
        loads,
        predicted,
        provenance,
    ] = root.fields(KEYS)?;
    version.expect_number(VERSION.into(), ", the version that this build reads")?;
    let experts = experts.number("a number of experts up to 65535")?;
    let pinned = pinned.items("lists of experts, one per layer")?.into_iter();
    Ok(MemoryPlan {
        version: VERSION,
        model: model.text()?,
        layers: layers.numbers(LAYERS_MAX, "a layer number")?,
        hidden_layers: hidden_layers.optional(|at| at.number("a number of layers up to 65535"))?,
        experts,
        top_k: top_k.number("a number of experts up to 65535")?,
        pinned: pinned.map(|at| Ok(at.row(experts)?.experts)).collect::<Result<_>>()?,
        slots: cache_slots(slots)?,
        policy: policy.text()?,
        prefetcher: ahead(prefetcher)?,
        compute: compute.text()?,
        bits: lists(bits, "lists of widths, one per layer", widths)?,
        stored_bits: stored_bits.optional(|at| at.number("1 to 16 bits"))?,
        expert_bytes: counts(expert_bytes, "a number of bytes")?,
        budget: budget.number("a number of bytes below 2^64")?,
        gpu_bytes: gpu_bytes.optional(|at| at.number("a number of bytes below 2^64"))?,
        other_bytes: other_bytes.optional(|at| at.number("a number of bytes below 2^64"))?,
        loads: lists(loads, "lists of counts, one per layer", |row| {
            counts(row, "a count below 2^64")
        })?,
        predicted: figures(predicted)?,
        provenance: origin(provenance)?,
    })
}

fn widths(at: At<'_>) -> Result<Vec<u8>> {
    let widths = at.numbers(u32::from(BITS_MAX) + 1, "a width in bits")?;
    Ok(widths.into_iter().map(|bits| u8::try_from(bits).expect("below 17")).collect())
}

fn lists<'a, T>(
    at: At<'a>,
    what: &str,
    row: impl Fn(At<'a>) -> Result<Vec<T>>,
) -> Result<Vec<Vec<T>>> {
    at.items(what)?.into_iter().map(row).collect()
}

fn counts<T: TryFrom<i128>>(at: At<'_>, what: &str) -> Result<Vec<T>> {
    at.items(what)?.into_iter().map(|item| item.number(what)).collect()
}

fn cache_slots(at: At<'_>) -> Result<Slots> {
    const EXPECTED: &str = "one key, `per_layer` or `global`";
    let place = at.error("another key", EXPECTED);
    let mut named = at.named()?;
    match (named.pop(), named.is_empty()) {
        (Some((name, at)), true) if name == "per_layer" => {
            Ok(Slots::PerLayer(counts(at, "a number of slots")?))
        }
        (Some((name, at)), true) if name == "global" => {
            Ok(Slots::Global(at.number("a number of slots below 2^32")?))
        }
        _ => Err(place),
    }
}

fn ahead(at: At<'_>) -> Result<Prefetcher> {
    let [name, depth, accuracy] = at.fields(["name", "depth", "accuracy"])?;
    Ok(Prefetcher {
        name: name.text()?,
        depth: depth.number("a number of layers up to 65535")?,
        accuracy: accuracy.optional(At::float)?,
    })
}

fn figures(at: At<'_>) -> Result<Predicted> {
    let [train, heldout] = at.fields(["train", "heldout"])?;
    Ok(Predicted { train: part(train)?, heldout: heldout.optional(part)? })
}

fn part(at: At<'_>) -> Result<Figures> {
    let [tokens_per_second, hit_rate, link_bytes_per_token, ttft_ms, stall_share] = at.fields([
        "tokens_per_second",
        "hit_rate",
        "link_bytes_per_token",
        "ttft_ms",
        "stall_share",
    ])?;
    Ok(Figures {
        tokens_per_second: tokens_per_second.optional(At::float)?,
        hit_rate: hit_rate.optional(At::float)?,
        link_bytes_per_token: link_bytes_per_token.optional(At::float)?,
        ttft_ms: ttft_ms.optional(At::float)?,
        stall_share: stall_share.optional(At::float)?,
    })
}

fn origin(at: At<'_>) -> Result<Provenance> {
    let [tool, search, precision, seed, trace_sha256, synthetic, heldout, machine, remarks] = at
        .fields([
            "tool",
            "search",
            "precision",
            "seed",
            "trace_sha256",
            "synthetic",
            "heldout",
            "machine",
            "remarks",
        ])?;
    Ok(Provenance {
        tool: tool.text()?,
        search: search.text()?,
        precision: precision.text()?,
        seed: seed.number("a seed: an integer from 0 to 2^64 - 1")?,
        trace_sha256: trace_sha256.text()?,
        synthetic: synthetic.bool()?,
        heldout: heldout.float()?,
        machine: machine.text()?,
        remarks: remarks.items("remarks")?.into_iter().map(At::text).collect::<Result<_>>()?,
    })
}

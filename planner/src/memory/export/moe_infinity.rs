//! MoE-Infinity: the configuration that `MoE(checkpoint, config)` reads (`ArcherConfig` in
//! `moe_infinity/utils/config.py`).
//!
//! The engine has one cache, evicts and prefetches by its own rules, and is told one number about
//! memory: the share of the GPU's memory that its pool of weights, experts and others, may take.
//! So the plan's bytes are all that survives. The keys written are those that every release since
//! 0.0.1 knows: its parser refuses keys that it does not know.

use serde_json::json;

use super::{Context, Entry, File, Residency, Setting, Written, lacks, rounding};
use crate::error::{Error, Result};
use crate::export::tree;
use crate::memory::MemoryPlan;

pub(super) const ENTRY: Entry = Entry {
    name: "moe-infinity",
    about: "MoE-Infinity: its configuration, with the plan's bytes as a share of the GPU",
    write,
    read,
    launch,
};

const NAME: &str = "moe_infinity.json";

/// The ratio is written in millionths.
const PARTS: u64 = 1_000_000;

/// What newer releases give to keys and values when nothing is said: the rest is left to weights.
const KV_DEFAULT: f64 = 0.15;

fn write(plan: &MemoryPlan, setting: &Setting<'_>) -> Result<Written> {
    plan.check()?;
    let Some(gpu) = setting.gpu_bytes.filter(|bytes| *bytes > 0) else {
        let expected = "--gpu-memory, the memory of the GPU, of which the engine is told a share";
        return Err(lacks("gpu memory", expected));
    };
    let used = plan.pinned_bytes() + plan.slot_bytes();
    let pool = used + u128::from(setting.other_bytes);
    let parts = pool * u128::from(PARTS) / u128::from(gpu);
    if parts > u128::from(PARTS) {
        let found = format!("{used} bytes of experts and {} of other weights", setting.other_bytes);
        let expected = format!("at most {gpu} together, all of the GPU");
        return Err(Error::problem("moe-infinity: memory", found, expected));
    }
    let parts = u64::try_from(parts).expect("at most a million");
    let mut remarks = vec![
        "the engine caches by its own rules: of the plan, the bytes of pinned experts and slots \
         are all that it is told"
            .to_owned(),
    ];
    remarks.extend(rounding::other_compute(plan, "gpu"));
    let ratio = ratio_of(parts);
    if ratio + KV_DEFAULT > 1.0 {
        remarks.push(format!(
            "the engine lowers device_memory_ratio {ratio} to {}, unless kv_cache_memory_ratio is \
             set to {:.6} or less",
            1.0 - KV_DEFAULT,
            1.0 - ratio
        ));
    }
    remarks.extend(rounding::own_bits(plan));
    let config = json!({
        "offload_path": "offload",
        "trace_capacity": 1000,
        "prefetch": plan.prefetcher.name != "none",
        "device_memory_ratio": ratio,
    });
    let text = format!("{config:#}\n");
    let files = vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }];
    let context = Context::of(plan, *setting, NAME);
    Ok(Written { residency: residency(parts, gpu, &context), files, remarks })
}

#[expect(clippy::cast_precision_loss, reason = "at most a million")]
fn ratio_of(parts: u64) -> f64 {
    parts as f64 / PARTS as f64
}

fn residency(parts: u64, gpu: u64, context: &Context<'_>) -> Residency {
    let pool = u128::from(gpu) * u128::from(parts) / u128::from(PARTS);
    let cache = pool.saturating_sub(context.setting.other_bytes.into());
    Residency {
        pinned: vec![Vec::new(); context.layers.len()],
        cache_bytes: u64::try_from(cache).unwrap_or(u64::MAX),
    }
}

fn read(files: &[File], context: &Context<'_>) -> Result<Residency> {
    let text = context.file(files, NAME)?;
    let [offload_path, capacity, prefetch, memory] = tree::json(text, &context.path)?.fields([
        "offload_path",
        "trace_capacity",
        "prefetch",
        "device_memory_ratio",
    ])?;
    offload_path.text()?;
    capacity.number::<u32>("a number of traces")?;
    prefetch.bool()?;
    let ratio = memory.float()?;
    if !(0.0..=1.0).contains(&ratio) {
        let expected = "a ratio of 0 to 1";
        let found = ratio.to_string();
        return Err(Error::invalid(&context.path, "device_memory_ratio", found, expected));
    }
    let gpu = context.setting.gpu_bytes.ok_or_else(|| {
        lacks("gpu memory", "--gpu-memory, the memory of the GPU, of which the file tells a share")
    })?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to a million"
    )]
    let parts = (ratio * PARTS as f64).round() as u64;
    Ok(residency(parts, gpu, context))
}

fn launch(_: &MemoryPlan, _: &Written) -> String {
    format!(
        "Pass {NAME} as the configuration:\n\n    \
         model = MoE(checkpoint, \"{NAME}\")\n\n\
         Set offload_path to a folder on a fast disk: the engine copies the weights there.\n"
    )
}

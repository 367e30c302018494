//! vLLM: its arguments for offloading weights (`vllm/config/offload.py`, releases 0.17 to 0.29).
//!
//! Two backends, none of which knows loads. `uva` leaves parameters in pinned host memory and reads
//! them over the link, in the order of the model until `--cpu-offload-gb` GiB are reached, among
//! the parameters that `--cpu-offload-params` names: the experts of the first MoE layers.
//! `prefetch` copies whole layers ahead of time: of every group of `--offload-group-size` layers
//! (dense ones counted) the last `--offload-num-in-group`, `--offload-prefetch-step` layers ahead,
//! into buffers of as many layers on the GPU. A plan with a prefetcher is written for `prefetch`,
//! one without for `uva`; what it keeps is rounded to whole layers and then to that pattern.
//!
//! Checked as the engine checks: a group is at least as large as its part, the step at least 1;
//! parameters are `mlp.experts.w13_weight` and `w2_weight`, two thirds and one third of a layer.

use super::{Context, Entry, File, Residency, Setting, Written, arguments, rounding};
use crate::error::{Error, Result};
use crate::memory::MemoryPlan;

pub(super) const ENTRY: Entry = Entry {
    name: "vllm",
    about: "vLLM 0.17 to 0.29: arguments that offload the experts of whole layers",
    write,
    read,
    launch,
};

const NAME: &str = "vllm.args";
const BACKEND: &str = "--offload-backend";
const GIB: f64 = 1_073_741_824.0;

/// Largest group that is tried, and most layers of a model.
const LAYERS_MAX: u16 = 1024;

/// What the engine is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Offload {
    Nothing,
    /// GiB of experts that stay in host memory.
    Uva(f64),
    /// Layers of a group, those of it that are offloaded, layers ahead.
    Prefetch {
        group: u16,
        part: u16,
        step: u16,
    },
}

impl Offload {
    /// Whether each MoE layer `[M]` stays in GPU memory.
    fn kept(self, context: &Context<'_>) -> Vec<bool> {
        match self {
            Self::Nothing => vec![true; context.layers.len()],
            Self::Uva(limit) => {
                let limit = limit * GIB;
                let mut offloaded = 0.0;
                let mut kept = Vec::with_capacity(context.layers.len());
                for &bytes in &context.layer_bytes {
                    // The limit is looked at before each of the two parameters.
                    let mut parts = 0;
                    for share in [2.0 / 3.0, 1.0 / 3.0] {
                        if offloaded < limit {
                            offloaded += to_float(bytes) * share;
                            parts += 1;
                        }
                    }
                    kept.push(parts == 0);
                }
                kept
            }
            Self::Prefetch { group, part, .. } => {
                context.layers.iter().map(|layer| layer % group < group - part).collect()
            }
        }
    }

    fn text(self) -> String {
        match self {
            Self::Nothing => "\n".to_owned(),
            Self::Uva(limit) => {
                format!("{BACKEND} uva --cpu-offload-gb {limit:.9} --cpu-offload-params experts\n")
            }
            Self::Prefetch { group, part, step } => format!(
                "{BACKEND} prefetch --offload-group-size {group} --offload-num-in-group {part} \
                 --offload-prefetch-step {step} --offload-params experts\n"
            ),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a layer are far below 2^53")]
fn to_float(bytes: u64) -> f64 {
    bytes as f64
}

fn write(plan: &MemoryPlan, setting: &Setting<'_>) -> Result<Written> {
    plan.check()?;
    if let Some(last) = plan.layers.last().filter(|last| **last >= LAYERS_MAX) {
        let expected = format!("layer numbers below {LAYERS_MAX}");
        return Err(Error::problem("key `layers`", last.to_string(), expected));
    }
    let mut remarks = Vec::new();
    let wanted = rounding::whole_layers(plan, setting, &mut remarks);
    let context = Context::of(plan, *setting, NAME);
    let offload = if wanted.iter().all(|kept| *kept) {
        Offload::Nothing
    } else if plan.prefetcher.name == "none" {
        first_layers(plan, &context, &wanted)
    } else {
        pattern(plan, &context, &wanted)?
    };
    let kept = offload.kept(&context);
    if kept != wanted {
        let of = |kept: &[bool]| kept.iter().filter(|kept| **kept).count();
        let both: Vec<bool> = kept.iter().zip(&wanted).map(|(one, other)| *one && *other).collect();
        remarks.push(format!(
            "vLLM chooses layers by their order alone: it keeps {} layers, {} of them among the {} \
             that the plan's memory is best spent on",
            of(&kept),
            of(&both),
            of(&wanted)
        ));
    }
    remarks.extend(rounding::other_compute(plan, "gpu"));
    remarks.extend(rounding::own_bits(plan));
    if let Offload::Prefetch { step, .. } = offload {
        remarks.push(format!(
            "buffers of {step} layers on the GPU hold what is copied ahead, all experts of a layer \
             in every pass, chosen or not"
        ));
    }
    let files = vec![File { name: NAME.to_owned(), bytes: offload.text().into_bytes() }];
    let residency = Residency { pinned: context.whole(&kept), cache_bytes: 0 };
    Ok(Written { files, residency, remarks })
}

/// As few of the first layers as leave what the plan's memory holds.
fn first_layers(plan: &MemoryPlan, context: &Context<'_>, wanted: &[bool]) -> Offload {
    let allowed = plan.pinned_bytes() + plan.slot_bytes();
    let mut left: u128 = context.layer_bytes.iter().map(|&bytes| u128::from(bytes)).sum();
    // As many layers as the plan offloads, and more only where the memory does not suffice.
    let least = wanted.iter().filter(|kept| !**kept).count();
    let mut limit = 0.0;
    for (index, &bytes) in context.layer_bytes.iter().enumerate() {
        if index >= least && left <= allowed {
            break;
        }
        left -= u128::from(bytes);
        limit += to_float(bytes);
    }
    // Between the last parameter that must go and the first that must stay, half of the smaller of
    // a layer's two before the end.
    let smallest = context.layer_bytes.iter().copied().min().unwrap_or(0);
    Offload::Uva((limit - to_float(smallest) / 6.0).max(0.0) / GIB)
}

/// The pattern whose kept layers, with the buffers, fit the budget, and that agrees with the plan
/// in most layers; everything offloaded where none fits.
fn pattern(plan: &MemoryPlan, context: &Context<'_>, wanted: &[bool]) -> Result<Offload> {
    let step = plan.prefetcher.depth.max(1);
    let widest = context.layer_bytes.iter().copied().max().unwrap_or(0);
    let buffers = u128::from(widest) * u128::from(step);
    let last = plan.layers.last().copied().unwrap_or(0);
    let mut best: Option<(usize, Offload)> = None;
    for group in 1..=last + 1 {
        for part in 1..=group {
            let offload = Offload::Prefetch { group, part, step };
            let kept = offload.kept(context);
            let sizes = kept.iter().zip(&context.layer_bytes).filter(|(kept, _)| **kept);
            let bytes: u128 = sizes.map(|(_, &bytes)| u128::from(bytes)).sum();
            let offloads = kept.iter().any(|kept| !*kept);
            if bytes + if offloads { buffers } else { 0 } > u128::from(plan.budget) {
                continue;
            }
            let agreed = kept.iter().zip(wanted).filter(|(kept, wanted)| kept == wanted).count();
            if best.is_none_or(|(most, _)| agreed > most) {
                best = Some((agreed, offload));
            }
        }
    }
    best.map(|(_, offload)| offload).ok_or_else(|| {
        let found = format!("{} bytes", plan.budget);
        let expected = format!("{buffers}, the buffers of {step} layers; or no prefetcher");
        Error::problem("vllm: budget", found, expected)
    })
}

fn read(files: &[File], context: &Context<'_>) -> Result<Residency> {
    let offload = parse(&arguments::words(context.file(files, NAME)?, context)?, context)?;
    Ok(Residency { pinned: context.whole(&offload.kept(context)), cache_bytes: 0 })
}

fn parse(words: &[&str], context: &Context<'_>) -> Result<Offload> {
    let refuse = |word: &str, expected: &str| Err(arguments::invalid(context, word, expected));
    let number = |flag: &str, at: usize| -> Result<u16> {
        arguments::number(&mut words.get(at).copied().into_iter(), flag, context)
    };
    match words {
        [] => Ok(Offload::Nothing),
        [
            BACKEND,
            "prefetch",
            size @ "--offload-group-size",
            _,
            count @ "--offload-num-in-group",
            _,
            ahead @ "--offload-prefetch-step",
            _,
            "--offload-params",
            "experts",
        ] => {
            let (group, part) = (number(size, 3)?, number(count, 5)?);
            let step = number(ahead, 7)?;
            if part == 0 || part > group {
                return refuse(count, "1 layer at least, and no more than the group has");
            }
            if step == 0 {
                return refuse(ahead, "a step of at least 1");
            }
            Ok(Offload::Prefetch { group, part, step })
        }
        [BACKEND, "uva", "--cpu-offload-gb", limit, "--cpu-offload-params", "experts"] => {
            match limit.parse::<f64>() {
                Ok(limit) if limit.is_finite() && limit >= 0.0 => Ok(Offload::Uva(limit)),
                _ => refuse(limit, "GiB, not negative"),
            }
        }
        _ => refuse(
            &words.join(" "),
            "--offload-backend uva or prefetch with all arguments of that backend, or nothing",
        ),
    }
}

fn launch(_: &MemoryPlan, written: &Written) -> String {
    let text = String::from_utf8_lossy(&written.files[0].bytes);
    format!(
        "Add the arguments in {NAME}; they need no quotes:\n\n    \
         vllm serve MODEL $(cat {NAME})\n\n\
         They are: {}\n",
        text.trim()
    )
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::ExpertId;

    use super::super::super::tests::tiny_plan;
    use super::*;
    use crate::memory::{MemoryPlan, Slots};

    /// Eight layers of four experts of 1 GB; those at `kept` stay.
    fn plan(kept: &[u16], prefetcher: &str) -> MemoryPlan {
        let rows = |layer: u16| {
            let experts = if kept.contains(&layer) { 4 } else { 0 };
            (0..experts).map(ExpertId).collect()
        };
        let mut plan = MemoryPlan {
            layers: (0..8).collect(),
            hidden_layers: Some(8),
            pinned: (0..8).map(rows).collect(),
            slots: Slots::Global(0),
            expert_bytes: vec![1_000_000_000; 8],
            budget: 32_000_000_000,
            loads: Vec::new(),
            ..tiny_plan()
        };
        plan.prefetcher.name = prefetcher.to_owned();
        plan
    }

    fn text(plan: &MemoryPlan) -> (String, Vec<String>) {
        let written = write(plan, &Setting::default()).unwrap();
        (String::from_utf8(written.files[0].bytes.clone()).unwrap(), written.remarks)
    }

    #[test]
    fn the_last_of_every_group() {
        let (text, remarks) = text(&plan(&[0, 1, 2, 4, 5, 6], "oracle"));
        assert_eq!(
            text,
            "--offload-backend prefetch --offload-group-size 4 --offload-num-in-group 1 \
             --offload-prefetch-step 1 --offload-params experts\n"
        );
        assert_eq!(remarks.len(), 1, "{remarks:?}");
    }

    #[test]
    fn the_first_layers_by_bytes() {
        let (exact, remarks) = text(&plan(&[2, 3, 4, 5, 6, 7], "none"));
        // Eight gigabytes less half of a second projection.
        assert_eq!(
            exact,
            "--offload-backend uva --cpu-offload-gb 6.829698881 --cpu-offload-params experts\n"
        );
        assert_eq!(remarks, [""; 0]);
        let (other, remarks) = text(&plan(&[0, 1, 2, 3, 4, 5], "none"));
        assert_eq!((other, remarks.len()), (exact, 1));
        assert_eq!(text(&plan(&[0, 1, 2, 3, 4, 5, 6, 7], "none")).0, "\n");
    }

    #[test]
    fn what_the_engine_refuses_is_refused() {
        let setting = Setting::default();
        let context = Context::of(&plan(&[], "none"), setting, "f");
        for (text, expected) in [
            (
                "--offload-backend prefetch --offload-group-size 2 --offload-num-in-group 3 \
                 --offload-prefetch-step 1 --offload-params experts",
                "f: arguments: `--offload-num-in-group`; expected 1 layer at least",
            ),
            (
                "--offload-backend uva --cpu-offload-gb -1 --cpu-offload-params experts",
                "f: arguments: `-1`; expected GiB, not negative",
            ),
            ("--cpu-offload-gb 3", "f: arguments: `--cpu-offload-gb 3`; expected --offload-back"),
        ] {
            let files = [File { name: NAME.to_owned(), bytes: text.as_bytes().to_vec() }];
            let error = read(&files, &context).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

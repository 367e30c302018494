//! ktransformers in SGLang (`--kt-...` flags; `kt_ep_wrapper.py` of the kvcache-ai fork, 0.5).
//!
//! With `--kt-expert-placement-strategy frequency` the engine loads `logical_count` of shape
//! `[buffer, L, E]` from a `.pt` file (weights only), sums over the first axis and keeps the
//! largest n of the flattened `[L, E]` table on the GPU, n = int(MoE layers * E * ratio); rows of
//! dense layers are never used. Counts of 1 and 0 therefore say exactly which experts stay, if n
//! is their number: the ratio is chosen for that, and checked by the engine's own rule.
//! The engine counts MoE layers by `first_k_dense_replace` and `moe_layer_freq`; a model whose MoE
//! layers do not follow such a rule is refused, because n would be of another total.
//! Written: the table as `.npy`, the three lines of Python that make the `.pt` of it (a pickle,
//! which moecast does not write), and the flags.

use moecast_profiles::ids::ExpertId;
use moecast_traces::npy;

use super::{Context, Entry, File, Residency, Setting, Written, arguments, lacks, rounding};
use crate::error::{Error, Result};
use crate::memory::{CELLS_MAX, MemoryPlan};

pub(super) const ENTRY: Entry = Entry {
    name: "ktransformers",
    about: "SGLang with ktransformers: a table of counts, its converter and the flags",
    write,
    read,
    launch,
};

const ARGUMENTS: &str = "ktransformers.args";
const TABLE: &str = "ktransformers.npy";
const TORCH: &str = "ktransformers.pt";
const CONVERTER: &str = "ktransformers_to_pt.py";
const STRATEGY: &str = "--kt-expert-placement-strategy";
const LOCATION: &str = "--init-expert-location";
const RATIO: &str = "--kt-gpu-experts-ratio";

fn write(plan: &MemoryPlan, setting: &Setting<'_>) -> Result<Written> {
    plan.check()?;
    let Some(hidden) = plan.hidden_layers else {
        let expected = "how many layers the model has, dense ones included: plan with --model";
        return Err(lacks("hidden_layers", expected));
    };
    check_layers(&plan.layers, hidden)?;
    let cells = usize::from(hidden) * usize::from(plan.experts);
    if cells > CELLS_MAX {
        let found = format!("{hidden} layers of {} experts", plan.experts);
        return Err(Error::problem("key `hidden_layers`", found, format!("{CELLS_MAX} experts")));
    }
    let mut fixed = rounding::without_cache(plan, setting);
    fixed.remarks.extend(rounding::other_compute(plan, "cpu"));
    fixed.remarks.extend(rounding::own_bits(plan));
    let total = plan.layers.len() as u64 * u64::from(plan.experts);
    let kept = fixed.rows.iter().map(Vec::len).sum::<usize>() as u64;
    let ratio = ratio(kept, total);
    let text = format!("{STRATEGY} frequency {LOCATION} {TORCH} {RATIO} {ratio}\n");
    let converter = format!(
        "import numpy, torch\ncounts = torch.from_numpy(numpy.load(\"{TABLE}\"))\n\
         torch.save({{\"logical_count\": counts}}, \"{TORCH}\")\n"
    );
    let file = |name: &str, bytes: Vec<u8>| File { name: name.to_owned(), bytes };
    let files = vec![
        file(ARGUMENTS, text.into_bytes()),
        file(TABLE, table(plan, hidden, &fixed.rows)),
        file(CONVERTER, converter.into_bytes()),
    ];
    let residency = Residency { pinned: fixed.rows, cache_bytes: 0 };
    // The engine's rule is run on what was written, not on what was meant.
    let read = read(&files, &Context::of(plan, *setting, ARGUMENTS))?;
    assert_eq!(read, residency, "the ratio {ratio} of {total} selects other experts");
    Ok(Written { files, residency, remarks: fixed.remarks })
}

fn table(plan: &MemoryPlan, hidden: u16, rows: &[Vec<ExpertId>]) -> Vec<u8> {
    let experts = usize::from(plan.experts);
    let mut counts = vec![0_i64; usize::from(hidden) * experts];
    for (layer, row) in plan.layers.iter().zip(rows) {
        for expert in row {
            counts[usize::from(*layer) * experts + expert.index()] = 1;
        }
    }
    let mut bytes = npy::preamble("<i8", &[1, hidden.into(), experts]);
    bytes.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
    bytes
}

/// The fewest decimals of which `int(total * ratio)` is `kept`.
fn ratio(kept: u64, total: u64) -> String {
    for digits in 1..=17_usize {
        let scale = 10_u128.pow(u32::try_from(digits).expect("at most 17"));
        let least = (u128::from(kept) * scale).div_ceil(u128::from(total.max(1)));
        // 0.29 of 100 is 28.999999999999996 in binary: the next number may be needed.
        for parts in [least, least + 1] {
            let text = match parts / scale {
                0 => format!("0.{parts:0digits$}"),
                _ => "1.0".to_owned(),
            };
            if selected(&text, total) == Some(kept) {
                return text;
            }
        }
    }
    unreachable!("17 decimals tell {kept} of {total} from its neighbours")
}

/// How many experts the engine keeps: `int(total * ratio)`.
fn selected(ratio: &str, total: u64) -> Option<u64> {
    let ratio: f64 = ratio.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "experts are far below 2^53")]
    let product = total as f64 * ratio;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the engine truncates; a ratio is 0 to 1"
    )]
    (0.0..=1.0).contains(&ratio).then_some(product as u64)
}

/// Layers as the engine finds them: from the first on, every one that `freq` divides.
fn check_layers(layers: &[u16], hidden: u16) -> Result<()> {
    let first = layers.first().copied().unwrap_or(0);
    let follows = |freq: &u16| {
        let engine = (0..hidden).step_by(usize::from(*freq)).filter(|layer| *layer >= first);
        engine.eq(layers.iter().copied())
    };
    if (1..=hidden.max(1)).any(|freq| follows(&freq)) {
        return Ok(());
    }
    let found = format!("MoE layers {layers:?} of {hidden}");
    let expected = "every n-th layer from a first one on, as the engine counts them";
    Err(Error::problem("key `layers`", found, expected))
}

fn read(files: &[File], context: &Context<'_>) -> Result<Residency> {
    let path = &*context.path;
    let hidden = context.hidden_layers.ok_or_else(|| {
        lacks("hidden_layers", "how many layers the model has, dense ones included")
    })?;
    check_layers(&context.layers, hidden)?;
    let words = arguments::words(context.file(files, ARGUMENTS)?, context)?;
    let &[STRATEGY, "frequency", LOCATION, TORCH, RATIO, ratio] = words.as_slice() else {
        let expected = format!("{STRATEGY} frequency {LOCATION} {TORCH} {RATIO} and a number");
        return Err(arguments::invalid(context, &words.join(" "), &expected));
    };
    let total = context.layers.len() as u64 * u64::from(context.experts);
    let kept = selected(ratio, total)
        .ok_or_else(|| arguments::invalid(context, ratio, "a ratio of 0 to 1"))?;
    let (shape, counts) = npy::read_table(context.file(files, TABLE)?, TABLE)
        .map_err(|error| Error::invalid(path, TABLE, error.to_string(), "the table of counts"))?;
    let experts = usize::from(context.experts);
    if shape != [1, usize::from(hidden), experts] {
        let expected = format!("[1, {hidden}, {experts}]: all hidden layers");
        return Err(Error::invalid(path, TABLE, format!("shape {shape:?}"), expected));
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by(|&a, &b| counts[b].cmp(&counts[a]).then(a.cmp(&b)));
    let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(order.len());
    let edge = |at: usize| order.get(at).map(|&cell| counts[cell]);
    if kept > 0 && edge(kept) == edge(kept - 1) {
        let found = format!("{kept} experts of {total}, where the next has the same count");
        return Err(Error::invalid(path, RATIO, found, "a number that counts tell apart"));
    }
    let mut pinned = vec![Vec::new(); context.layers.len()];
    for &cell in &order[..kept] {
        let layer = u16::try_from(cell / experts).expect("hidden layers are u16");
        let Ok(ordinal) = context.layers.binary_search(&layer) else {
            let found = format!("a count in dense layer {layer}");
            return Err(Error::invalid(path, TABLE, found, "0 in the rows of dense layers"));
        };
        pinned[ordinal].push(ExpertId(u16::try_from(cell % experts).expect("ids are u16")));
    }
    pinned.iter_mut().for_each(|row| row.sort_unstable());
    Ok(Residency { pinned, cache_bytes: 0 })
}

fn launch(_: &MemoryPlan, written: &Written) -> String {
    let flags = String::from_utf8_lossy(&written.files[0].bytes);
    format!(
        "Make the file that the engine loads, once, beside {TABLE}:\n\n    python {CONVERTER}\n\n\
         Then add to the arguments of `python -m sglang.launch_server` ({ARGUMENTS}):\n\n    \
         {flags}\n\
         The engine keeps the experts with the largest counts of all layers together; {TABLE} \
         holds\n1 and 0, and the ratio is that of the ones. Leave --kt-num-gpu-experts and\n\
         --kt-enable-dynamic-expert-update out: they replace this choice.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_experts_has_a_ratio_that_the_engine_truncates_to_it() {
        for total in [1, 7, 26 * 64, 48 * 128, 58 * 256] {
            for kept in 0..=total {
                assert_eq!(selected(&ratio(kept, total), total), Some(kept), "{kept} of {total}");
            }
        }
        // 0.7 of 10 is 7.0 in binary too; 0.29 of 100 is 28.999999999999996.
        assert_eq!((ratio(7, 10), ratio(29, 100)), ("0.7".to_owned(), "0.291".to_owned()));
    }

    #[test]
    fn layers_that_the_engine_would_count_otherwise_are_refused() {
        check_layers(&[3, 4, 5], 6).unwrap();
        check_layers(&[2, 4], 6).unwrap();
        check_layers(&[1, 3], 4).unwrap_err();
        check_layers(&[0, 1, 3], 4).unwrap_err();
    }
}

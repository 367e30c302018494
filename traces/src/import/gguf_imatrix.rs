//! Reads importance matrices of llama.cpp in GGUF (written against `tools/imatrix/imatrix.cpp` of
//! build b6500): of every tensor that calibration text ran through, `<name>.in_sum2`, lately
//! `<name>.in_sum`, and `<name>.counts`. For `blk.N.ffn_*_exps.weight` the counts are 32-bit floats
//! `[1, E]`: how many tokens chose each expert of absolute layer N. The projections of a layer
//! (gate, up, down) see the same tokens; the first by name is taken, and a remark counts the
//! layers where another disagrees. One file is one step; the sums are not kept.
//!
//! With a model its MoE layers rule; layers behind its last one predict further tokens and are
//! left out with a remark. Without one, the layers are those that occur.
//! Refused: `imatrix.dat` (the format before GGUF adds all experts up), GGUF version 1, big-endian
//! files, a key or tensor twice, other shapes and types, fractions, a dense layer, files without
//! counts of experts. Only the header and the counts are read; the counts of all files are held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use moecast_profiles::model::ModelShape;

use self::file::{File, MAGIC};
use super::shape::{EXPERT_MAX, check_padding, model_name, span};
use super::{Entry, Input, Progress, contains, file_name, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

mod file;

pub(super) const ENTRY: Entry = Entry {
    name: "gguf-imatrix",
    about: "llama.cpp importance matrix in GGUF: tokens per expert of one calibration run",
    extensions: &["gguf"],
    recognise,
    read,
};

/// Counts above this are rounded by the format.
const EXACT_MAX: u32 = 1 << 24;

fn recognise(_: &Path, head: &[u8]) -> bool {
    is_legacy(head) || (head.starts_with(MAGIC) && contains(head, b"imatrix"))
}

/// Whether this is an `imatrix.dat`: a number of entries, a length, and a name that long.
fn is_legacy(head: &[u8]) -> bool {
    let [entries, length] = [0, 4].map(|at| {
        head.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| i32::from_le_bytes(*b))
    });
    (1..1 << 20).contains(&entries)
        && (1..1 << 10).contains(&length)
        && head
            .get(8..)
            .is_some_and(|name| name.starts_with(b"blk.") || name.starts_with(b"output"))
}

/// What one file counted.
struct Step {
    /// By absolute layer.
    layers: BTreeMap<u16, Vec<u32>>,
    /// Tensors that hold no counts of experts.
    others: u64,
    /// Layers whose projections disagree, layers beyond the model, counts that were rounded.
    disagreeing: u64,
    beyond: BTreeSet<u16>,
    rounded: u64,
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut steps = Vec::new();
    let mut experts = input.model.map(|model| usize::from(model.experts));
    for path in input.paths {
        let step = read_step(path, input.model, &mut experts)?;
        progress.add(std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len());
        steps.push(step);
    }
    build(&input, &steps, experts.unwrap_or(0))
}

fn read_step(path: &Path, model: Option<&ModelShape>, experts: &mut Option<usize>) -> Result<Step> {
    let name = shown(path);
    let mut file = File::open(path, is_legacy)?;
    let mut step = Step {
        layers: BTreeMap::new(),
        others: file.others,
        disagreeing: 0,
        beyond: BTreeSet::new(),
        rounded: 0,
    };
    let mut disagreeing = BTreeSet::new();
    for (tensor, info) in std::mem::take(&mut file.counts) {
        let place = format!("tensor `{tensor}`");
        let refuse = |found: String, expected: &str| Error::invalid(&name, &place, found, expected);
        if let Some(model) = model.filter(|model| model.ordinal(info.layer).is_none()) {
            if info.layer < model.hidden_layers {
                let layers = span(&model.moe_layers);
                let expected = format!("a MoE layer of {}: {layers}", model.name);
                return Err(refuse(format!("layer {}", info.layer), &expected));
            }
            step.beyond.insert(info.layer);
            continue;
        }
        check_experts(&name, &place, info.experts, model, experts)?;
        let mut counts = Vec::with_capacity(info.experts);
        for (expert, value) in file.read(&tensor, &info)?.into_iter().enumerate() {
            let count = whole(value).ok_or_else(|| {
                let found = format!("{value} for expert {expert}");
                refuse(found, "a count from 0 to 4294967040")
            })?;
            step.rounded += u64::from(count > EXACT_MAX);
            counts.push(count);
        }
        let first = step.layers.entry(info.layer).or_insert_with(|| counts.clone());
        if *first != counts {
            disagreeing.insert(info.layer);
        }
    }
    step.disagreeing = disagreeing.len() as u64;
    if step.layers.values().flatten().all(|&count| count == 0) {
        let expected = "blk.N.ffn_*_exps.weight.counts above 0: is this an imatrix of a MoE model?";
        return Err(Error::invalid(name, "tensors", "no counts of experts", expected));
    }
    Ok(step)
}

/// The number of experts must be the same in every layer and file.
fn check_experts(
    path: &str,
    place: &str,
    found: usize,
    model: Option<&ModelShape>,
    experts: &mut Option<usize>,
) -> Result<()> {
    let most = usize::from(EXPERT_MAX) + 1;
    let expected = match (*experts, model) {
        _ if found == 1 => {
            "one for each expert: was this converted from imatrix.dat, which adds them up?".into()
        }
        (Some(experts), Some(model)) if found != experts => {
            format!("{experts} as {} has", model.name)
        }
        (Some(experts), None) if found != experts => format!("{experts} as before"),
        (None, _) if found > most => format!("{most} at most"),
        _ => {
            *experts = Some(found);
            return Ok(());
        }
    };
    Err(Error::invalid(path, place, format!("counts of {found} experts"), expected))
}

/// A float as a count; the largest below 2^32 is 4294967040.
fn whole(value: f32) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates and is compared")]
    #[expect(clippy::cast_sign_loss, reason = "a cast saturates and is compared")]
    let count = f64::from(value) as u32;
    (f64::from(count) == f64::from(value)).then_some(count)
}

fn build(input: &Input<'_>, steps: &[Step], experts: usize) -> Result<TraceBuilder> {
    let occurring: BTreeSet<u16> = steps.iter().flat_map(|s| s.layers.keys()).copied().collect();
    let occurring: Vec<u16> = occurring.into_iter().collect();
    let layers = input.model.map_or_else(|| occurring.clone(), |model| model.moe_layers.clone());
    let given = steps.iter().map(|step| (step.layers.len() * experts) as u64).sum();
    let cells = [steps.len(), layers.len(), experts].map(|count| count as u64);
    check_padding(&shown(&input.paths[0]), cells, given)?;
    let nothing = vec![0; experts];
    let top_k = input.model.map_or(1, |model| model.top_k);
    let experts = u16::try_from(experts).expect("checked with every tensor");
    let mut header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
    header.remarks = remarks(input, steps, &header.layers, &occurring);
    let layers = header.layers.clone();
    let mut builder = input.builder(header);
    builder.reserve_counts(steps.len());
    for step in steps {
        for layer in &layers {
            builder.push_counts(step.layers.get(layer).unwrap_or(&nothing));
        }
    }
    Ok(builder)
}

fn remarks(input: &Input<'_>, steps: &[Step], layers: &[u16], occurring: &[u16]) -> Vec<String> {
    let mut remarks = vec![format!(
        "a step is the calibration run of one file: {}",
        input.paths.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
    )];
    if input.model.is_none() {
        remarks.push(super::steps::TOP_K_UNKNOWN.to_owned());
    }
    let given: usize = steps.iter().map(|step| step.layers.len()).sum();
    let absent = (steps.len() * layers.len()).saturating_sub(given);
    if absent > 0 {
        let occurring = span(occurring);
        remarks.push(format!(
            "{absent} (file, layer) pairs have no counts and count 0; layers that have: {occurring}"
        ));
    }
    let mut counted = |of: &dyn Fn(&Step) -> u64, text: &str| {
        let sum: u64 = steps.iter().map(of).sum();
        if sum > 0 {
            remarks.push(format!("{sum} {text}"));
        }
    };
    counted(
        &|step| step.beyond.len() as u64,
        "layers behind the last hidden layer (multi-token prediction) are left out",
    );
    counted(
        &|step| step.disagreeing,
        "layers have projections that counted other tokens; the first by name is taken",
    );
    counted(&|step| step.rounded, "counts above 2^24 were rounded by the format");
    counted(&|step| step.others, "other tensors (sums of activations, dense layers) are not kept");
    remarks
}

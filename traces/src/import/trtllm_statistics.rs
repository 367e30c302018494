//! Reads what TensorRT-LLM writes where `EXPERT_STATISTIC_ITER_RANGE` is set (written against
//! `_torch/expert_statistic.py` of TensorRT-LLM 1.0): a folder `EXPERT_STATISTIC_PATH` with
//! `meta_info.json` `{"num_experts": E, "num_experts_per_token": k}` and one `rank{r}.safetensors`
//! a rank, with a tensor `"{iteration}_{layer}"` of integers `[E]` for each pass and absolute
//! layer: how many of that rank's tokens chose each logical expert.
//!
//! An iteration is the sum over ranks and one step. With a model its MoE layers rule; layers
//! behind its last one predict further tokens and are left out with a remark. Without one, the
//! layers are those that occur. `meta_info.json` may be absent: then top-k is that of the model.
//! Refused: other files, a rank twice, other tensor names and element types, tensors that are not
//! `[E]`, a dense layer, negative counts, a name that occurs twice in a header.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use moecast_profiles::model::ModelShape;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use self::names::tensor_names;
use super::shape::{EXPERT_MAX, check_padding, model_name, span};
use super::text::short;
use super::whole::read_whole;
use super::{Entry, Input, Progress, contains, file_name, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

mod names;

pub(super) const ENTRY: Entry = Entry {
    name: "trtllm-statistics",
    about: "TensorRT-LLM expert statistics: a folder with meta_info.json and rank{r}.safetensors",
    extensions: &["json", "safetensors"],
    recognise,
    read,
};

/// Largest `meta_info.json`; a real one has 50 bytes.
const META_BYTES_MAX: u64 = 1 << 16;

/// Largest file of one rank; 1000 passes of 58 layers with 256 experts are 120 MB.
const RANK_BYTES_MAX: u64 = 4 << 30;

/// The content of `meta_info.json`.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    num_experts: u16,
    num_experts_per_token: u16,
}

/// Pass and absolute layer of a tensor.
type Key = (u64, u16);

/// One pass and layer, summed over ranks.
struct Sum {
    counts: Vec<u32>,
    ranks: usize,
}

/// All files.
#[derive(Default)]
struct Recording {
    meta: Option<Meta>,
    /// Logical experts, once any file told.
    experts: Option<u16>,
    ranks: BTreeSet<u64>,
    sums: BTreeMap<Key, Sum>,
    /// Tensors of layers that the model does not have.
    beyond: usize,
}

fn recognise(path: &Path, head: &[u8]) -> bool {
    if path.extension().is_some_and(|ending| ending == "json") {
        return head.trim_ascii_start().starts_with(b"{")
            && contains(head, b"\"num_experts\"")
            && contains(head, b"\"num_experts_per_token\"");
    }
    rank_of(path).is_some() && names::begins_with_key(head)
}

/// The rank that a file is called after.
fn rank_of(path: &Path) -> Option<u64> {
    let rank = path.file_name()?.to_str()?.strip_prefix("rank")?.strip_suffix(".safetensors")?;
    names::plain(rank)
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut recording = Recording::default();
    for path in input.paths.iter().filter(|path| rank_of(path).is_none()) {
        recording.add_meta(path, input.model, &progress)?;
    }
    for path in input.paths {
        if let Some(rank) = rank_of(path) {
            recording.add_rank(path, rank, input.model, &progress)?;
        }
    }
    recording.build(&input)
}

impl Recording {
    fn add_meta(
        &mut self,
        path: &Path,
        model: Option<&ModelShape>,
        progress: &Progress,
    ) -> Result<()> {
        let name = shown(path);
        if path.extension().is_none_or(|ending| ending != "json") {
            let expected = "meta_info.json or rank{r}.safetensors";
            return Err(Error::invalid(name, "file name", "another name", expected));
        }
        let bytes = read_whole(path, META_BYTES_MAX, progress)?;
        let meta: Meta = serde_json::from_slice(&bytes).map_err(|error| {
            let shape = "{\"num_experts\": E, \"num_experts_per_token\": k}";
            Error::invalid(&name, "whole file", error.to_string(), shape)
        })?;
        if self.meta.is_some() {
            let expected = "one meta_info.json";
            return Err(Error::invalid(name, "whole file", "a second meta_info.json", expected));
        }
        let Meta { num_experts: experts, num_experts_per_token: top_k } = meta;
        if top_k == 0 || top_k > experts || experts > EXPERT_MAX + 1 {
            let found = format!("num_experts {experts}, num_experts_per_token {top_k}");
            let expected =
                format!("1 <= num_experts_per_token <= num_experts <= {}", EXPERT_MAX + 1);
            return Err(Error::invalid(name, "whole file", found, expected));
        }
        self.check_experts(&name, "key `num_experts`", experts.into(), model)?;
        self.meta = Some(meta);
        Ok(())
    }

    /// The number of experts must be the same everywhere.
    fn check_experts(
        &mut self,
        path: &str,
        place: &str,
        found: usize,
        model: Option<&ModelShape>,
    ) -> Result<()> {
        let most = EXPERT_MAX + 1;
        let fits = u16::try_from(found).ok().filter(|experts| (1..=most).contains(experts));
        let expected = match (model, self.experts) {
            (Some(model), _) if fits != Some(model.experts) => {
                format!("{} as {} has", model.experts, model.name)
            }
            (None, Some(experts)) if fits != Some(experts) => format!("{experts} as before"),
            (None, None) if fits.is_none() => format!("1 to {most}"),
            _ => {
                self.experts = fits;
                return Ok(());
            }
        };
        Err(Error::invalid(path, place, format!("{found} experts"), expected))
    }

    fn add_rank(
        &mut self,
        path: &Path,
        rank: u64,
        model: Option<&ModelShape>,
        progress: &Progress,
    ) -> Result<()> {
        let name = shown(path);
        if !self.ranks.insert(rank) {
            let found = format!("rank {rank} a second time");
            return Err(Error::invalid(name, "file name", found, "each rank once"));
        }
        let bytes = read_whole(path, RANK_BYTES_MAX, progress)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| {
            Error::invalid(&name, "whole file", error.to_string(), "a whole safetensors file")
        })?;
        for key in tensor_names(&name, &bytes)? {
            let place = format!("tensor `{}`", short(&key));
            let refuse =
                |found: String, expected: &str| Error::invalid(&name, &place, found, expected);
            let tensor =
                file.tensor(&key).map_err(|error| refuse(error.to_string(), "a tensor"))?;
            let &[length] = tensor.shape() else {
                return Err(refuse(format!("shape {:?}", tensor.shape()), "[experts]"));
            };
            let Some((pass, layer)) = names::key(&key) else {
                return Err(refuse("another name".to_owned(), "a name {iteration}_{layer}"));
            };
            self.check_experts(&name, &place, length, model)?;
            if let Some(model) = model.filter(|model| model.ordinal(layer).is_none()) {
                if layer < model.hidden_layers {
                    let layers = span(&model.moe_layers);
                    let expected = format!("a MoE layer of {}: {layers}", model.name);
                    return Err(refuse(format!("layer {layer}"), &expected));
                }
                self.beyond += 1;
                continue;
            }
            let sum = self
                .sums
                .entry((pass, layer))
                .or_insert_with(|| Sum { counts: vec![0; length], ranks: 0 });
            sum.ranks += 1;
            add(&tensor, &mut sum.counts).map_err(|fault| match fault {
                Fault::Type => refuse(format!("type {:?}", tensor.dtype()), "integers"),
                Fault::Count(expert, found) => {
                    let place = format!("{place}, expert {expert}");
                    Error::invalid(&name, place, found, "a sum from 0 to 4294967295")
                }
            })?;
        }
        Ok(())
    }

    fn build(self, input: &Input<'_>) -> Result<TraceBuilder> {
        let path = shown(&input.paths[0]);
        let passes: Vec<u64> = distinct(self.sums.keys().map(|key| key.0));
        let occurring: Vec<u16> = distinct(self.sums.keys().map(|key| key.1));
        let (false, Some(experts)) = (passes.is_empty(), self.experts) else {
            return Err(Error::invalid(path, "whole recording", "no counts", "one rank's file"));
        };
        let layers = input.model.map_or_else(|| occurring.clone(), |m| m.moe_layers.clone());
        let width = usize::from(experts);
        check_padding(&path, [passes.len(), layers.len(), width], self.sums.len() * width)?;
        let (top_k, remarks) = self.remarks(input, &passes, &layers, &occurring);
        let mut header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
        header.remarks = remarks;
        let layers = header.layers.clone();
        let mut builder = TraceBuilder::new(header);
        builder.reserve_counts(passes.len());
        let nothing = vec![0; width];
        for pass in passes {
            for &layer in &layers {
                let sum = self.sums.get(&(pass, layer));
                builder.push_counts(sum.map_or(&nothing, |sum| &sum.counts));
            }
        }
        Ok(builder)
    }

    /// The top-k, and what a reader should know.
    fn remarks(
        &self,
        input: &Input<'_>,
        passes: &[u64],
        layers: &[u16],
        occurring: &[u16],
    ) -> (u16, Vec<String>) {
        let mut remarks = Vec::new();
        let top_k = match (self.meta.map(|meta| meta.num_experts_per_token), input.model) {
            (Some(k), Some(model)) if k != model.top_k => {
                let name = &model.name;
                remarks.push(format!("top-k is {k} as recorded; {name} has {}", model.top_k));
                k
            }
            (Some(k), _) => k,
            (None, Some(model)) => model.top_k,
            (None, None) => {
                remarks.push(super::steps::TOP_K_UNKNOWN.to_owned());
                1
            }
        };
        let absent = passes.len() * layers.len() - self.sums.len();
        if absent > 0 {
            remarks.push(format!(
                "{absent} (iteration, layer) pairs were not recorded and count 0; layers that \
                 were: {}",
                span(occurring)
            ));
        }
        if self.beyond > 0 {
            remarks.push(format!(
                "{} tensors of layers behind the last hidden layer (multi-token prediction) are \
                 left out",
                self.beyond
            ));
        }
        let most = self.ranks.last().map_or(0, |&last| last.saturating_add(1));
        let missing = most - self.ranks.len() as u64;
        if missing > 0 {
            let found = self.ranks.len();
            remarks.push(format!("{missing} ranks below {most} have no file: {found} were added"));
        }
        let fewer = self.sums.values().filter(|sum| sum.ranks < self.ranks.len()).count();
        if fewer > 0 {
            remarks.push(format!(
                "{fewer} (iteration, layer) pairs were recorded by fewer than {} ranks",
                self.ranks.len()
            ));
        }
        if self.meta.is_none() {
            let names: Vec<String> = input.paths.iter().map(|path| file_name(path)).collect();
            remarks.push(format!("meta_info.json is not among the files: {}", names.join(", ")));
        }
        (top_k, remarks)
    }
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Why a tensor cannot be added.
enum Fault {
    Type,
    /// The expert, and the value that is no count.
    Count(usize, String),
}

fn add(tensor: &TensorView<'_>, sums: &mut [u32]) -> std::result::Result<(), Fault> {
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::U8 => add_all(bytes, sums, |b: [u8; 1]| u8::from_le_bytes(b).into()),
        Dtype::I8 => add_all(bytes, sums, |b| i8::from_le_bytes(b).into()),
        Dtype::I16 => add_all(bytes, sums, |b| i16::from_le_bytes(b).into()),
        Dtype::U16 => add_all(bytes, sums, |b| u16::from_le_bytes(b).into()),
        Dtype::I32 => add_all(bytes, sums, |b| i32::from_le_bytes(b).into()),
        Dtype::U32 => add_all(bytes, sums, |b| u32::from_le_bytes(b).into()),
        Dtype::I64 => add_all(bytes, sums, |b| i64::from_le_bytes(b).into()),
        Dtype::U64 => add_all(bytes, sums, |b| u64::from_le_bytes(b).into()),
        _ => Err(Fault::Type),
    }
}

fn add_all<const N: usize>(
    bytes: &[u8],
    sums: &mut [u32],
    parse: impl Fn([u8; N]) -> i128,
) -> std::result::Result<(), Fault> {
    let (elements, _) = bytes.as_chunks::<N>();
    for (expert, (&element, sum)) in elements.iter().zip(sums).enumerate() {
        let value = parse(element);
        let added = u32::try_from(value).ok().and_then(|value| sum.checked_add(value));
        *sum = added.ok_or_else(|| match *sum {
            0 => Fault::Count(expert, value.to_string()),
            before => Fault::Count(expert, format!("{before} + {value}")),
        })?;
    }
    Ok(())
}

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
//! Only the tensors of one pass and layer are looked at together.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use moecast_profiles::model::ModelShape;
use serde::Deserialize;

use self::sums::{INTEGERS, Sortable, Sums};
use super::shape::{EXPERT_MAX, check_padding, model_name, span};
use super::sorter::Sorter;
use super::text::short;
use super::whole::read_whole;
use super::{Entry, Input, Progress, contains, file_name, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

mod names;
mod sums;

pub(super) const ENTRY: Entry = Entry {
    name: "trtllm-statistics",
    about: "TensorRT-LLM expert statistics: a folder with meta_info.json and rank{r}.safetensors",
    extensions: &["json", "safetensors"],
    recognise,
    read,
};

/// Largest `meta_info.json`; a real one has 50 bytes.
const META_BYTES_MAX: u64 = 1 << 16;

/// The content of `meta_info.json`.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    num_experts: u16,
    num_experts_per_token: u16,
}

/// The headers of all files; counts are read once all tensors are known.
struct Recording<'a> {
    meta: Option<Meta>,
    /// Logical experts, once any file told.
    experts: Option<u16>,
    ranks: BTreeSet<u64>,
    tensors: Sorter<'a, Sortable>,
    layers: BTreeSet<u16>,
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
    let mut recording = Recording {
        meta: None,
        experts: None,
        ranks: BTreeSet::new(),
        tensors: Sorter::new(input.spill),
        layers: BTreeSet::new(),
        beyond: 0,
    };
    for path in input.paths.iter().filter(|path| rank_of(path).is_none()) {
        recording.add_meta(path, input.model, &progress)?;
    }
    let mut files = Vec::new();
    for path in input.paths {
        if let Some(rank) = rank_of(path) {
            let file = (files.len() as u64, rank);
            files.push((recording.add_rank(path, file, &input)?, shown(path)));
        }
    }
    recording.build(&input, files, &progress)
}

impl Recording<'_> {
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

    /// Adds the tensors of one rank, by its header.
    fn add_rank(&mut self, path: &Path, file: (u64, u64), input: &Input<'_>) -> Result<File> {
        let (number, rank) = file;
        let name = shown(path);
        if !self.ranks.insert(rank) {
            let found = format!("rank {rank} a second time");
            return Err(Error::invalid(name, "file name", found, "each rank once"));
        }
        let mut header = names::Header::open(path)?;
        let (start, bytes) = (header.data_start, header.data_bytes);
        // Where tensors begin and end: they must follow each other without gaps.
        let mut extents = Sorter::new(input.spill);
        header.each_tensor(|tensor, info| {
            let place = format!("tensor `{}`", short(tensor));
            let refuse =
                |found: String, expected: &str| Err(Error::invalid(&name, &place, found, expected));
            let [begin, end] = names::extent(&info)
                .filter(|extent| extent[1] <= bytes)
                .ok_or_else(|| names::not_whole(&name, format!("{place} of {:?}", info.shape)))?;
            let &[length] = info.shape.as_slice() else {
                return refuse(format!("shape {:?}", info.shape), "[experts]");
            };
            let Some((pass, layer)) = names::key(tensor) else {
                return refuse("another name".to_owned(), "a name {iteration}_{layer}");
            };
            self.check_experts(&name, &place, length, input.model)?;
            let Some(kind) = INTEGERS.iter().position(|kind| *kind == info.dtype) else {
                return refuse(format!("type {:?}", info.dtype), "integers");
            };
            if let Some(model) = input.model.filter(|model| model.ordinal(layer).is_none()) {
                if layer < model.hidden_layers {
                    let layers = span(&model.moe_layers);
                    let expected = format!("a MoE layer of {}: {layers}", model.name);
                    return refuse(format!("layer {layer}"), &expected);
                }
                self.beyond += 1;
            } else {
                self.layers.insert(layer);
            }
            extents.push([begin, end, pass, layer.into()])?;
            self.tensors.push([pass, layer.into(), number, start + begin, kind as u64])
        })?;
        names::check_extents(&name, extents, bytes)?;
        Ok(header.into_file())
    }

    fn build(
        mut self,
        input: &Input<'_>,
        files: Vec<(File, String)>,
        progress: &Progress,
    ) -> Result<TraceBuilder> {
        let path = shown(&input.paths[0]);
        let occurring: Vec<u16> = self.layers.iter().copied().collect();
        let (false, Some(experts)) = (occurring.is_empty(), self.experts) else {
            return Err(Error::invalid(path, "whole recording", "no counts", "one rank's file"));
        };
        let layers = input.model.map_or_else(|| occurring.clone(), |m| m.moe_layers.clone());
        let tensors = std::mem::replace(&mut self.tensors, Sorter::new(None));
        let given = tensors.len() * u64::from(experts);
        let (top_k, mut remarks) = self.top_k(input);
        let header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
        let mut sums = Sums::new(files, header.clone(), progress);
        let mut builder = input.builder(header);
        let mut sorted = tensors.sorted()?;
        while let Some(tensor) = sorted.next()? {
            sums.add(&tensor, &mut builder)?;
            let cells = [sums.passes, sums.header.moe_layers() as u64, experts.into()];
            check_padding(&path, cells, given)?;
        }
        sums.end_pair();
        builder.push_counts(&sums.table);
        remarks.extend(self.remarks(input, &sums, &occurring));
        builder.header_mut().remarks = remarks;
        Ok(builder)
    }

    /// The top-k, and where it is from if that is not the recording.
    fn top_k(&self, input: &Input<'_>) -> (u16, Vec<String>) {
        match (self.meta.map(|meta| meta.num_experts_per_token), input.model) {
            (Some(k), Some(model)) if k != model.top_k => {
                let name = &model.name;
                (k, vec![format!("top-k is {k} as recorded; {name} has {}", model.top_k)])
            }
            (Some(k), _) => (k, Vec::new()),
            (None, Some(model)) => (model.top_k, Vec::new()),
            (None, None) => (1, vec![super::steps::TOP_K_UNKNOWN.to_owned()]),
        }
    }

    /// What a reader should know.
    fn remarks(&self, input: &Input<'_>, sums: &Sums<'_>, occurring: &[u16]) -> Vec<String> {
        let mut remarks = Vec::new();
        let absent = sums.passes * sums.header.moe_layers() as u64 - sums.pairs;
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
        if sums.fewer > 0 {
            remarks.push(format!(
                "{} (iteration, layer) pairs were recorded by fewer than {} ranks",
                sums.fewer,
                self.ranks.len()
            ));
        }
        if self.meta.is_none() {
            let names: Vec<String> = input.paths.iter().map(|path| file_name(path)).collect();
            remarks.push(format!("meta_info.json is not among the files: {}", names.join(", ")));
        }
        remarks
    }
}

//! Reads what SGLang's expert distribution recorder dumps in modes `stat` and `stat_approx`
//! (`expert_distribution_recorder_{time}.pt`, written against `srt/eplb/expert_distribution.py`
//! of SGLang 0.5): `{"rank": int, "logical_count": int32 [steps, L, E],
//! "average_utilization_rate_over_window": float or None}`. L counts all hidden layers; rows of
//! dense layers are zero. A file with `logical_count` alone, as ktransformers takes, is read too.
//!
//! SGLang sums over ranks before rank 0 writes, so one dump is one file; several files are summed
//! element by element and a remark says so. The recorder's buffer is circular: unused rows at its
//! end are left out with a remark, and after more passes than rows the order has been rotated,
//! which the file does not tell.
//! Refused: other keys, shapes that differ between files or from the model, tokens in a dense
//! layer, negative counts; everything that the restricted reader of `.pt` refuses.

use std::path::Path;

use super::steps::{Table, collect};
use super::torch::{Archive, Item, Key, Tensor};
use super::{Entry, Input, Progress, contains, file_name};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry {
    name: "sglang-stat",
    about: "SGLang expert distribution, modes stat and stat_approx: a .pt with logical_count",
    extensions: &["pt"],
    recognise,
    read,
};

const COUNTS: &str = "logical_count";
const RANK: &str = "rank";
const UTILIZATION: &str = "average_utilization_rate_over_window";

fn recognise(_: &Path, head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") && contains(head, COUNTS.as_bytes())
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut ranks = Vec::new();
    let mut archives = Archive::open_all(input.paths, &progress, |archive, _| {
        let (tensor, rank) = check(archive)?;
        if let Some(first) = tensors.first().filter(|first| first.shape != tensor.shape) {
            let found = format!("shape {:?}", tensor.shape);
            let expected = format!("{:?} as in the first file", first.shape);
            return Err(wrong(archive.path(), found, expected));
        }
        ranks.push(rank);
        tensors.push(tensor);
        Ok(())
    })?;
    let path = super::shown(&input.paths[0]);
    let shape = sizes(&path, &tensors[0])?;
    let table =
        Table { importer: ENTRY.name, input, path: &path, tensor: COUNTS, shape, padded: true };
    let mut sums = vec![0; shape[1] * shape[2]];
    let mut builder = collect(&table, &mut |visit| {
        progress.restart();
        let mut all = archives
            .iter_mut()
            .zip(&tensors)
            .map(|(archive, tensor)| archive.counts(tensor, COUNTS))
            .collect::<Result<Vec<_>>>()?;
        for _ in 0..shape[0] {
            sums.fill(0);
            all.iter_mut().try_for_each(|counts| counts.add_to(&mut sums))?;
            visit(&sums)?;
        }
        all.into_iter().try_for_each(super::torch::Counts::finish)
    })?;
    if input.paths.len() > 1 {
        builder.header_mut().remarks.push(summed(&input, &ranks));
    }
    Ok(builder)
}

fn summed(input: &Input<'_>, ranks: &[Option<u64>]) -> String {
    let files: Vec<String> = input
        .paths
        .iter()
        .zip(ranks)
        .map(|(path, rank)| match rank {
            Some(rank) => format!("{} (rank {rank})", file_name(path)),
            None => file_name(path),
        })
        .collect();
    format!(
        "counts of {} files were added, although SGLang writes one dump after adding all ranks: {}",
        files.len(),
        files.join(", ")
    )
}

/// The tensor of counts and the rank that wrote it.
fn check(archive: &Archive<'_>) -> Result<(Tensor, Option<u64>)> {
    let (mut tensor, mut rank) = (None, None);
    for (key, item) in archive.root().dict("root")? {
        match key {
            Key::Text(name) if **name == *COUNTS => tensor = Some(item.tensor(&place(COUNTS))?),
            Key::Text(name) if **name == *RANK => rank = Some(item.count(&place(RANK))?),
            Key::Text(name) if **name == *UTILIZATION => {
                Item::check_number_or_none(item, &place(UTILIZATION))?;
            }
            other => {
                let expected = format!("the keys {RANK}, {COUNTS}, {UTILIZATION}");
                return Err(Error::invalid(archive.path(), "root", other.found(), expected));
            }
        }
    }
    match tensor {
        Some(tensor) => Ok((tensor.clone(), rank)),
        None => Err(Error::invalid(archive.path(), "root", "no such key", place(COUNTS))),
    }
}

fn place(key: &str) -> String {
    format!("key `{key}`")
}

fn wrong(path: &str, found: String, expected: String) -> Error {
    Error::invalid(path, format!("tensor `{COUNTS}`"), found, expected)
}

fn sizes(path: &str, tensor: &Tensor) -> Result<[usize; 3]> {
    let sizes: Vec<usize> = tensor.shape.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
    <[usize; 3]>::try_from(sizes).map_err(|_| {
        wrong(path, format!("shape {:?}", tensor.shape), "[steps, layers, experts]".to_owned())
    })
}

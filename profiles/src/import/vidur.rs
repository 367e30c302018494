//! Profiles of Microsoft's Vidur: CSV files of PyTorch operators, milliseconds.
//!
//! | file | rows | becomes |
//! |---|---|---|
//! | `mlp.csv` | tokens x tensor-parallel ranks | `gemm` of the four projections of a layer |
//! | `attention.csv` | one batch each | `prefill-attention`, `decode-attention` |
//! | `all_reduce.csv` | bytes x ranks | `all-reduce` within a node |
//!
//! All ran in half precision. Medians are taken. Norms, activations, embeddings, cache writes,
//! prefill on top of a cache, and collectives across nodes are not mapped; flags count them.
//! Format: <https://github.com/microsoft/vidur> at e26eb8f, `vidur/profiling`.

mod csv;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::{Row, check, invalid, timed};
use super::text::{preset, read_text};
use super::{Entry, Options};
use crate::sample::{Family, Provenance, Samples};
use crate::{Error, Result};
use csv::{Csv, Line};

pub(super) const ENTRY: Entry = Entry {
    name: "vidur",
    about: "operators and all-reduce: CSV profiles of Vidur (a file, or a folder of one GPU's)",
    read,
};

/// What a reader of one kind of file adds: samples, and counts of what it did not map.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    unmapped: BTreeMap<String, usize>,
}

type Reader = fn(&Csv, &mut Found) -> Result<()>;

const READERS: [(&str, Reader); 3] =
    [("all_reduce.csv", all_reduce), ("attention.csv", attention), ("mlp.csv", mlp)];

/// Folders below the one that was named: `compute/h100/organisation/model`.
const DEPTH: usize = 4;

/// A folder that holds more is not one of profiles.
const FILES_MAX: usize = 10_000;

fn read(path: &Path, options: &Options) -> Result<Samples> {
    let mut files = Vec::new();
    if path.is_dir() {
        list(path, DEPTH, &mut files)?;
        files.sort();
    } else {
        files.push(path.to_path_buf());
    }
    let name = path.display().to_string();
    if files.is_empty() {
        let expected = "mlp.csv, attention.csv or all_reduce.csv";
        return Err(invalid(&name, "folder", "no profile", expected));
    }
    let mut samples = Samples::default();
    let mut systems: Vec<String> = Vec::new();
    for file in &files {
        read_file(file, &mut samples)?;
        systems.extend(system_of(file));
    }
    systems.sort();
    systems.dedup();
    if systems.len() > 1 {
        let expected = "a folder of one GPU's profiles";
        return Err(invalid(
            &name,
            "folder",
            format!("profiles of {}", systems.join(", ")),
            expected,
        ));
    }
    let system = options.system.clone().or(systems.pop()).unwrap_or_default();
    samples.provenance = Provenance {
        system: preset(&system),
        engine: "vidur".to_owned(),
        version: options.version.clone().unwrap_or_default(),
        source: "profiles of microsoft/vidur (MIT)".to_owned(),
    };
    Ok(samples)
}

fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let error = |source| Error::Read { path: folder.display().to_string(), source };
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, files)?;
            }
        } else if reader(&path).is_some() && files.len() < FILES_MAX {
            files.push(path);
        }
    }
    Ok(())
}

fn reader(path: &Path) -> Option<Reader> {
    let name = path.file_name()?.to_str()?;
    READERS.iter().find(|(known, _)| *known == name).map(|(_, read)| *read)
}

/// The folder after `compute` or `network` names the GPU.
fn system_of(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let at = parts.iter().position(|part| *part == "compute" || *part == "network")?;
    (at + 2 < parts.len()).then(|| parts[at + 1].to_owned())
}

fn read_file(path: &Path, samples: &mut Samples) -> Result<()> {
    let (text, name) = read_text(path)?;
    let Some(read) = reader(path) else {
        let expected = "mlp.csv, attention.csv or all_reduce.csv";
        return Err(invalid(&name, "file name", "another file", expected));
    };
    let csv = Csv::new(&name, &text)?;
    let mut found = Found::default();
    read(&csv, &mut found)?;
    if found.rows.is_empty() {
        return Err(invalid(&name, "rows", "none that can be mapped", "rows of one node"));
    }
    let checked = check(&name, found.rows)?;
    samples.flags.extend(checked.flags);
    for (what, count) in found.unmapped {
        samples.flags.push(format!("{name}: {count} {what} are not mapped"));
    }
    samples.samples.extend(checked.samples);
    Ok(())
}

/// `part` of `whole`, which errors call `what`.
fn share(line: &Line, whole: u64, parts: u64, what: &str) -> Result<u32> {
    let exact = parts > 0 && whole > 0 && whole.is_multiple_of(parts);
    let share = if exact { u32::try_from(whole / parts).ok() } else { None };
    share.ok_or_else(|| {
        let found = format!("{what} {whole} over {parts} ranks");
        line.invalid("shape", found, "a whole share for each rank")
    })
}

fn mlp(csv: &Csv, found: &mut Found) -> Result<()> {
    let operators: Vec<&str> = csv.operators().collect();
    let projections = ["attn_post_proj", "attn_pre_proj", "mlp_down_proj", "mlp_up_proj"];
    for line in csv.lines() {
        let line = line?;
        let ranks = line.count("num_tensor_parallel_workers")?;
        let (heads, kv_heads) = (line.count("n_head")?, line.count("n_kv_head")?);
        let (hidden, inter) = (line.count("n_embd")?, line.count("n_expanded_embd")?);
        let head_dim = u64::from(share(&line, hidden, heads, "hidden size")?);
        let matrices = if line.flag("use_gated_mlp")? { 2 } else { 1 };
        let whole = share(&line, hidden, 1, "hidden size")?;
        // Products of counts that a file claims must not wrap.
        let times = |a: u64, b: u64| a.saturating_mul(b);
        let qkv = times(heads.saturating_add(times(2, kv_heads)), head_dim);
        let shapes = [
            [whole, share(&line, hidden, ranks, "hidden size")?],
            [share(&line, qkv, ranks, "query, key and value size")?, whole],
            [whole, share(&line, inter, ranks, "intermediate size")?],
            [share(&line, times(matrices, inter), ranks, "intermediate size")?, whole],
        ];
        let tokens = line.count("num_tokens")?;
        for (operator, shape) in projections.iter().zip(shapes) {
            let time_us = line.median_us(operator)?;
            let sample = timed(Family::Gemm, "torch/float16", &shape, &[tokens], time_us);
            found.rows.push(Row { row: line.number, sample });
        }
        let others = operators.iter().filter(|operator| !projections.contains(operator));
        *found.unmapped.entry("times of other operators".to_owned()).or_default() += others.count();
    }
    Ok(())
}

fn attention(csv: &Csv, found: &mut Found) -> Result<()> {
    for line in csv.lines() {
        let line = line?;
        let ranks = line.count("num_tensor_parallel_workers")?;
        let (heads, kv_heads) = (line.count("n_q_head")?, line.count("n_kv_head")?);
        let shape = [
            share(&line, heads, ranks, "query heads")?,
            share(&line, kv_heads, ranks, "key and value heads")?,
            share(&line, line.count("n_embd")?, heads, "hidden size")?,
            0,
        ];
        let backend = line.text("attention_backend")?.to_lowercase();
        let backend = backend.rsplit('.').next().unwrap_or_default();
        let variant = format!("{backend}/float16/float16");
        let (batch, cached) = (line.count("batch_size")?, line.count("kv_cache_size")?);
        let prefill = line.flag("is_prefill")?;
        if prefill && cached > 0 {
            *found.unmapped.entry("rows of prefill on top of a cache".to_owned()).or_default() += 1;
            continue;
        }
        let (family, operator, last) = if prefill {
            (Family::PrefillAttention, "attn_prefill", line.count("prefill_chunk_size")?)
        } else {
            (Family::DecodeAttention, "attn_decode", cached.saturating_add(1))
        };
        let time_us = line.median_us(operator)?;
        let sample = timed(family, &variant, &shape, &[batch, last], time_us);
        found.rows.push(Row { row: line.number, sample });
    }
    Ok(())
}

fn all_reduce(csv: &Csv, found: &mut Found) -> Result<()> {
    for line in csv.lines() {
        let line = line?;
        let ranks = line.count("num_workers")?;
        let collective = line.text("collective")?;
        if collective != "all_reduce" || ranks > line.count("devices_per_node")? {
            *found.unmapped.entry("rows across nodes or of others".to_owned()).or_default() += 1;
            continue;
        }
        let gpus = share(&line, ranks, 1, "ranks")?;
        let time_us = line.median_us("all_reduce")?;
        let bytes = line.count("size")?;
        let sample = timed(Family::AllReduce, "nccl/float16", &[gpus], &[bytes], time_us);
        found.rows.push(Row { row: line.number, sample });
    }
    Ok(())
}

//! Reads the interchange CSV of expert counts: a header line `layer,expert,count`, then one row
//! for each absolute layer and logical expert; several files are several steps, in the order
//! given. The schema is shared by the offload tools of 2025 and 2026 and has no version.
//!
//! With a model, its MoE layers and experts rule, and an expert that is not listed counts 0.
//! Without one, the layers are those that occur and the experts reach to the largest id.
//! Refused: another header line, a (layer, expert) that occurs twice in a file, a negative or
//! fractional count, a layer or expert that the model does not have, a file without rows.

use std::path::Path;

use moecast_profiles::model::ModelShape;

use super::shape::{EXPERT_MAX, check_padding, model_name, span};
use super::text::{Lines, Row, line_error, short};
use super::{Entry, Input, Progress, shown};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

pub(super) const ENTRY: Entry = Entry {
    name: "counts-csv",
    about: "CSV layer,expert,count with absolute layer numbers; one file is one step",
    extensions: &["csv"],
    recognise,
    read,
};

const HEADER: [&str; 3] = ["layer", "expert", "count"];

/// One row of one file.
struct Count {
    layer: u16,
    expert: u16,
    count: u32,
    line: u64,
}

fn recognise(_: &Path, head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).is_ok_and(is_header)
}

fn is_header(line: &str) -> bool {
    line.split(',').map(str::trim_ascii).eq(HEADER)
}

fn read(input: Input<'_>) -> Result<TraceBuilder> {
    let progress = Progress::new(&input);
    let mut steps = Vec::new();
    for path in input.paths {
        steps.push(read_step(path, input.model, &progress)?);
    }
    build(&input, &steps)
}

/// The rows of one file, sorted by layer and expert.
fn read_step(path: &Path, model: Option<&ModelShape>, progress: &Progress) -> Result<Vec<Count>> {
    let name = shown(path);
    let mut lines = Lines::open(path, progress)?;
    match lines.next()? {
        Some((_, line)) if is_header(line) => {}
        found => {
            let found =
                found.map_or("an empty file".into(), |(_, line)| format!("`{}`", short(line)));
            return Err(line_error(&name, 1, found, "the header `layer,expert,count`"));
        }
    }
    let mut counts = Vec::new();
    while let Some((number, line)) = lines.next()? {
        counts.push(parse(Row { path: &name, number }, line, model)?);
    }
    if counts.is_empty() {
        return Err(Error::invalid(name, "whole file", "no rows", "at least one row"));
    }
    counts.sort_unstable_by_key(|count| (count.layer, count.expert, count.line));
    let same = |pair: &&[Count]| (pair[0].layer, pair[0].expert) == (pair[1].layer, pair[1].expert);
    if let Some([first, second]) = counts.windows(2).find(same) {
        let found = format!(
            "layer {}, expert {} a second time (first in line {})",
            first.layer, first.expert, first.line
        );
        return Err(line_error(&name, second.line, found, "each layer and expert once"));
    }
    Ok(counts)
}

fn parse(row: Row<'_>, line: &str, model: Option<&ModelShape>) -> Result<Count> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[layer, expert, count] = fields.as_slice() else {
        let found = format!("{} fields in `{}`", fields.len(), short(line));
        return Err(line_error(row.path, row.number, found, "3 fields: layer,expert,count"));
    };
    let last = model.map_or(EXPERT_MAX, |model| model.experts.saturating_sub(1));
    let experts = match model {
        Some(model) => format!("an expert of {}: 0 to {last}", model.name),
        None => format!("an integer from 0 to {last}"),
    };
    let counts = format!("an integer from 0 to {}", u32::MAX);
    let parsed = Count {
        layer: row.number("layer", layer, "an absolute layer number")?,
        expert: row.number("expert", expert, &experts)?,
        count: row.number("count", count, &counts)?,
        line: row.number,
    };
    if parsed.expert > last {
        let found = format!("expert `{}`", parsed.expert);
        return Err(line_error(row.path, row.number, found, experts));
    }
    if let Some(model) = model.filter(|model| model.ordinal(parsed.layer).is_none()) {
        let expected = format!("a MoE layer of {}: {}", model.name, span(&model.moe_layers));
        return Err(line_error(row.path, row.number, format!("layer {}", parsed.layer), expected));
    }
    Ok(parsed)
}

fn build(input: &Input<'_>, steps: &[Vec<Count>]) -> Result<TraceBuilder> {
    let (layers, experts, top_k) = match input.model {
        Some(model) => (model.moe_layers.clone(), model.experts, model.top_k),
        None => {
            let mut layers: Vec<u16> = steps.iter().flatten().map(|count| count.layer).collect();
            layers.sort_unstable();
            layers.dedup();
            let last = steps.iter().flatten().map(|count| count.expert).max().unwrap_or(0);
            (layers, last + 1, 1)
        }
    };
    let given = steps.iter().map(Vec::len).sum();
    let width = usize::from(experts);
    check_padding(&shown(&input.paths[0]), [steps.len(), layers.len(), width], given)?;
    let header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
    let mut step = vec![0; header.moe_layers() * width];
    let mut builder = TraceBuilder::new(header);
    builder.reserve_counts(steps.len());
    for counts in steps {
        step.fill(0);
        for count in counts {
            let layers = &builder.header_mut().layers;
            let ordinal = layers.binary_search(&count.layer).expect("every layer was collected");
            step[ordinal * width + usize::from(count.expert)] = count.count;
        }
        builder.push_counts(&step);
    }
    if input.model.is_none() {
        let remarks = &mut builder.header_mut().remarks;
        remarks.push("no model was named: layers and experts are those that occur".to_owned());
        remarks.push(super::steps::TOP_K_UNKNOWN.to_owned());
    }
    Ok(builder)
}

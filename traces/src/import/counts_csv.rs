//! Reads the interchange CSV of expert counts: a header line `layer,expert,count`, then one row
//! for each absolute layer and logical expert; several files are several steps, in the order
//! given. The schema is shared by the offload tools of 2025 and 2026 and has no version.
//!
//! With a model, its MoE layers and experts rule, and an expert that is not listed counts 0.
//! Without one, the layers are those that occur and the experts reach to the largest id.
//! Refused: another header line, a (layer, expert) that occurs twice in a file, a negative or
//! fractional count, a layer or expert that the model does not have, a file without rows.

use std::collections::BTreeSet;
use std::path::Path;

use moecast_profiles::model::ModelShape;

use super::shape::{EXPERT_MAX, check_padding, model_name, span};
use super::sorter::{Sorter, halves, whole};
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
}

/// A row as it is sorted: file, layer and expert, both halves of the line number, count.
type Sortable = [u32; 6];

/// All rows of all files.
struct Rows<'a> {
    sorter: Sorter<'a, Sortable>,
    layers: BTreeSet<u16>,
    expert_max: u16,
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
    let sorter = Sorter::new(input.spill);
    let mut rows = Rows { sorter, layers: BTreeSet::new(), expert_max: 0 };
    for (step, path) in (0..).zip(input.paths) {
        read_step(path, step, input.model, &progress, &mut rows)?;
    }
    build(&input, rows)
}

/// Adds the rows of one file.
fn read_step(
    path: &Path,
    step: u32,
    model: Option<&ModelShape>,
    progress: &Progress,
    rows: &mut Rows<'_>,
) -> Result<()> {
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
    let before = rows.sorter.len();
    while let Some((number, line)) = lines.next()? {
        let Count { layer, expert, count } = parse(Row { path: &name, number }, line, model)?;
        rows.layers.insert(layer);
        rows.expert_max = rows.expert_max.max(expert);
        let [high, low] = halves(number);
        rows.sorter.push([step, layer.into(), expert.into(), high, low, count])?;
    }
    if rows.sorter.len() == before {
        return Err(Error::invalid(name, "whole file", "no rows", "at least one row"));
    }
    Ok(())
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

fn build(input: &Input<'_>, rows: Rows<'_>) -> Result<TraceBuilder> {
    let (layers, experts, top_k) = match input.model {
        Some(model) => (model.moe_layers.clone(), model.experts, model.top_k),
        None => (rows.layers.into_iter().collect(), rows.expert_max + 1, 1),
    };
    let cells = [input.paths.len(), layers.len(), experts.into()].map(|count| count as u64);
    check_padding(&shown(&input.paths[0]), cells, rows.sorter.len())?;
    let header = Header::new(ENTRY.name, model_name(input.model), experts, top_k, layers);
    let layers = header.layers.clone();
    let mut builder = input.builder(header);
    builder.reserve_counts(input.paths.len());
    let mut table = vec![0; layers.len() * usize::from(experts)];
    let mut sorted = rows.sorter.sorted()?;
    let mut before: Option<Sortable> = None;
    while let Some(row) = sorted.next()? {
        if let Some(before) = before {
            check_distinct(input, &before, &row)?;
            if before[0] != row[0] {
                builder.push_counts(&table);
                table.fill(0);
            }
        }
        let [_, layer, expert, _, _, count] = row;
        let ordinal = layers.partition_point(|&other| u32::from(other) < layer);
        table[ordinal * usize::from(experts) + expert as usize] = count;
        before = Some(row);
    }
    builder.push_counts(&table);
    if input.model.is_none() {
        let remarks = &mut builder.header_mut().remarks;
        remarks.push("no model was named: layers and experts are those that occur".to_owned());
        remarks.push(super::steps::TOP_K_UNKNOWN.to_owned());
    }
    Ok(builder)
}

/// Two rows that follow each other in order must not be of one layer and expert of a file.
fn check_distinct(input: &Input<'_>, first: &Sortable, second: &Sortable) -> Result<()> {
    let [file, layer, expert, high, low, _] = *second;
    if first[..3] != second[..3] {
        return Ok(());
    }
    let line = whole([first[3], first[4]]);
    let found = format!("layer {layer}, expert {expert} a second time (first in line {line})");
    let path = shown(&input.paths[file as usize]);
    Err(line_error(&path, whole([high, low]), found, "each layer and expert once"))
}

//! The interchange table of the offload tools: `layer,expert,count`.
//!
//! Schema: that header, then a line for every expert of every MoE layer, in any order: absolute
//! layer number, logical expert, 1 where the expert stays in GPU memory and 0 where it does not.
//! Tools that take the experts with the largest counts take these. A plan that gives experts bits
//! writes them into a table of their own, which is not read back. Refused: another header, a field
//! that is no plain number, an expert twice, missing or unknown, a last line without its end.

use std::collections::BTreeMap;
use std::fmt::Write;

use moecast_profiles::ids::ExpertId;

use super::{Context, Entry, File, Residency, Setting, Written, rounding};
use crate::error::{Error, Result};
use crate::export::node::one_line;
use crate::export::tree::utf8;
use crate::memory::MemoryPlan;

pub(super) const ENTRY: Entry = Entry {
    name: "csv",
    about: "table of layer, expert and 1 or 0, which the offload tools exchange",
    write,
    read,
    launch,
};

const NAME: &str = "experts.csv";
const HEADER: &str = "layer,expert,count";
/// Beside it, where the plan gives experts bits.
const BITS: &str = "bits.csv";

fn write(plan: &MemoryPlan, setting: &Setting<'_>) -> Result<Written> {
    plan.check()?;
    let fixed = rounding::without_cache(plan, setting);
    let mut text = format!("{HEADER}\n");
    for (layer, row) in plan.layers.iter().zip(&fixed.rows) {
        for id in 0..plan.experts {
            let count = u8::from(row.binary_search(&ExpertId(id)).is_ok());
            writeln!(text, "{layer},{id},{count}").expect("a string grows");
        }
    }
    let mut files = vec![File { name: NAME.to_owned(), bytes: text.into_bytes() }];
    if !plan.bits.is_empty() {
        files.push(File { name: BITS.to_owned(), bytes: bits(plan).into_bytes() });
    }
    let residency = Residency { pinned: fixed.rows, cache_bytes: 0 };
    Ok(Written { files, residency, remarks: fixed.remarks })
}

/// `layer,expert,bits`, as a quantiser needs them; absolute layer numbers.
fn bits(plan: &MemoryPlan) -> String {
    let mut text = "layer,expert,bits\n".to_owned();
    for (layer, row) in plan.layers.iter().zip(&plan.bits) {
        for (expert, bits) in row.iter().enumerate() {
            writeln!(text, "{layer},{expert},{bits}").expect("a string grows");
        }
    }
    text
}

fn read(files: &[File], context: &Context<'_>) -> Result<Residency> {
    let path = &*context.path;
    let text = utf8(context.file(files, NAME)?, path)?;
    let mut lines = text.split_inclusive('\n').enumerate();
    let header = lines.next().map_or("", |(_, line)| line);
    if header.trim_end_matches(['\r', '\n']) != HEADER || !header.ends_with('\n') {
        return Err(Error::invalid(path, "line 1", format!("`{}`", one_line(header)), HEADER));
    }
    let mut counts: BTreeMap<(u16, u16), bool> = BTreeMap::new();
    for (index, line) in lines {
        let refuse = |expected: String| {
            let found = format!("`{}`", one_line(line));
            Error::invalid(path, format!("line {}", index + 1), found, expected)
        };
        let Some((layer, expert, count)) = cell(line) else {
            return Err(refuse(format!("three numbers: {HEADER}")));
        };
        if context.layers.binary_search(&layer).is_err() {
            return Err(refuse(format!("a MoE layer of {:?}", context.layers)));
        }
        if expert >= context.experts {
            return Err(refuse(format!("an expert id below {}", context.experts)));
        }
        if counts.insert((layer, expert), count > 0).is_some() {
            return Err(refuse("every expert once".to_owned()));
        }
    }
    let wanted = context.layers.len() * usize::from(context.experts);
    if counts.len() != wanted {
        let found = format!("{} experts", counts.len());
        return Err(Error::invalid(path, "the table", found, format!("all {wanted}")));
    }
    let row = |&layer: &u16| {
        let ids = counts.range((layer, 0)..=(layer, u16::MAX));
        ids.filter(|(_, kept)| **kept).map(|((_, id), _)| ExpertId(*id)).collect()
    };
    Ok(Residency { pinned: context.layers.iter().map(row).collect(), cache_bytes: 0 })
}

fn cell(line: &str) -> Option<(u16, u16, u64)> {
    let line = line.strip_suffix('\n')?;
    let fields: Vec<&str> = line.strip_suffix('\r').unwrap_or(line).split(',').collect();
    let &[layer, expert, count] = fields.as_slice() else { return None };
    // `parse` alone would take `+3`.
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let all = [layer, expert, count].iter().all(is_digits);
    Some((layer.parse().ok()?, expert.parse().ok()?, count.parse().ok()?)).filter(|_| all)
}

fn launch(plan: &MemoryPlan, _: &Written) -> String {
    let bits = if plan.bits.is_empty() {
        String::new()
    } else {
        format!("{BITS} has the bits of every expert, layer,expert,bits: for quantisers.\n")
    };
    format!(
        "{NAME} has the columns {HEADER} (absolute layer number, logical expert, 1 where it stays \
         in\nGPU memory): for tools that keep the experts with the largest counts.\n{bits}"
    )
}

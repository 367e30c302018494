//! `moecast memory export`: the files that engines load for a memory plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use moecast_planner::MemoryPlan;
use moecast_planner::memory::export::{self, Setting, tensors};
use moecast_profiles::ids::MoeLayer;
use serde_json::json;

use crate::cli::memory::Export;
use crate::facts;
use crate::files;
use crate::output::{Output, Table};

/// A longer file is no memory plan.
const PLAN_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(arguments: &Export, output: &Output) -> Result<()> {
    let shown = arguments.plan.display().to_string();
    let plan = MemoryPlan::read(&files::read_small(&arguments.plan, PLAN_BYTES_MAX)?, &shown)?;
    let loads = arguments.trace.as_deref().map(facts::trace).transpose()?.map(|source| {
        let header = source.trace.header();
        plan.check_matches(header.experts, &header.layers, &shown)?;
        let layers = 0..u16::try_from(header.moe_layers())?;
        Ok::<_, anyhow::Error>(layers.map(|l| source.trace.layer_loads(MoeLayer(l))).collect())
    });
    let loads: Option<Vec<Vec<u64>>> = loads.transpose()?;
    let preset = facts::preset_in(&plan.model).unwrap_or(&plan.model);
    let architecture = match &arguments.architecture {
        Some(name) => Some(tensors::find(name)?),
        None => tensors::of_model(preset),
    };
    let setting = Setting {
        loads: loads.as_deref().or((!plan.loads.is_empty()).then_some(&plan.loads)),
        architecture,
        gpu_bytes: arguments.gpu_memory.map(|bytes| bytes.0).or(plan.gpu_bytes),
        other_bytes: arguments.other_memory.map(|bytes| bytes.0).or(plan.other_bytes).unwrap_or(0),
    };
    let entries =
        arguments.engine.iter().map(|name| export::find(name)).collect::<Result<Vec<_>, _>>()?;
    ensure!(!entries.is_empty(), "memory export: no engine; expected --engine NAME");
    // All bytes exist before the first write.
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut named = BTreeMap::new();
    let mut remarks = BTreeMap::new();
    let mut readme = format!("Files written by moecast from {}.\n", name_of(&arguments.plan));
    for entry in entries {
        let written = (entry.write)(&plan, &setting)
            .with_context(|| format!("memory export: {}", entry.name))?;
        named.insert(entry.name, arguments.out.join(&written.files[0].name).display().to_string());
        readme += &format!("\n{}\n\n{}\n", entry.name, (entry.launch)(&plan, &written).trim());
        for remark in &written.remarks {
            readme += &format!("Note: {remark}.\n");
        }
        let out = written.files.into_iter().map(|file| (PathBuf::from(file.name), file.bytes));
        files.extend(out);
        remarks.insert(entry.name, written.remarks);
    }
    files.insert("README.txt".into(), readme.into_bytes());
    for (name, bytes) in &files {
        let path = arguments.out.join(name);
        files::apart(&path, [&arguments.plan].into_iter().chain(&arguments.trace))?;
        files::write_bytes(&path, bytes)?;
    }
    if output.json(&json!({ "model": plan.model, "files": named, "remarks": remarks }))? {
        return Ok(());
    }
    let mut table = Table::new(&["engine", "file"]);
    for (name, path) in &named {
        table.row([(*name).to_owned(), path.clone()]);
    }
    output.table(&table)?;
    for (name, remarks) in &remarks {
        let lines: Vec<String> = remarks.iter().map(|remark| format!("{name}: {remark}")).collect();
        output.remarks(&lines)?;
    }
    output.note("README.txt beside them says how each engine is started.")
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

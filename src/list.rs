//! `moecast list FAMILY`: everything that can be named on the command line.

use anyhow::Result;
use moecast_planner::{algorithms, export, memory};
use moecast_profiles::registry::{Named, unknown};
use moecast_profiles::{builtin, cost, engine, import as kernel_tables};
use moecast_reports::figures;
use moecast_sim::offload::{rule, target};
use moecast_sim::{cache, prefetch};
use moecast_traces::requests::{self, generators};
use moecast_traces::synth::{presets, recipe};
use moecast_traces::{export as trace_export, import};
use serde_json::{Value, json};

use crate::cli::List;
use crate::output::{Output, Table};

/// A family: its name, what it is, and its entries.
type Family = (&'static str, &'static str, fn() -> Vec<(&'static str, &'static str)>);

/// The family whose entries have settings.
const GENERATORS: &str = "request-generators";

/// Every family, alphabetical.
const FAMILIES: &[Family] = &[
    ("algorithms", "how a placement is found (plan --algorithm)", || rows(algorithms::ALL)),
    ("cache-policies", "who leaves a full cache of experts (trace cache --policy)", || {
        rows(cache::ALL)
    }),
    ("clusters", "machines with their links (--cluster NAME:NODES)", || rows(builtin::CLUSTERS)),
    ("compute-targets", "who computes an expert that is elsewhere (offload)", || rows(target::ALL)),
    ("costs", "how long a kernel takes (simulate --cost)", || rows(cost::ALL)),
    ("engines", "whose replica rule is simulated (simulate --engine)", || rows(engine::ALL)),
    ("exchanges", "how long tokens take to their experts and back", || rows(cost::exchange::ALL)),
    ("exporters", "files that engines load (plan --engine)", || rows(export::ALL)),
    ("figures", "what a report draws", || rows(figures::ALL)),
    ("hardware", "kinds of GPU (--cluster PRESET:NODESxGPUS)", || rows(builtin::HARDWARE)),
    ("importers", "recordings that can be read (trace import --format)", || rows(import::ALL)),
    ("kernel-tables", "timings that can be read (profile import)", || rows(kernel_tables::ALL)),
    ("knobs", "what makes a synthetic trace (trace synth --set)", || rows(recipe::KNOBS)),
    ("memory-exporters", "files that engines load (memory export --engine)", || {
        rows(memory::export::ALL)
    }),
    ("models", "model shapes (--model)", || rows(builtin::MODELS)),
    ("precision-policies", "bits of each expert (memory bits --policy)", || {
        rows(memory::bits::ALL)
    }),
    ("prefetchers", "what is copied before it is asked for (offload)", || rows(prefetch::ALL)),
    ("presets", "what a synthetic trace can be like (trace synth --like)", || rows(presets::ALL)),
    ("profiles", "measured kernels that ship with moecast (--profile)", || rows(builtin::PROFILES)),
    ("request-formats", "request traces that can be read (trace requests stats)", || {
        rows(requests::ALL)
    }),
    ("request-generators", "arrival processes (trace requests generate)", || rows(generators::ALL)),
    ("routing-rules", "what becomes of a router's choices (offload)", || rows(rule::ALL)),
    ("trace-exporters", "formats that traces are written in (trace export)", || {
        rows(trace_export::ALL)
    }),
];

fn rows<E: Named>(all: &'static [E]) -> Vec<(&'static str, &'static str)> {
    all.iter().map(|entry| (entry.name(), entry.about())).collect()
}

pub(crate) fn run(arguments: &List, output: &Output) -> Result<()> {
    let (title, entries) = match arguments.family.as_deref() {
        None => {
            ("family", FAMILIES.iter().map(|(name, about, _)| (*name, *about)).collect::<Vec<_>>())
        }
        Some(family) => {
            let found = FAMILIES.iter().find(|(name, _, _)| *name == family).ok_or_else(|| {
                let names: Vec<&str> = FAMILIES.iter().map(|(name, _, _)| *name).collect();
                unknown("family", family, &names)
            })?;
            (found.0, found.2())
        }
    };
    let object = entries
        .iter()
        .map(|(name, about)| {
            let mut entry = json!({ "name": name, "about": about });
            if title == GENERATORS {
                entry["settings"] = settings(name);
            }
            entry
        })
        .collect::<Vec<_>>();
    if output.json(&json!({ title: object }))? {
        return Ok(());
    }
    let mut table = Table::new(&[title, "about"]);
    for (name, about) in entries {
        table.row([name.to_owned(), about.to_owned()]);
    }
    output.table(&table)?;
    if title == GENERATORS {
        output.line("")?;
        output.table(&settings_table())?;
    }
    Ok(())
}

/// What the generator called `name` is set by.
fn settings(name: &str) -> Value {
    let entry = generators::ALL.iter().find(|entry| entry.name == name);
    let settings = entry.map_or(&[][..], |entry| entry.settings).iter().map(|setting| {
        json!({
            "name": setting.name,
            "about": setting.about,
            "default": setting.default,
            "min": setting.range.0,
            "max": setting.range.1,
            "whole": setting.is_count,
        })
    });
    settings.collect()
}

fn settings_table() -> Table {
    let mut table = Table::new(&["generator", "setting", "default", "about"]);
    for entry in generators::ALL {
        for setting in entry.settings {
            let default = setting.default.map_or("(needed)".to_owned(), |value| value.to_string());
            let about = setting.about.to_owned();
            table.row([entry.name.to_owned(), setting.name.to_owned(), default, about]);
        }
    }
    table
}

//! `moecast list FAMILY`: everything that can be named on the command line.

use anyhow::Result;
use moecast_planner::{algorithms, export};
use moecast_profiles::registry::{Named, unknown};
use moecast_profiles::{builtin, cost, engine};
use moecast_reports::figures;
use moecast_traces::import;
use moecast_traces::synth::{presets, recipe};
use serde_json::json;

use crate::cli::List;
use crate::output::{Output, Table};

/// A family: its name, what it is, and its entries.
type Family = (&'static str, &'static str, fn() -> Vec<(&'static str, &'static str)>);

/// Every family, alphabetical.
const FAMILIES: &[Family] = &[
    ("algorithms", "how a placement is found (plan --algorithm)", || rows(algorithms::ALL)),
    ("costs", "how long a kernel takes (simulate --cost)", || rows(cost::ALL)),
    ("engines", "whose replica rule is simulated (simulate --engine)", || rows(engine::ALL)),
    ("exporters", "files that engines load (plan --engine)", || rows(export::ALL)),
    ("figures", "what a report draws", || rows(figures::ALL)),
    ("hardware", "kinds of GPU (--cluster PRESET:NODESxGPUS)", || rows(builtin::HARDWARE)),
    ("importers", "recordings that can be read (trace import --format)", || rows(import::ALL)),
    ("knobs", "what makes a synthetic trace (trace synth --set)", || rows(recipe::KNOBS)),
    ("models", "model shapes (--model)", || rows(builtin::MODELS)),
    ("presets", "what a synthetic trace can be like (trace synth --like)", || rows(presets::ALL)),
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
        .map(|(name, about)| json!({ "name": name, "about": about }))
        .collect::<Vec<_>>();
    if output.json(&json!({ title: object }))? {
        return Ok(());
    }
    let mut table = Table::new(&[title, "about"]);
    for (name, about) in entries {
        table.row([name.to_owned(), about.to_owned()]);
    }
    output.table(&table)
}

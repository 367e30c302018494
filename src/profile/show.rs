//! `moecast profile show`: a profile, or the machine that a cluster is.

use anyhow::Result;

use super::cluster;
use crate::cli::profile::Show;
use crate::facts;
use crate::output::Output;

pub(crate) fn run(arguments: &Show, output: &Output) -> Result<()> {
    if cluster::is_meant(&arguments.profile) {
        return cluster::show(&arguments.profile, output);
    }
    let file = facts::profile(&arguments.profile)?;
    let profile = file.profile.as_ref();
    if output.wants_json() {
        output.json(&super::facts(profile))?;
        return Ok(());
    }
    let by = &profile.provenance;
    output.note(&format!("{} {} on {}, from {}\n", by.engine, by.version, by.system, by.source))?;
    output.table(&super::summary(profile))?;
    output.note(
        "\nheld out: median error on 30% of the measured points, which fit and table did not see\
         \nunseen shape: on whole models (or matrix shapes) left out; form alone: without table",
    )?;
    let flags = profile.tables().iter().flat_map(|table| {
        let name = format!("{} {}{}", table.family.name(), table.variant, table.split());
        table.flags.iter().map(move |flag| format!("{name}: {flag}"))
    });
    output.remarks(&profile.flags)?;
    output.details(flags)?;
    let constants = profile.tables().iter().map(|table| {
        let values: Vec<String> =
            table.constants().iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let name = format!("{} {}{}", table.family.name(), table.variant, table.split());
        format!("{name}: {}: {}", table.form_name(), values.join(", "))
    });
    output.details(constants)
}

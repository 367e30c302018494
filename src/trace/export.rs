//! `moecast trace export`.

use anyhow::Result;
use moecast_traces::{export, format};
use serde_json::json;

use super::describe;
use crate::cli::trace::Export;
use crate::files;
use crate::output::Output;

pub(crate) fn run(arguments: &Export, output: &Output) -> Result<()> {
    files::apart(&arguments.output, [&arguments.trace])?;
    let trace = format::read(&arguments.trace)?;
    let lost = export::check(&arguments.format, &trace, &arguments.trace.display().to_string())?;
    let path = arguments.output.display().to_string();
    files::write(&arguments.output, |file| {
        Ok(export::write(&arguments.format, &trace, &path, file)?)
    })?;
    if output.json(&json!({ "output": path, "format": arguments.format, "remarks": lost }))? {
        return Ok(());
    }
    output.line(&format!("{path}: {}", describe(&trace)))?;
    output.remarks(&lost)
}

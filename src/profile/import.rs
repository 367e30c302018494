//! `moecast profile import` and `moecast profile fit`: from samples to a profile.

use std::path::Path;

use anyhow::{Result, ensure};
use moecast_profiles::import::{self, Options};
use moecast_profiles::profile::Profile;
use moecast_profiles::sample::Samples;

use crate::cli::profile::{Fit, Import};
use crate::files;
use crate::output::Output;

pub(crate) fn run(arguments: &Import, output: &Output) -> Result<()> {
    for path in arguments.output.iter().chain(&arguments.samples) {
        files::apart(path, [&arguments.source])?;
    }
    ensure!(
        arguments.output != arguments.samples,
        "profile import: --samples and --output are one file; expected two"
    );
    let entry = import::find(&arguments.format)?;
    let options = Options {
        system: arguments.system.clone(),
        engine: arguments.engine.clone(),
        version: arguments.version.clone(),
    };
    let spinner = output.spinner("read");
    let read = (entry.read)(&arguments.source, &options);
    spinner.finish_and_clear();
    let samples = read?;
    if let Some(path) = &arguments.samples {
        super::save_samples(&samples, path)?;
    }
    match &arguments.output {
        Some(path) => write(&samples, path, output),
        None => {
            let path = arguments.samples.as_ref().expect("the command line asks for one of them");
            output.line(&format!("{}: {} samples", path.display(), samples.samples.len()))
        }
    }
}

pub(crate) fn fit(arguments: &Fit, output: &Output) -> Result<()> {
    files::apart(&arguments.output, [&arguments.samples])?;
    write(&super::samples(&arguments.samples)?, &arguments.output, output)
}

/// Fits and writes a profile, and says how good it is.
pub(super) fn write(samples: &Samples, path: &Path, output: &Output) -> Result<()> {
    let profile: Profile = super::fitted(samples, output)?;
    let bytes = profile.write();
    files::write_bytes(path, &bytes)?;
    if output.wants_json() {
        let mut answer = super::facts(&profile);
        answer["file"] = serde_json::json!(path);
        answer["bytes"] = serde_json::json!(bytes.len());
        output.json(&answer)?;
        return Ok(());
    }
    output.table(&super::summary(&profile))?;
    output.note("")?;
    output.remarks(&profile.flags)?;
    let (count, kilobytes) = (samples.samples.len(), bytes.len().div_ceil(1000));
    output.line(&format!("{}: {count} samples in {kilobytes} kB", path.display()))
}

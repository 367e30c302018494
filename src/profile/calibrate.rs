//! `moecast profile calibrate`: microbenchmarks of this machine, then a profile.
//!
//! Every sample is appended to the samples file as it is measured, so that a run that was
//! interrupted goes on where it stopped.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::measure::{self, Bench, Outcome, Plan, Progress, Stage, StopReason};
use moecast_profiles::sample::{Sample, Samples, read_samples, write_samples};

use crate::cli::profile::Calibrate;
use crate::files;
use crate::output::{Measure, Output};

pub(crate) fn run(arguments: &Calibrate, output: &Output) -> Result<()> {
    let path = arguments
        .samples
        .clone()
        .unwrap_or_else(|| arguments.output.with_extension("samples.jsonl"));
    ensure!(path != arguments.output, "profile calibrate: --samples and --output are one file");
    let mut bench = open(arguments)?;
    let plan = measure::plan_for(&bench.kind());
    output.note(&format!(
        "{}: {} points in about {:.0} s; interrupt it at will, it goes on from {}",
        bench.name(),
        plan.points.len(),
        plan.seconds_estimated(),
        path.display()
    ))?;
    let (mut file, done) = samples_file(&path, arguments.afresh, bench.as_ref(), arguments)?;
    let outcome = measure(bench.as_mut(), &plan, &done, &mut file, output)?;
    if let StopReason::Failed(error) = &outcome.stop {
        bail!("{error}; {} points are kept in {}", outcome.samples.len(), path.display());
    }
    let samples = named(outcome.to_samples(bench.as_ref()), arguments);
    super::save_samples(&samples, &path)?;
    output.note(&format!(
        "{} points measured, {} reused, {} skipped; {}\n",
        outcome.samples.len() - outcome.reused,
        outcome.reused,
        outcome.skipped.len(),
        outcome.noise
    ))?;
    super::import::write(&samples, &arguments.output, output)
}

fn open(arguments: &Calibrate) -> Result<Box<dyn Bench>> {
    if arguments.device == "cpu" {
        let options = measure::cpu::Options { threads: None, folder: arguments.storage.clone() };
        return Ok(Box::new(measure::cpu::open(options)?));
    }
    let Some(ordinal) = arguments.device.strip_prefix("cuda:") else {
        bail!("--device {}: expected cpu or cuda:NUMBER", arguments.device);
    };
    let ordinal: usize = ordinal
        .parse()
        .with_context(|| format!("--device {}: expected cuda:NUMBER", arguments.device))?;
    open_cuda(ordinal)
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<Box<dyn Bench>> {
    Ok(Box::new(measure::cuda::open(ordinal)?))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: usize) -> Result<Box<dyn Bench>> {
    bail!("--device cuda:{ordinal}: built without CUDA; expected a build with --features cuda")
}

/// The samples with the system's name as asked for.
fn named(mut samples: Samples, arguments: &Calibrate) -> Samples {
    if let Some(system) = &arguments.system {
        samples.provenance.system.clone_from(system);
    }
    samples
}

/// The samples file, positioned at its end, and what it already holds.
fn samples_file(
    path: &Path,
    afresh: bool,
    bench: &dyn Bench,
    arguments: &Calibrate,
) -> Result<(File, Vec<Sample>)> {
    let shown = path.display();
    let nothing = Outcome {
        samples: Vec::new(),
        reused: 0,
        skipped: Vec::new(),
        noise: measure::Noise::default(),
        stop: StopReason::Interrupted,
    };
    let empty = named(nothing.to_samples(bench), arguments);
    let exists = path.metadata().is_ok_and(|data| data.len() > 0);
    if afresh || !exists {
        files::write(path, |mut file| Ok(write_samples(&empty, &mut file)?))?;
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let whole = complete_lines(path)?;
    file.set_len(whole).with_context(|| shown.to_string())?;
    let found = read_samples(&mut BufReader::new(&file), &shown.to_string())?;
    ensure!(
        found.provenance == empty.provenance,
        "{shown}: samples of {}; expected those of {} (--afresh measures again)",
        found.provenance.system,
        empty.provenance.system
    );
    file.seek(SeekFrom::End(0))?;
    Ok((file, found.samples))
}

/// Bytes up to the last end of a line: a run that was killed may have left half a sample.
fn complete_lines(path: &Path) -> Result<u64> {
    let bytes = files::read_small(path, 1 << 30)?;
    Ok(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1))
}

fn measure(
    bench: &mut dyn Bench,
    plan: &Plan,
    done: &[Sample],
    file: &mut File,
    output: &Output,
) -> Result<Outcome> {
    let bar = output.progress("measure", plan.points.len() as u64, Measure::Count);
    let mut failed: Option<std::io::Error> = None;
    let mut progress = |progress: Progress| {
        bar.set_position(progress.index as u64);
        if let Stage::Measured(sample) = progress.stage {
            let one = Samples { samples: vec![sample.clone()], ..Samples::default() };
            if let Err(error) = append(&one, file) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let outcome = measure::run(bench, plan, done, &mut progress);
    bar.finish_and_clear();
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(outcome),
    }
}

/// Appends samples without their header.
fn append(samples: &Samples, file: &mut File) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    write_samples(samples, &mut bytes)?;
    let header = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.write_all(&bytes[header..])
}

//! What every rank did in the passes of a window, as a trace.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use moecast_profiles::units::Nanos;
use moecast_reports::Timeline;
use moecast_sim::forward::Mode;

use super::Ran;
use crate::files;
use crate::output::Output;

/// Writes passes of `ran` to `path` until they fill `window`; one where there is none.
pub(super) fn write(path: &Path, ran: &Ran, window: Option<Nanos>, output: &Output) -> Result<()> {
    let spinner = output.spinner("timeline");
    let (passes, full) = files::write(path, |out| {
        if path.extension().is_some_and(|ending| ending == "gz") {
            let mut packed = GzEncoder::new(out, Compression::fast());
            let passes = passes(&mut packed, ran, window)?;
            packed.finish()?;
            Ok(passes)
        } else {
            passes(out, ran, window)
        }
    })?;
    spinner.finish_and_clear();
    let rest = passes - full;
    let later = if rest > 0 {
        format!(", {rest} of them as one slice a rank, as long as the {full} in full in turn")
    } else {
        String::new()
    };
    output.line(&format!("timeline: {} ({passes} passes{later})", path.display()))
}

/// Slices that a timeline holds in full; later passes are one slice a rank.
const SLICES_MAX: usize = 500_000;

/// Passes written, and how many of them in full.
type Counts = (u32, u32);

fn passes(out: &mut dyn Write, ran: &Ran, window: Option<Nanos>) -> Result<Counts> {
    let forward = &ran.built.forward;
    let about = format!("{}: {}", ran.name, ran.built.about);
    let ranks = forward.ranks();
    let mut timeline = Timeline::new(out, ranks, &about)?;
    let (mut start, mut number, mut slices) = (Nanos(0), 0, 0);
    // Once there are slices enough, passes take as long as the ones in full did, in turn.
    let mut told: Vec<Nanos> = Vec::new();
    while number == 0 || window.is_some_and(|window| start < window) {
        if slices < SLICES_MAX {
            let (program, _) = forward.program(number);
            let passed = forward.run_program(&program, Mode::Event);
            if let Some(events) = &passed.events {
                timeline.pass(start, &program, events)?;
                slices += program.operations().len() * usize::from(ranks);
            }
            told.push(passed.time);
            start += passed.time;
        } else {
            let time = told[number as usize % told.len()];
            timeline.whole(start, start + time, ranks)?;
            start += time;
        }
        number += 1;
    }
    timeline.finish()?;
    Ok((number, told.len() as u32))
}

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
    let passes = files::write(path, |out| {
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
    output.line(&format!("timeline: {} ({passes} passes)", path.display()))
}

fn passes(out: &mut dyn Write, ran: &Ran, window: Option<Nanos>) -> Result<u32> {
    let forward = &ran.built.forward;
    let about = format!("{}: {}", ran.name, ran.built.about);
    let mut timeline = Timeline::new(out, forward.ranks(), &about)?;
    let (mut start, mut number) = (Nanos(0), 0);
    loop {
        let (program, _) = forward.program(number);
        let passed = forward.run_program(&program, Mode::Event);
        if let Some(events) = &passed.events {
            timeline.pass(start, &program, events)?;
        }
        start += passed.time;
        number += 1;
        if window.is_none_or(|window| start >= window) {
            break;
        }
    }
    timeline.finish()?;
    Ok(number)
}

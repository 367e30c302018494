//! Passes as a trace that Perfetto and `chrome://tracing` open: a process for every rank, a track
//! for each of its lanes, arrows from who was waited for, and counters of what is busy.
//!
//! Format: "Trace Event Format" of Chromium (JSON, complete events `X`, flows `s` and `f`, counters
//! `C`, metadata `M`; times in microseconds). Events are written as they come: memory does not grow
//! with their number.

use std::io::{Result, Write};

use moecast_profiles::units::{Nanos, SimTime};
use moecast_sim::lanes::events::{Events, Span};
use moecast_sim::lanes::{Lane, Operation, Program, Work};

/// Writes passes one after the other.
pub struct Timeline<W: Write> {
    out: W,
    arrows: u64,
    line: Vec<u8>,
}

impl<W: Write> Timeline<W> {
    /// Names the tracks of so many ranks.
    ///
    /// # Errors
    /// What writing says.
    pub fn new(mut out: W, ranks: u16, about: &str) -> Result<Self> {
        let about = serde_json::to_string(about).unwrap_or_default();
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"about\":{about}}},")?;
        write!(out, "\"traceEvents\":[")?;
        let mut separator = "";
        for rank in 0..ranks {
            write!(
                out,
                "{separator}\n{{\"ph\":\"M\",\"pid\":{rank},\"name\":\"process_name\",\
                 \"args\":{{\"name\":\"rank {rank}\"}}}}"
            )?;
            separator = ",";
            for lane in Lane::ALL {
                write!(
                    out,
                    ",\n{{\"ph\":\"M\",\"pid\":{rank},\"tid\":{},\"name\":\"thread_name\",\
                     \"args\":{{\"name\":\"{}\"}}}}",
                    lane as u8,
                    lane.name()
                )?;
            }
        }
        Ok(Self { out, arrows: 0, line: Vec::new() })
    }

    /// Adds a pass that began at `start` and was run as `events` of `program`.
    ///
    /// # Errors
    /// What writing says.
    pub fn pass(&mut self, start: Nanos, program: &Program, events: &Events) -> Result<()> {
        let last = Latest::of(program, events);
        let mut changes: Vec<(u64, i64, usize)> = Vec::new();
        for span in &events.spans {
            let operation = &program.operations()[span.operation as usize];
            match &operation.work {
                Work::Compute(_) => {
                    let rank = span.rank.unwrap_or(0);
                    self.slice(start, span, rank, Lane::Compute, operation)?;
                }
                Work::Transfer(transfer) => {
                    for lane in Lane::ALL.into_iter().filter(|lane| transfer.crosses(*lane)) {
                        changes.push((span.start.0, 1, lane as usize));
                        changes.push((span.end.0, -1, lane as usize));
                        for rank in 0..program.ranks() as u16 {
                            self.slice(start, span, rank, lane, operation)?;
                        }
                    }
                    self.arrows(start, program, &last, span)?;
                }
            }
        }
        changes.sort_unstable();
        for lane in [Lane::Domain, Lane::Network] {
            let mut busy = 0_i64;
            for (at, change, _) in changes.iter().filter(|(.., own)| *own == lane as usize) {
                busy += change;
                let micros = Micros(start.0 + at);
                write!(
                    self.out,
                    ",\n{{\"ph\":\"C\",\"pid\":0,\"name\":\"exchanges on {}\",\"ts\":{micros},\
                     \"args\":{{\"exchanges\":{busy}}}}}",
                    lane.name()
                )?;
            }
        }
        Ok(())
    }

    fn slice(
        &mut self,
        start: Nanos,
        span: &Span,
        rank: u16,
        lane: Lane,
        operation: &Operation,
    ) -> Result<()> {
        // A batch of two has letters, as in the papers that overlap them.
        let batch = char::from(b'A' + operation.batch.min(25));
        self.line.clear();
        write!(
            self.line,
            ",\n{{\"ph\":\"X\",\"pid\":{rank},\"tid\":{},\"ts\":{},\"dur\":{},\"name\":\"{}\",\
             \"args\":{{\"l\":{},\"b\":\"{batch}\"}}}}",
            lane as u8,
            Micros(start.0 + span.start.0),
            Micros(span.end.since(span.start).0),
            operation.kind.name(),
            operation.layer,
        )?;
        self.out.write_all(&self.line)
    }

    /// From the rank that a transfer waited for, and to the one that its end let begin last.
    fn arrows(
        &mut self,
        start: Nanos,
        program: &Program,
        last: &Latest,
        span: &Span,
    ) -> Result<()> {
        let Work::Transfer(transfer) = &program.operations()[span.operation as usize].work else {
            return Ok(());
        };
        let lane = if transfer.crosses(Lane::Network) { Lane::Network } else { Lane::Domain };
        for before in &program.operations()[span.operation as usize].after {
            let Some((rank, end)) = last.end[*before as usize] else { continue };
            let id = self.arrows;
            self.arrows += 1;
            for (phase, tid, at) in [("s", Lane::Compute, end), ("f", lane, span.start)] {
                // An arrow binds to the slice that holds its time.
                let at = if phase == "s" { at.0.saturating_sub(1) } else { at.0 };
                write!(
                    self.out,
                    ",\n{{\"ph\":\"{phase}\",\"bp\":\"e\",\"id\":{id},\"pid\":{rank},\"tid\":{},\
                     \"ts\":{},\"name\":\"waits\",\"cat\":\"waits\"}}",
                    tid as u8,
                    Micros(start.0 + at)
                )?;
            }
        }
        Ok(())
    }

    /// Adds a pass from `start` to `end` of which only that is told.
    ///
    /// # Errors
    /// What writing says.
    pub fn whole(&mut self, start: Nanos, end: Nanos, ranks: u16) -> Result<()> {
        for rank in 0..ranks {
            write!(
                self.out,
                ",\n{{\"ph\":\"X\",\"pid\":{rank},\"tid\":{},\"ts\":{},\"dur\":{},\
                 \"name\":\"pass\"}}",
                Lane::Compute as u8,
                Micros(start.0),
                Micros(end.0.saturating_sub(start.0)),
            )?;
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The rank on which every kernel ended last, and when.
struct Latest {
    end: Vec<Option<(u16, SimTime)>>,
}

impl Latest {
    fn of(program: &Program, events: &Events) -> Self {
        let mut end: Vec<Option<(u16, SimTime)>> = vec![None; program.operations().len()];
        for span in &events.spans {
            let Some(rank) = span.rank else { continue };
            let own = &mut end[span.operation as usize];
            if own.is_none_or(|(_, at)| span.end > at) {
                *own = Some((rank, span.end));
            }
        }
        Self { end }
    }
}

/// Nanoseconds as microseconds, without floats.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use moecast_sim::lanes::{Kind, Transfer, events};

    use super::*;

    /// Two ranks compute 1 and 2 us, then send for 3 us.
    fn program() -> Program {
        let mut program = Program::new(2);
        let work = Work::Compute([1_000.0, 2_000.0].into());
        let kernel =
            Operation { kind: Kind::Gate, layer: 7, batch: 1, chunk: 0, work, after: vec![] };
        let before = program.add(kernel);
        let loads = vec![(0, 1.0)];
        let transfer = Transfer { start: 0.0, busy: 3_000.0, loads, classes: [0.0, 1.0] };
        program.add(Operation {
            kind: Kind::Dispatch,
            layer: 7,
            batch: 1,
            chunk: 0,
            work: Work::Transfer(Arc::new(transfer)),
            after: vec![before],
        });
        program
    }

    #[test]
    fn a_timeline_is_json_with_a_slice_for_every_span_and_lane() {
        let program = program();
        let events = events::run(&program, 1);
        let mut timeline = Timeline::new(Vec::new(), 2, "a \"test\"").unwrap();
        timeline.pass(Nanos(10_000), &program, &events).unwrap();
        let bytes = timeline.finish().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let all = json["traceEvents"].as_array().unwrap();
        let of = |phase: &str| all.iter().filter(|one| one["ph"] == phase).collect::<Vec<_>>();
        // Two kernels, and the transfer on both ranks.
        let slices = of("X");
        assert_eq!(slices.len(), 4);
        let sent: Vec<_> = slices.iter().filter(|one| one["name"] == "dispatch").collect();
        assert_eq!((sent[0]["ts"].as_f64(), sent[0]["dur"].as_f64()), (Some(12.0), Some(3.0)));
        // The slower rank is the one that was waited for.
        let arrows = of("s");
        assert_eq!((arrows.len(), arrows[0]["pid"].as_u64()), (1, Some(1)));
        // Up and down again.
        let counts: Vec<_> = of("C").iter().map(|one| one["args"]["exchanges"].as_i64()).collect();
        assert_eq!(counts, [Some(1), Some(0)]);
        // A rank is a process with three named tracks.
        assert_eq!(of("M").len(), 2 * 4);
    }
}

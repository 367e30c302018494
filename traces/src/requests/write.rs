//! Writes requests as the JSON lines that the reader `lengths-jsonl` reads.

use std::io::Write;

use moecast_profiles::units::SimTime;

use super::load::Load;
use crate::error::{Error, Result};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Writes `load`, one line a request: with arrivals in seconds, or turn by turn and without
/// arrivals where they depend on the server. The format has no place for the header.
///
/// # Errors
/// What `into` answers; `path` is named in the error.
pub fn write_jsonl(load: &Load, path: &str, into: &mut dyn Write) -> Result<()> {
    let mut line = |input: u32, output: u32, arrival: Option<SimTime>| {
        write!(into, "{{\"input_tokens\": {input}, \"output_tokens\": {output}")?;
        if let Some(SimTime(nanos)) = arrival {
            write!(into, ", \"arrival\": {}.{:09}", nanos / SECOND, nanos % SECOND)?;
        }
        writeln!(into, "}}")
    };
    let written = match load {
        Load::Open(trace) => {
            trace.iter().try_for_each(|r| line(r.input_tokens, r.output_tokens, Some(r.arrival)))
        }
        Load::Closed(plan) => {
            plan.requests().iter().try_for_each(|r| line(r.input_tokens, r.output_tokens, None))
        }
    };
    written.map_err(|error| Error::io(path, error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use moecast_profiles::seed::Seed;

    use super::*;
    use crate::requests::generators::{Length, Lengths, generate};
    use crate::requests::{RequestTrace, read};

    fn written(load: &Load) -> RequestTrace {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let mut bytes = Vec::new();
        write_jsonl(load, "r.jsonl", &mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
        read("auto", &[path]).unwrap()
    }

    fn made(name: &str, settings: &[(&str, f64)]) -> Load {
        let values: BTreeMap<String, f64> =
            settings.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let input = Length::LogNormal { mean: 500.0, cv: 1.0 };
        let lengths = Lengths::Drawn { input, output: Length::Fixed { tokens: 7 } };
        generate(name, &values, lengths, Seed(3)).unwrap()
    }

    #[test]
    fn what_is_generated_is_read_back_to_the_nanosecond() {
        let load = made("poisson", &[("rate", 0.37), ("requests", 500.0)]);
        let Load::Open(trace) = &load else { panic!("poisson is open") };
        let back = written(&load);
        assert_eq!(back.arrivals(), trace.arrivals());
        assert_eq!(back.input_tokens(), trace.input_tokens());
        assert_eq!(back.output_tokens(), trace.output_tokens());
    }

    #[test]
    fn clients_without_times_arrive_at_once() {
        let back = written(&made("closed-loop", &[("clients", 3.0), ("requests-per-client", 2.0)]));
        assert_eq!((back.count(), back.duration().0), (6, 0));
        assert!(back.header().remarks[0].contains("no arrivals"), "{:?}", back.header().remarks);
    }
}

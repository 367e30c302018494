//! The processor of this machine: copies of its memory, experts on its cores, its storage.
//!
//! Times are wall time between two barriers of the threads at work. The weights of an expert
//! come from a store larger than twice the last-level cache, a different part of it each time,
//! so that they are read from memory. What other programs do meanwhile is measured too: look at
//! the spreads.

mod copy;
mod expert;
mod kernel;
mod storage;
mod system;
mod threads;
mod vector;

use std::path::PathBuf;

use super::{Bench, Kind, Point, TimingError};
use crate::Result;
use crate::sample::Family;

use kernel::Instructions;

/// What to measure with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Threads that may work at once; `None` is as many as this process may run.
    pub threads: Option<u32>,
    /// Where to create the file (at most 1 GiB and a quarter of the free space) that the storage
    /// benchmark reads, and removes afterwards; `None` leaves storage out.
    pub folder: Option<PathBuf>,
}

/// The processor.
pub struct Cpu {
    options: Options,
    threads: u32,
    instructions: Instructions,
    facts: system::Facts,
    weights: expert::Store,
    file: Option<storage::TestFile>,
    flags: Vec<String>,
}

/// Gets the processor ready; nothing is timed or written yet.
///
/// # Errors
/// [`Error::Measure`](crate::Error::Measure) when the folder is not one.
pub fn open(options: Options) -> Result<Cpu> {
    if let Some(folder) = options.folder.as_ref().filter(|folder| !folder.is_dir()) {
        let found = format!("{} is no folder", folder.display());
        return Err(crate::Error::Measure { what: "storage".to_owned(), found });
    }
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let available = u32::try_from(available).unwrap_or(u32::MAX);
    let threads = options.threads.unwrap_or(available).max(1);
    let mut flags: Vec<String> = system::busy().into_iter().collect();
    if threads > available {
        flags.push(format!("{threads} threads shared {available} cores"));
    }
    Ok(Cpu {
        options,
        threads,
        instructions: Instructions::detect(),
        facts: system::Facts::read(available),
        weights: expert::Store::default(),
        file: None,
        flags,
    })
}

impl Bench for Cpu {
    fn name(&self) -> String {
        self.facts.name.clone()
    }

    fn kind(&self) -> Kind {
        Kind::Cpu {
            threads: self.threads,
            instructions: self.instructions.name().to_owned(),
            storage: self.options.folder.is_some(),
        }
    }

    fn time(&mut self, point: &Point, repeats: u32) -> std::result::Result<Vec<f64>, TimingError> {
        match point.family {
            Family::CpuExpert => self.time_expert(point, repeats),
            Family::DeviceCopy => {
                let bytes = to_usize(point.at[0])? / self.threads as usize;
                copy::time(bytes, self.threads, repeats, &self.facts)
            }
            Family::HostCopy => {
                copy::time(to_usize(point.at[0])?, point.shape[0], repeats, &self.facts)
            }
            Family::StorageRead => self.time_read(point, repeats),
            family => Err(unsupported(format!("no {} on a processor", family.name()))),
        }
    }

    fn flags(&self) -> Vec<String> {
        self.flags.clone()
    }
}

impl Cpu {
    fn time_expert(
        &mut self,
        point: &Point,
        repeats: u32,
    ) -> std::result::Result<Vec<f64>, TimingError> {
        let (weights, instructions) = point.variant.split_once('/').unwrap_or_default();
        let instructions = Instructions::find(instructions).ok_or_else(|| {
            unsupported(format!("this processor has no instruction set `{instructions}`"))
        })?;
        if point.shape.contains(&0) || point.at.contains(&0) {
            return Err(unsupported("nothing to compute".to_owned()));
        }
        let job = expert::Job {
            threads: point.shape[0] as usize,
            hidden: point.shape[1] as usize,
            inter: point.shape[2] as usize,
            rows: to_usize(point.at[0])?,
            repeats,
            instructions,
        };
        self.weights.time(weights, &job, &self.facts)
    }

    fn time_read(
        &mut self,
        point: &Point,
        repeats: u32,
    ) -> std::result::Result<Vec<f64>, TimingError> {
        let Some(folder) = &self.options.folder else {
            return Err(unsupported("no folder was named".to_owned()));
        };
        if self.file.is_none() {
            let file = storage::TestFile::create(folder)?;
            self.flags.extend(file.flag());
            self.file = Some(file);
        }
        let Some(file) = &self.file else {
            return Err(unsupported("there is no file to read".to_owned()));
        };
        file.time(&point.variant, point.shape[0], to_usize(point.at[0])?, repeats)
    }
}

fn unsupported(why: String) -> TimingError {
    TimingError::Unsupported(why)
}

fn to_usize(value: u64) -> std::result::Result<usize, TimingError> {
    usize::try_from(value).map_err(|_| unsupported(format!("{value} is too large here")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::measure::plan_for;

    fn point(family: Family, variant: &str, shape: &[u32], at: &[u64]) -> Point {
        Point { family, variant: variant.to_owned(), shape: shape.to_vec(), at: at.to_vec() }
    }

    #[test]
    fn every_family_of_the_plan_gives_times() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { threads: Some(2), folder: Some(folder.path().to_owned()) };
        let mut bench = open(options).unwrap();
        bench.facts.cache_bytes = 1 << 16;
        bench.file = Some(storage::TestFile::of_size(folder.path(), 1 << 20).unwrap());
        let instructions = bench.instructions.name();
        let expert = format!("int8/{instructions}");
        for point in [
            point(Family::CpuExpert, &expert, &[2, 64, 48], &[3]),
            point(Family::DeviceCopy, "host", &[], &[1 << 16]),
            point(Family::HostCopy, "host/to-host", &[2], &[1 << 16]),
            point(Family::StorageRead, "sequential", &[1], &[1 << 16]),
            point(Family::StorageRead, "random", &[2], &[1 << 16]),
        ] {
            let times = bench.time(&point, 3).unwrap();
            assert!(times.len() >= 3, "{point}");
            assert!(times.iter().all(|time| time.is_finite() && *time > 0.0), "{point}");
        }
        drop(bench);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_processor_cannot_do_is_unsupported() {
        let mut bench = open(Options::default()).unwrap();
        for point in [
            point(Family::Launch, "graph", &[], &[1]),
            point(Family::CpuExpert, "f32/abacus", &[1, 64, 64], &[1]),
            point(Family::CpuExpert, "f32/portable", &[0, 64, 64], &[1]),
            point(Family::CpuExpert, "f7/portable", &[1, 64, 64], &[1]),
            point(Family::StorageRead, "random", &[1], &[4096]),
        ] {
            let answer = bench.time(&point, 1);
            assert!(matches!(answer, Err(TimingError::Unsupported(_))), "{point}");
        }
    }

    #[test]
    fn the_plan_is_for_this_processor() {
        let bench = open(Options { threads: Some(3), folder: None }).unwrap();
        let plan = plan_for(&bench.kind());
        assert!(plan.points.iter().any(|point| point.shape.first() == Some(&3)));
        assert!(bench.name().len() > 2);
    }

    #[test]
    fn a_folder_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap().path().join("gone");
        let answer = open(Options { threads: None, folder: Some(folder) });
        assert!(matches!(answer, Err(Error::Measure { .. })));
    }
}

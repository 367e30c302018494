//! Sorts rows that may be more than memory should hold: sorted runs are spilled to one temporary
//! file and merged. What an importer needs whose input is not in the order of a trace.
//!
//! A row is an array of numbers, the first of which are its key: rows are ordered as arrays are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytemuck::Pod;

use crate::error::Result;
use crate::spill::{Pile, Spill};

/// Rows that are read of one run at a time.
const RUN_ROWS: u64 = 4096;

/// Takes rows in any order.
pub(super) struct Sorter<'a, T> {
    spill: Option<&'a Spill>,
    held: Vec<T>,
    runs: Pile<T>,
    /// The first row behind each run.
    ends: Vec<u64>,
}

impl<'a, T: Pod + Ord> Sorter<'a, T> {
    pub(super) fn new(spill: Option<&'a Spill>) -> Self {
        Self { spill, held: Vec::new(), runs: Pile::default(), ends: Vec::new() }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> u64 {
        self.runs.len() + self.held.len() as u64
    }

    pub(super) fn push(&mut self, row: T) -> Result<()> {
        self.held.push(row);
        match self.spill {
            Some(spill) if self.held.len() * size_of::<T>() > spill.budget_bytes => {
                self.held.sort_unstable();
                self.runs.extend_from_slice(&self.held);
                self.held.clear();
                self.ends.push(self.runs.len());
                self.runs.spill(&spill.folder)
            }
            _ => Ok(()),
        }
    }

    /// The rows in order.
    pub(super) fn sorted(mut self) -> Result<Sorted<T>> {
        self.held.sort_unstable();
        let mut runs = Vec::new();
        let mut at = 0;
        for end in self.ends {
            runs.push(Run { at, end, rows: Vec::new() });
            at = end;
        }
        runs.push(Run { at, end: at, rows: self.held });
        runs.iter_mut().for_each(|run| run.rows.reverse());
        let mut sorted = Sorted { pile: self.runs, runs, next: BinaryHeap::new() };
        for run in 0..sorted.runs.len() {
            let first = sorted.take(run)?;
            sorted.next.extend(first.map(|row| Reverse((row, run))));
        }
        Ok(sorted)
    }
}

/// A sorted part of the rows.
struct Run<T> {
    /// Rows of the pile that were not read yet.
    at: u64,
    end: u64,
    /// Rows in memory, the next one last.
    rows: Vec<T>,
}

/// All rows in order.
pub(super) struct Sorted<T> {
    pile: Pile<T>,
    runs: Vec<Run<T>>,
    /// The next row of every run that has one.
    next: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Pod + Ord> Sorted<T> {
    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<T>> {
        let Some(&Reverse((row, run))) = self.next.peek() else { return Ok(None) };
        match self.take(run)? {
            // Put in the place of the row before: half the work of taking one out and one in.
            Some(behind) => {
                *self.next.peek_mut().expect("looked at above") = Reverse((behind, run));
            }
            None => {
                self.next.pop();
            }
        }
        Ok(Some(row))
    }

    /// The next row of one run.
    fn take(&mut self, run: usize) -> Result<Option<T>> {
        let run = &mut self.runs[run];
        if run.rows.is_empty() && run.at < run.end {
            let count = (run.end - run.at).min(RUN_ROWS);
            run.rows.resize(usize::try_from(count).expect("a few rows"), T::zeroed());
            self.pile.read(run.at, &mut run.rows)?;
            run.rows.reverse();
            run.at += count;
        }
        Ok(run.rows.pop())
    }
}

/// A 64-bit number as the part of a row.
pub(super) fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

/// The number of which these are the [`halves`].
pub(super) fn whole([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_sorted_wherever_they_lie(
            rows in prop::collection::vec([0..9_u32, 0..9_u32], 0..60),
            budget_bytes in 0..200_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let spill = Spill { folder: folder.path().to_owned(), budget_bytes };
            let mut expected = rows.clone();
            expected.sort_unstable();
            for spill in [None, Some(&spill)] {
                let mut sorter = Sorter::new(spill);
                rows.iter().try_for_each(|&row| sorter.push(row)).unwrap();
                prop_assert_eq!(sorter.len(), rows.len() as u64);
                let mut sorted = sorter.sorted().unwrap();
                let found: Vec<[u32; 2]> =
                    std::iter::from_fn(|| sorted.next().unwrap()).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}

//! The search: one axis after another, each value tried on few requests, the better ones on all;
//! until no axis improves, or as many simulations are spent as were allowed.

use anyhow::Result;
use moecast_sim::offload::Summary;
use rayon::prelude::*;

use super::base::{Base, Part};
use super::candidate::{Axes, Candidate};

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// No change of one axis is faster.
    LocalOptimum,
    /// As many simulations as were allowed.
    SimulationBudget,
    /// Every expert fits, so that there is nothing to search for.
    EverythingFits,
}

impl StopReason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LocalOptimum => "local optimum",
            Self::SimulationBudget => "simulation budget",
            Self::EverythingFits => "everything fits",
        }
    }
}

/// Simulates, and counts.
pub(super) struct Judge<'a> {
    pub(super) base: &'a Base,
    pub(super) simulations: usize,
}

/// What ran.
pub(super) struct Ran {
    pub(super) summary: Summary,
    /// Bytes of experts in GPU memory.
    pub(super) expert_bytes: u64,
    pub(super) stall: f64,
}

fn ran(base: &Base, of: Candidate, part: &Part, bytes: u64, requests: usize) -> Result<Ran> {
    let run = of.build(base, part, bytes, requests)?.run()?;
    let summary = run.summary();
    let stall: u64 = run.passes.iter().map(|pass| pass.stall.0).sum();
    let time: u64 = run.passes.iter().map(|pass| pass.end.0 - pass.start.0).sum();
    let stall = if time == 0 { 0.0 } else { (stall as f64 / time as f64).min(1.0) };
    Ok(Ran { expert_bytes: summary.expert_bytes_max, summary, stall })
}

impl Judge<'_> {
    /// Generated tokens a second of each, fitted on one half of the training part and served the
    /// first `requests` of the other.
    fn tried(
        &mut self,
        candidates: &[Candidate],
        capacity: u64,
        requests: usize,
    ) -> Result<Vec<f64>> {
        self.simulations += candidates.len();
        let base = self.base;
        let rate = |&of: &Candidate| {
            let ran = ran(base, of, &base.search, capacity, requests)?;
            Ok(ran.summary.decode_tokens_per_second)
        };
        candidates.par_iter().map(rate).collect()
    }

    /// The same on the whole other half.
    pub(super) fn train(&mut self, candidates: &[Candidate], capacity: u64) -> Result<Vec<f64>> {
        self.tried(candidates, capacity, self.base.search.requests)
    }

    /// On what the search did not see.
    pub(super) fn heldout(&mut self, candidates: &[Candidate], capacity: u64) -> Result<Vec<Ran>> {
        self.simulations += candidates.len();
        let base = self.base;
        let requests = base.judge.requests;
        let run = |&of: &Candidate| ran(base, of, &base.judge, capacity, requests);
        candidates.par_iter().map(run).collect()
    }
}

/// What a search found: candidates by tokens a second of the training part, best first.
pub(super) struct Found {
    pub(super) ranked: Vec<(Candidate, f64)>,
    pub(super) stop: StopReason,
}

/// Candidates that were tried, with what they gave.
#[derive(Default)]
struct Known(Vec<(Candidate, f64)>);

impl Known {
    fn of(&self, candidate: Candidate) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == candidate).map(|(_, rate)| *rate)
    }
}

/// A search under way.
struct Search<'j, 'b> {
    judge: &'j mut Judge<'b>,
    capacity: u64,
    /// Simulations that are left.
    left: usize,
    few: usize,
    short: Known,
    full: Known,
}

/// The best ways to use `capacity` bytes, by at most `budget` simulations.
pub(super) fn search(
    judge: &mut Judge<'_>,
    axes: &Axes,
    capacity: u64,
    budget: usize,
) -> Result<Found> {
    if capacity >= judge.base.experts {
        let rate = judge.train(&[axes.resident()], capacity)?[0];
        let ranked = vec![(axes.resident(), rate)];
        return Ok(Found { ranked, stop: StopReason::EverythingFits });
    }
    let requests = judge.base.search.requests;
    let few = requests.div_ceil(4).max(judge.base.file.load.batch.min(requests));
    let (short, full) = (Known::default(), Known::default());
    let mut search = Search { judge, capacity, left: budget.max(1), few, short, full };
    let stop = search.run(axes)?;
    let mut ranked = search.full.0;
    // A stable sort: of equals the one that was tried first, which is the plainer.
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    // What makes no difference is no other plan.
    ranked.dedup_by(|later, earlier| later.1.total_cmp(&earlier.1).is_eq());
    Ok(Found { ranked, stop })
}

impl Search<'_, '_> {
    fn run(&mut self, axes: &Axes) -> Result<StopReason> {
        let mut best = axes.start();
        self.serve_all(&[best])?;
        loop {
            let before = best;
            for axis in 0..Axes::COUNT {
                let others = axes.along(axis, best);
                let others: Vec<Candidate> =
                    others.into_iter().filter(|own| self.full.of(*own).is_none()).collect();
                let others = self.halve(others)?;
                self.serve_all(&others)?;
                best = self.best();
                if self.left == 0 {
                    return Ok(StopReason::SimulationBudget);
                }
            }
            if best == before {
                return Ok(StopReason::LocalOptimum);
            }
        }
    }

    /// The better third of `candidates` on a few requests, at least two.
    fn halve(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
        if candidates.len() <= 2 || self.few >= self.judge.base.search.requests {
            return Ok(candidates);
        }
        let mut new: Vec<Candidate> =
            candidates.iter().copied().filter(|own| self.short.of(*own).is_none()).collect();
        new.truncate(self.left);
        let rates = self.judge.tried(&new, self.capacity, self.few)?;
        self.left -= new.len();
        self.short.0.extend(new.into_iter().zip(rates));
        let rate = |own: &Candidate| self.short.of(*own).unwrap_or(0.0);
        let mut order = candidates;
        order.sort_by(|left, right| rate(right).total_cmp(&rate(left)));
        order.truncate(order.len().div_ceil(3).max(2));
        Ok(order)
    }

    fn serve_all(&mut self, candidates: &[Candidate]) -> Result<()> {
        let candidates = &candidates[..candidates.len().min(self.left)];
        let rates = self.judge.train(candidates, self.capacity)?;
        self.left -= candidates.len();
        self.full.0.extend(candidates.iter().copied().zip(rates));
        Ok(())
    }

    /// The fastest; of equals the one that was tried first.
    fn best(&self) -> Candidate {
        let mut best = self.full.0[0];
        for own in &self.full.0 {
            if own.1 > best.1 {
                best = *own;
            }
        }
        best.0
    }
}

//! Both questions: what a memory gives, and what memory a speed needs; each with the curve.

use anyhow::{Context, Result, bail, ensure};
use moecast_profiles::units::Bytes;

use super::base::Base;
use super::candidate::{Axes, Candidate, Pool};
use super::search::{Judge, Ran, StopReason, search};
use crate::cli::memory::plan::Plan;

/// Points of a curve that nobody asked for by size.
const POINTS: u64 = 12;

/// Ways to use a memory that a curve chooses from at every size.
const KEPT: usize = 4;

/// A way to use a memory of one size, judged.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) candidate: Candidate,
    /// Of one GPU.
    pub(super) memory: u64,
    /// For experts, of all GPUs.
    pub(super) capacity: u64,
    /// Tokens a second on the half of the training part that it was not fitted on.
    pub(super) train: f64,
    pub(super) heldout: Ran,
}

impl Row {
    pub(super) fn rate(&self) -> f64 {
        self.heldout.summary.decode_tokens_per_second
    }
}

/// Everything that was found.
pub(super) struct Answer {
    /// Ranked by held-out speed, for each memory that was asked about.
    pub(super) plans: Vec<Row>,
    pub(super) baselines: Vec<Row>,
    /// By memory.
    pub(super) curve: Vec<Row>,
    /// The smallest memory that reaches the speed that was asked for.
    pub(super) reached: Option<u64>,
    /// The most that any memory gives: everything resident.
    pub(super) ceiling: f64,
    pub(super) stops: Vec<StopReason>,
    pub(super) simulations: usize,
}

/// The question under work.
struct Asked<'a> {
    base: &'a Base,
    judge: Judge<'a>,
    axes: Axes,
    top: usize,
    budget: usize,
    stops: Vec<StopReason>,
    /// Kept for the curve.
    pool: Vec<Candidate>,
}

pub(super) fn answer(base: &Base, arguments: &Plan) -> Result<Answer> {
    let budget = arguments.simulations as usize;
    let asked = Asked {
        base,
        judge: Judge { base, simulations: 0 },
        axes: axes(base, arguments)?,
        top: arguments.top.into(),
        budget,
        stops: Vec::new(),
        pool: Vec::new(),
    };
    match arguments.tokens_per_second {
        Some(wanted) => {
            let right = wanted > 0.0 && wanted.is_finite();
            ensure!(right, "--tokens-per-second: {wanted}; expected more than 0");
            asked.speed(wanted)
        }
        None => {
            let mut sizes: Vec<u64> = arguments.memory.iter().map(|bytes| bytes.0).collect();
            if sizes.is_empty() {
                sizes.push(base.device_memory.context("--memory: missing; expected a size")?);
            }
            sizes.sort_unstable();
            sizes.dedup();
            asked.sizes(&sizes)
        }
    }
}

fn axes(base: &Base, arguments: &Plan) -> Result<Axes> {
    let has_processor = base.file.machine.processor.is_some();
    match arguments.engine {
        Some(_) if !has_processor => bail!(
            "--engine: no processor, which computes what is missing; expected --cpu-bandwidth and \
             --cpu-flops"
        ),
        Some(engine) => Ok(Axes::of_engine(engine)),
        None => Ok(Axes::new(has_processor, arguments.assume_predictor)),
    }
}

impl Asked<'_> {
    /// What `sizes` give.
    fn sizes(mut self, sizes: &[u64]) -> Result<Answer> {
        let capacities: Vec<u64> =
            sizes.iter().map(|&memory| self.base.capacity(memory)).collect::<Result<_>>()?;
        let mut plans = Vec::new();
        let mut baselines = Vec::new();
        for (&memory, &capacity) in sizes.iter().zip(&capacities) {
            let budget = self.budget / sizes.len();
            let found = search(&mut self.judge, &self.axes, capacity, budget)?;
            self.stops.push(found.stop);
            self.keep(&found.ranked, KEPT.div_ceil(sizes.len()));
            let few: Vec<(Candidate, f64)> = found.ranked.into_iter().take(self.top).collect();
            plans.extend(self.judged(&few, memory, capacity)?);
            baselines.extend(self.baselines(memory, capacity)?);
        }
        let mut points = sizes.to_vec();
        if let [only] = sizes {
            let even = self.grid(9);
            points.extend(even.into_iter().filter(|memory| memory.abs_diff(*only) > only / 50));
            points.sort_unstable();
        }
        let curve = points.iter().map(|&memory| self.point(memory, &plans)).collect::<Result<_>>();
        let (curve, ceiling) = (curve?, self.ceiling()?);
        self.end(plans, baselines, curve, None, ceiling)
    }

    /// What `wanted` tokens a second need.
    fn speed(mut self, wanted: f64) -> Result<Answer> {
        let ceiling = self.ceiling()?;
        for quarter in 1..4 {
            let capacity = self.base.experts / 4 * quarter;
            let found = search(&mut self.judge, &self.axes, capacity, self.budget / 3)?;
            self.stops.push(found.stop);
            self.keep(&found.ranked, 1);
        }
        let mut curve: Vec<Row> = Vec::new();
        for memory in self.grid(POINTS) {
            curve.push(self.point(memory, &[])?);
        }
        let place = curve.iter().position(|row| row.rate() >= wanted);
        let reached = match place {
            None => None,
            Some(0) => Some(curve[0].memory),
            Some(place) => Some(self.bisect(wanted, &mut curve, place)?),
        };
        let (mut plans, mut baselines) = (Vec::new(), Vec::new());
        if let Some(memory) = reached {
            let capacity = self.base.capacity(memory)?;
            let pool = self.pool_at(capacity);
            let train = self.judge.train(&pool, capacity)?;
            let few: Vec<(Candidate, f64)> = pool.into_iter().zip(train).collect();
            plans = self.judged(&few, memory, capacity)?;
            plans.truncate(self.top);
            baselines = self.baselines(memory, capacity)?;
        }
        self.end(plans, baselines, curve, reached, ceiling)
    }

    fn end(
        self,
        plans: Vec<Row>,
        baselines: Vec<Row>,
        curve: Vec<Row>,
        reached: Option<u64>,
        ceiling: f64,
    ) -> Result<Answer> {
        let (stops, simulations) = (self.stops, self.judge.simulations);
        Ok(Answer { plans, baselines, curve, reached, ceiling, stops, simulations })
    }

    /// Halves between the size before `place`, which is too small, and that at `place`, down to a
    /// part in 32 of their distance; what was looked at joins the curve.
    fn bisect(&mut self, wanted: f64, curve: &mut Vec<Row>, place: usize) -> Result<u64> {
        let (mut low, mut high) = (curve[place - 1].memory, curve[place].memory);
        let step = ((high - low) / 32).max(1 << 20);
        while high - low > step {
            let middle = (low + (high - low) / 2) >> 20 << 20;
            if middle <= low {
                break;
            }
            let row = self.point(middle, &[])?;
            if row.rate() >= wanted {
                high = middle;
            } else {
                low = middle;
            }
            curve.push(row);
        }
        curve.sort_by_key(|row| row.memory);
        Ok(high)
    }

    /// `count` sizes from one layer's experts of one token to all experts.
    fn grid(&self, count: u64) -> Vec<u64> {
        let (least, all) = (self.base.least.min(self.base.experts), self.base.experts);
        let at = |index: u64| least + (all - least) / (count - 1) * index;
        let mut sizes: Vec<u64> = (0..count - 1).map(|index| self.base.memory(at(index))).collect();
        sizes.push(self.base.memory(all));
        sizes
    }

    fn keep(&mut self, ranked: &[(Candidate, f64)], most: usize) {
        for (candidate, _) in ranked.iter().take(most) {
            if !self.pool.contains(candidate) {
                self.pool.push(*candidate);
            }
        }
    }

    /// Who may be best with `capacity`.
    fn pool_at(&self, capacity: u64) -> Vec<Candidate> {
        if capacity >= self.base.experts {
            return vec![self.axes.resident()];
        }
        let mut pool = self.pool.clone();
        // Where little fits the plain ones may win, and what a search at another size found not.
        for plain in [self.axes.resident(), self.axes.start()] {
            if !pool.contains(&plain) {
                pool.push(plain);
            }
        }
        pool
    }

    /// The best of the pool with `memory`, chosen on the training part.
    fn point(&mut self, memory: u64, plans: &[Row]) -> Result<Row> {
        let capacity = self.base.capacity(memory)?;
        let mut pool = self.pool_at(capacity);
        let here = plans.iter().filter(|own| own.memory == memory);
        // The first of equals is the plainer.
        if let Some(own) = here.reduce(|best, own| if own.train > best.train { own } else { best })
        {
            pool = vec![own.candidate];
        }
        let rates = self.judge.train(&pool, capacity)?;
        let mut best = 0;
        for (index, rate) in rates.iter().enumerate() {
            if *rate > rates[best] {
                best = index;
            }
        }
        let few = [(pool[best], rates[best])];
        Ok(self.judged(&few, memory, capacity)?.remove(0))
    }

    fn judged(&mut self, few: &[(Candidate, f64)], memory: u64, capacity: u64) -> Result<Vec<Row>> {
        let candidates: Vec<Candidate> = few.iter().map(|(own, _)| *own).collect();
        let ran = self.judge.heldout(&candidates, capacity)?;
        let row = |(heldout, (candidate, train)): (Ran, &(Candidate, f64))| Row {
            name: "plan",
            candidate: *candidate,
            memory,
            capacity,
            train: *train,
            heldout,
        };
        let mut rows: Vec<Row> = ran.into_iter().zip(few).map(row).collect();
        rows.sort_by(|left, right| right.rate().total_cmp(&left.rate()));
        Ok(rows)
    }

    /// What engines do without a plan.
    fn baselines(&mut self, memory: u64, capacity: u64) -> Result<Vec<Row>> {
        let has_processor = self.base.file.machine.processor.is_some();
        let compute = if has_processor { "cpu" } else { "gpu" };
        let layers = Candidate { pool: Pool::WholeLayers, compute, ..Candidate::STATIC };
        let named =
            [("LRU", Candidate::LRU), ("static", Candidate::STATIC), ("whole layers", layers)];
        let candidates = named.map(|(_, candidate)| candidate);
        let train = self.judge.train(&candidates, capacity)?;
        let heldout = self.judge.heldout(&candidates, capacity)?;
        let rows = named.into_iter().zip(train).zip(heldout);
        Ok(rows
            .map(|(((name, candidate), train), heldout)| Row {
                name,
                candidate,
                memory,
                capacity,
                train,
                heldout,
            })
            .collect())
    }

    fn ceiling(&mut self) -> Result<f64> {
        let ran = self.judge.heldout(&[self.axes.resident()], self.base.experts)?;
        Ok(ran[0].summary.decode_tokens_per_second)
    }
}

/// A size in words that are easily compared.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", Bytes(bytes).0 as f64 / f64::from(1 << 30))
}

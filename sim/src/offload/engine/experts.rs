//! The experts of one layer: found, copied, computed.

use moecast_profiles::units::{Nanos, SimTime};

use super::{Engine, Timing};
use crate::offload::machine::Beside;
use crate::offload::memory::Place;
use crate::offload::simulate::seconds;
use crate::offload::target::{Asked, At, By, Work};

/// Matrices of an expert: gate, up and down projections.
const MATRICES: u64 = 3;

/// What one rank is asked for.
#[derive(Default)]
struct Share {
    own: Vec<Asked>,
    versions: Vec<u8>,
    /// Of everything that is asked for: the place in `own`.
    place: Vec<Option<usize>>,
}

impl Engine<'_> {
    /// Finds, copies and computes what is asked for. Returns when the last expert is done.
    pub(super) fn experts(&mut self, layer: usize, timing: &Timing) -> SimTime {
        let shape = &self.setup.shape;
        let asked = std::mem::take(&mut self.picks.asked);
        let units: Vec<u32> = asked
            .iter()
            .flat_map(|&(expert, version, ..)| shape.parts(layer, expert, version))
            .collect();
        self.memory.begin(layer, &units);
        let mut end = timing.known;
        let mut processor = timing.known;
        for rank in 0..shape.ranks {
            let mut share = Share { place: vec![None; asked.len()], ..Share::default() };
            for (index, &(expert, version, rows, weight)) in asked.iter().enumerate() {
                if usize::from(expert) % shape.ranks == rank {
                    share.place[index] = Some(share.own.len());
                    let own = self.ask(layer, (expert, version), rows, weight, timing.known);
                    share.own.push(own);
                    share.versions.push(version);
                }
            }
            end = end.max(self.rank(layer, rank, &share, timing, &mut processor));
        }
        self.picks.asked = asked;
        end.max(processor)
    }

    /// One expert as targets see it at `now`.
    pub(super) fn ask(
        &self,
        layer: usize,
        (expert, version): (u16, u8),
        rows: u32,
        weight: f32,
        now: SimTime,
    ) -> Asked {
        let (mut ready, mut copy, mut read) = (0.0_f64, 0.0, 0.0);
        let mut bytes = 0;
        for unit in self.setup.shape.parts(layer, expert, version) {
            bytes += self.setup.shape.bytes[unit as usize];
            let (near, far) = self.memory.copy_times(unit);
            match self.memory.place(unit) {
                Place::Gpu(at) => ready = ready.max(at.0.saturating_sub(now.0) as f64 * 1e-9),
                Place::Host => copy += seconds(near),
                Place::Storage => {
                    copy += seconds(near);
                    read += seconds(far);
                }
            }
        }
        let at = if copy == 0.0 {
            At::Gpu(ready)
        } else if read == 0.0 {
            At::Host(copy)
        } else {
            let busy = self.memory.storage.free().0.saturating_sub(now.0) as f64 * 1e-9;
            At::Storage(busy + read, copy)
        };
        let gpu = seconds(self.setup.kernels.experts(u64::from(self.pass.tokens), &[rows]));
        let cpu = self.on_processor(bytes, rows).map_or(f64::INFINITY, seconds);
        Asked { expert, rows, weight, at, gpu, cpu }
    }

    fn on_processor(&self, bytes: u64, rows: u32) -> Option<Nanos> {
        let model = &self.setup.model;
        let values = u128::from(model.hidden) * u128::from(model.expert_inter);
        let processor = self.setup.machine.processor.as_ref()?;
        Some(processor.time(bytes, 6 * values * u128::from(rows)))
    }

    /// Time of the activations of `rows` rows to host memory, or back.
    fn hop(&self, rows: u64) -> Nanos {
        let bytes = rows * u64::from(self.setup.model.hidden) * 2;
        self.setup.machine.tiers[0].time(bytes, 1)
    }

    /// The experts of one rank. Returns when its GPU is done; `processor` is when the processor is.
    fn rank(
        &mut self,
        layer: usize,
        rank: usize,
        share: &Share,
        timing: &Timing,
        processor: &mut SimTime,
    ) -> SimTime {
        let Share { own, versions, .. } = share;
        let since = |at: SimTime| at.0.saturating_sub(timing.known.0) as f64 * 1e-9;
        let hop = self.hop(self.pass.tokens.into());
        let work = Work {
            asked: own,
            link_busy: since(self.memory.links[rank].free()),
            gpu_busy: since(timing.shared),
            cpu_busy: since(*processor) + seconds(hop),
        };
        let mut by = Vec::with_capacity(own.len());
        self.target.assign(&work, &mut by);
        assert_eq!(by.len(), own.len(), "a target assigns every expert");
        let copied = self.settle(layer, share, &by);
        let costs = &self.setup.machine.costs;
        let (arrivals, host) = self.copy(layer, own, versions, copied, timing.known);
        let evictions = costs.eviction * host.1;
        let open = timing.shared.max(host.0 + evictions);
        self.pass.handling += Nanos(host.0.0 - timing.known.0) + evictions;
        let done = self.on_gpu(own, &by, &arrivals, timing.known, open);
        let mut rows = 0;
        let mut at = (*processor).max(timing.known + hop);
        for ((asked, &version), _) in
            own.iter().zip(versions).zip(&by).filter(|(_, by)| **by == By::Cpu)
        {
            let mut bytes = 0;
            for unit in self.setup.shape.parts(layer, asked.expert, version) {
                bytes += self.setup.shape.bytes[unit as usize];
                if !self.memory.is_near(unit) {
                    at = at.max(self.memory.bring_to_host(unit, timing.known));
                }
            }
            let time = self.on_processor(bytes, asked.rows).expect("checked: a processor");
            at = at + time;
            self.run.processor_busy += time;
            rows += u64::from(asked.rows);
        }
        if rows > 0 {
            *processor = at + self.hop(rows.min(self.pass.tokens.into()));
        }
        done
    }

    /// Counts hits and misses and settles who is resident, in order of first pick. Returns the
    /// indices of experts that must be copied.
    fn settle(&mut self, layer: usize, share: &Share, by: &[By]) -> Vec<usize> {
        let mut copied = Vec::new();
        let mut settled = vec![false; share.own.len()];
        let sequence = std::mem::take(&mut self.picks.sequence);
        for index in sequence.iter().filter_map(|&asked| share.place[asked as usize]) {
            let asked = &share.own[index];
            let parts = self.setup.shape.parts(layer, asked.expert, share.versions[index]);
            if std::mem::replace(&mut settled[index], true) {
                parts.for_each(|unit| self.memory.repeat(unit));
                continue;
            }
            let (hit, copy) = (matches!(asked.at, At::Gpu(_)), by[index] == By::Gpu);
            self.pass.hits += u64::from(hit);
            self.pass.late += u64::from(matches!(asked.at, At::Gpu(ready) if ready > 0.0));
            self.pass.misses += u64::from(!hit);
            self.pass.on_processor += u64::from(!copy);
            self.run.per_layer[layer][0] += u64::from(hit);
            self.run.per_layer[layer][1] += 1;
            for unit in parts {
                if self.memory.is_near(unit) {
                    self.memory.promote(unit);
                } else if copy {
                    self.pass.demanded += self.setup.shape.bytes[unit as usize];
                    self.memory.admit(unit);
                } else {
                    self.memory.pass_by(unit);
                }
            }
            if !hit && copy {
                copied.push(index);
            }
        }
        self.picks.sequence = sequence;
        copied
    }

    /// Copies experts, most tokens first. Returns when each arrives, when the host has admitted all
    /// of them, and how many left for them.
    fn copy(
        &mut self,
        layer: usize,
        own: &[Asked],
        versions: &[u8],
        mut copied: Vec<usize>,
        known: SimTime,
    ) -> (Vec<(SimTime, usize)>, (SimTime, u64)) {
        copied.sort_by_key(|&index| (u32::MAX - own[index].rows, index));
        let costs = self.setup.machine.costs;
        let mut host = known;
        let mut arrivals = Vec::with_capacity(copied.len());
        for index in copied {
            host = host + costs.admission;
            let mut arrival = host;
            for unit in self.setup.shape.parts(layer, own[index].expert, versions[index]) {
                if self.memory.awaits_copy(unit) {
                    arrival = arrival.max(self.memory.copy(unit, host));
                }
            }
            arrivals.push((arrival, index));
        }
        (arrivals, (host, std::mem::take(&mut self.memory.tally.evictions)))
    }

    /// Computes on the GPU from `open` on. Returns when it is done.
    fn on_gpu(
        &mut self,
        own: &[Asked],
        by: &[By],
        arrivals: &[(SimTime, usize)],
        known: SimTime,
        open: SimTime,
    ) -> SimTime {
        let tokens = u64::from(self.pass.tokens);
        let mut rows = Vec::new();
        let mut later: Vec<(SimTime, usize)> = arrivals.to_vec();
        for (index, asked) in own.iter().enumerate().filter(|(index, _)| by[*index] == By::Gpu) {
            if let At::Gpu(ready) = asked.at {
                if ready > 0.0 {
                    later.push((known + Nanos::ceil_from(ready * 1e9), index));
                } else {
                    rows.push(asked.rows);
                }
            }
        }
        later.sort_unstable();
        let beside = self.setup.machine.beside_copies;
        if beside != Beside::Experts {
            rows.extend(later.iter().map(|&(_, index)| own[index].rows));
            let last = later.last().map_or(open, |&(arrival, _)| arrival);
            let time = self.setup.kernels.experts(tokens, &rows);
            self.run.gpu_busy += Nanos(time.0 / self.setup.shape.ranks as u64);
            return self.together(time, last, known, open);
        }
        let time = self.setup.kernels.experts(tokens, &rows);
        let mut now = open + time;
        let mut busy = time;
        for (arrival, index) in later {
            let time = self.setup.kernels.experts(tokens, &[own[index].rows]);
            if arrival > now {
                self.pass.stall += Nanos(arrival.0 - now.0);
            }
            now = now.max(arrival) + time;
            busy += time;
        }
        // Ranks work side by side: their mean is what utilisation means.
        self.run.gpu_busy += Nanos(busy.0 / self.setup.shape.ranks as u64);
        now
    }

    /// Experts that take `time` are computed together. Copies begin at `known` and end at `last`.
    fn together(&mut self, time: Nanos, last: SimTime, known: SimTime, open: SimTime) -> SimTime {
        let rounds = match self.setup.machine.beside_copies {
            Beside::Matrices => MATRICES,
            Beside::Experts | Beside::Nothing => 1,
        };
        let whole = last.0.saturating_sub(known.0);
        let mut now = open;
        for round in 1..=rounds {
            let ready = SimTime(known.0 + whole * round / rounds);
            self.pass.stall += Nanos(ready.0.saturating_sub(now.0));
            now = now.max(ready) + Nanos(time.0 * round / rounds - time.0 * (round - 1) / rounds);
        }
        now
    }
}

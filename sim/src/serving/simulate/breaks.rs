//! Faults as events: what stops, who goes back to the router, and what comes back.

use std::ops::Range;

use moecast_profiles::units::SimTime;
use moecast_traces::requests::Load;

use super::{Event, Simulation};
use crate::serving::faults::{Condition, Fate, FaultRecord};
use crate::serving::sequence::Key;

impl Simulation<'_> {
    /// All faults are events from the start.
    pub(super) fn foresee_faults(&mut self) {
        for (number, fault) in (0..).zip(&self.service.faults) {
            self.push(fault.at, Event::Breaks(number));
            if let Some(until) = fault.until {
                self.push(until, Event::Recovers(number));
            }
        }
    }

    /// Whether `event` is none any more: a pass that a fault ended before its time, work for a
    /// replica that stopped, or anything after everybody has been served.
    pub(super) fn is_idle(&self, event: &Event) -> bool {
        match *event {
            Event::PassEnds { replica, lane, number } => {
                let pass = self.replicas[usize::from(replica)].lanes[usize::from(lane)].as_ref();
                pass.is_none_or(|pass| pass.number != number)
            }
            Event::Breaks(_) | Event::Recovers(_) => self.all.count() == 0,
            Event::Starts { replica } => {
                self.replicas[usize::from(replica)].stopped() || self.all.count() == 0
            }
            Event::Arrives(_) | Event::Delivered(_) => false,
        }
    }

    pub(super) fn break_down(&mut self, now: SimTime, number: usize) {
        let service = self.service;
        let fault = &service.faults[number];
        let index = self.starts[fault.pool] + usize::from(fault.replica);
        let alive_before = self.alive(index);
        self.replicas[index].faults.push(number);
        self.reconsider(index);
        let replica = &self.replicas[index];
        let mut record = FaultRecord {
            fault: number,
            replica: index as u16,
            at: now,
            retried: 0,
            lost: 0,
            lost_tokens: 0,
            passes: 0,
            stops: replica.stopped() && !alive_before.is_empty(),
            missing: replica.condition.as_ref().map_or(Vec::new(), |now| now.missing.clone()),
        };
        let gone: Vec<usize> =
            alive_before.into_iter().filter(|group| replica.group_lost(*group)).collect();
        if !gone.is_empty() {
            record.passes = self.abort(now, index);
        }
        let mut left: Vec<Key> = Vec::new();
        for group in gone {
            let group = &mut self.replicas[index].groups[group];
            let before = group.lost_tokens;
            left.extend(group.abandon(&mut self.all));
            record.lost_tokens += group.lost_tokens - before;
        }
        for key in left {
            match fault.requests {
                Fate::Retry => {
                    record.retried += 1;
                    self.all.get_mut(key).retries += 1;
                    self.admit(now, key, 0);
                }
                Fate::Lost => {
                    record.lost += 1;
                    self.all.remove(key);
                    if matches!(service.load, Load::Closed(_)) {
                        self.send(now);
                    }
                }
            }
        }
        self.served.retried += record.retried;
        self.served.lost += record.lost;
        self.wake(now, index);
        self.observer.fault(&record);
    }

    pub(super) fn recover(&mut self, now: SimTime, number: usize) {
        let fault = &self.service.faults[number];
        let index = self.starts[fault.pool] + usize::from(fault.replica);
        self.replicas[index].faults.retain(|other| *other != number);
        self.reconsider(index);
        if !self.replicas[index].stopped() {
            for key in std::mem::take(&mut self.parked[fault.pool]) {
                self.admit(now, key, fault.pool);
            }
            self.wake(now, index);
        }
    }

    /// Data-parallel ranks of a replica that serve.
    fn alive(&self, index: usize) -> Vec<usize> {
        let replica = &self.replicas[index];
        (0..replica.groups.len()).filter(|group| !replica.group_lost(*group)).collect()
    }

    /// What the faults of a replica leave of it.
    fn reconsider(&mut self, index: usize) {
        let service = self.service;
        let replica = &mut self.replicas[index];
        let pool = &service.pools[replica.pool];
        let faults = replica.faults.iter().map(|number| &service.faults[*number]);
        let condition = Condition::of(pool, faults);
        replica.adopt(pool, condition);
    }

    /// Ends the passes of a replica before their time, with nothing done; answers how many.
    fn abort(&mut self, now: SimTime, index: usize) -> u64 {
        let replica = &mut self.replicas[index];
        // It looked for work when a stage was to be free; now it may look at once.
        replica.woken = false;
        let mut aborted = 0;
        for lane in &mut replica.lanes {
            let Some(pass) = lane.take() else { continue };
            aborted += 1;
            for work in pass.batches.iter().flat_map(|batch| &batch.works) {
                self.all.get_mut(work.key).in_pass = false;
            }
        }
        if aborted > 0 {
            replica.stage_free.fill(now);
        }
        self.served.passes -= aborted;
        aborted
    }

    /// Gives a request to a replica of `pool` that serves, or lets it wait for one.
    pub(super) fn admit_to_survivors(
        &mut self,
        now: SimTime,
        key: Key,
        pool: usize,
        replicas: Range<usize>,
    ) {
        let up: Vec<usize> = replicas.filter(|index| !self.replicas[*index].stopped()).collect();
        if up.is_empty() {
            self.parked[pool].push(key);
            return;
        }
        let (input, prefix) = (self.all.get(key).input, self.all.get(key).prefix);
        let views: Vec<_> =
            up.iter().map(|index| self.replicas[*index].view(&self.all, prefix)).collect();
        let index = if up.len() == 1 { up[0] } else { up[self.routers[pool].pick(input, &views)] };
        let replica = &self.replicas[index];
        let groups = (0..replica.groups.len()).filter(|group| !replica.group_lost(*group));
        let group = groups.min_by_key(|group| replica.groups[*group].requests());
        let group = group.expect("a replica that serves has a rank that does");
        self.replicas[index].groups[group].waiting.push_back(key);
        self.wake(now, index);
    }
}

//! A program with every operation and transfer an event: each rank has lanes of its own, and
//! transfers that cross the same links share them, max-min fair.
//!
//! A transfer begins when all ranks are ready for it and ends for all at once: it is one flow that
//! loads every link by the bytes it has to carry, its busiest link at full rate. Cost: an event an
//! operation and rank, and one solution of the sharing whenever a transfer comes or goes.

use std::collections::BTreeMap;

use moecast_profiles::units::{Nanos, SimTime};

use super::{Program, Schedule, Work};
use crate::event::EventQueue;
use crate::flow::{FlowId, Transfers};

/// One operation on one rank, or a transfer of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the operation.
    pub operation: u32,
    /// The rank; `None` for a transfer.
    pub rank: Option<u16>,
    /// When it began.
    pub start: SimTime,
    /// When it ended.
    pub end: SimTime,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// First start and last end of every operation.
    pub schedule: Schedule,
    /// What every rank did, in the order of ends.
    pub spans: Vec<Span>,
    /// Nanoseconds that every link carried something at its full rate.
    pub link_busy: Vec<f64>,
}

/// Runs `program` on ranks that are joined by so many `links`.
///
/// # Panics
/// When a transfer loads a link that there is not.
#[must_use]
pub fn run(program: &Program, links: usize) -> Events {
    let mut loop_ = Loop::new(program, links);
    for number in 0..program.operations().len() {
        if program.operations()[number].after.is_empty() {
            loop_.ready_everywhere(number as u32, SimTime(0));
        }
    }
    while loop_.advance() {}
    loop_.finish()
}

/// A rank's kernel has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    operation: u32,
    rank: u16,
    start: SimTime,
}

struct Loop<'a> {
    program: &'a Program,
    followers: Vec<Vec<u32>>,
    /// `[O x R]` for kernels: what each still waits for on a rank. `[O]` for transfers, of all.
    waits: Vec<u32>,
    queue: EventQueue<Ended>,
    transfers: Transfers,
    /// Operation and start by flow.
    flows: BTreeMap<FlowId, (u32, SimTime)>,
    /// By rank: whether it computes, and what is ready, by the time since when.
    busy: Vec<bool>,
    ready: Vec<Vec<(SimTime, u32)>>,
    events: Events,
}

impl<'a> Loop<'a> {
    fn new(program: &'a Program, links: usize) -> Self {
        let (ranks, operations) = (program.ranks(), program.operations());
        let mut waits = vec![0; operations.len() * ranks];
        for (number, operation) in operations.iter().enumerate() {
            let own = &mut waits[number * ranks..(number + 1) * ranks];
            match operation.work {
                Work::Compute(_) => own.fill(operation.after.len() as u32),
                Work::Transfer(_) => {
                    let of = |before: &u32| match operations[*before as usize].work {
                        Work::Compute(_) => ranks as u32,
                        Work::Transfer(_) => 1,
                    };
                    own[0] = operation.after.iter().map(of).sum();
                }
            }
        }
        let schedule = Schedule { total: 0.0, spans: vec![(f64::MAX, 0.0); operations.len()] };
        Self {
            program,
            followers: program.followers(),
            waits,
            queue: EventQueue::new(),
            transfers: Transfers::new(vec![1.0; links]),
            flows: BTreeMap::new(),
            busy: vec![false; ranks],
            ready: vec![Vec::new(); ranks],
            events: Events { schedule, ..Events::default() },
        }
    }

    /// The next event; `false` when there is none.
    fn advance(&mut self) -> bool {
        let kernel = self.queue.next_time();
        // At one instant transfers end before kernels.
        if let Some((end, flow)) = self.transfers.next_end(kernel.unwrap_or(SimTime(u64::MAX))) {
            return self.arrived(flow, end);
        }
        match self.queue.pop() {
            Some((now, ended)) => self.computed(ended, now),
            None => false,
        }
    }

    fn computed(&mut self, ended: Ended, now: SimTime) -> bool {
        let Ended { operation, rank, start } = ended;
        self.note(operation, Some(rank), start, now);
        self.busy[usize::from(rank)] = false;
        for place in 0..self.followers[operation as usize].len() {
            let follower = self.followers[operation as usize][place];
            self.release(follower, Some(rank), now);
        }
        self.compute(rank, now);
        true
    }

    fn arrived(&mut self, flow: FlowId, now: SimTime) -> bool {
        self.transfers.end(flow, now);
        let (operation, start) = self.flows.remove(&flow).expect("every flow is a transfer");
        self.note(operation, None, start, now);
        for place in 0..self.followers[operation as usize].len() {
            let follower = self.followers[operation as usize][place];
            self.release(follower, None, now);
        }
        true
    }

    /// Tells `follower` that something it waits for has ended, on one rank or on all.
    fn release(&mut self, follower: u32, rank: Option<u16>, now: SimTime) {
        let ranks = self.program.ranks();
        let first = follower as usize * ranks;
        match (&self.program.operations()[follower as usize].work, rank) {
            (Work::Transfer(_), _) => {
                self.waits[first] -= 1;
                if self.waits[first] == 0 {
                    self.ready_everywhere(follower, now);
                }
            }
            (Work::Compute(_), Some(rank)) => self.release_kernel(follower, rank, now),
            (Work::Compute(_), None) => {
                for rank in 0..ranks as u16 {
                    self.release_kernel(follower, rank, now);
                }
            }
        }
    }

    fn release_kernel(&mut self, follower: u32, rank: u16, now: SimTime) {
        let waits = &mut self.waits[follower as usize * self.program.ranks() + usize::from(rank)];
        *waits -= 1;
        if *waits == 0 {
            self.ready[usize::from(rank)].push((now, follower));
            self.compute(rank, now);
        }
    }

    fn ready_everywhere(&mut self, number: u32, now: SimTime) {
        match &self.program.operations()[number as usize].work {
            Work::Compute(_) => {
                for rank in 0..self.program.ranks() as u16 {
                    self.ready[usize::from(rank)].push((now, number));
                    self.compute(rank, now);
                }
            }
            Work::Transfer(transfer) => {
                let latency = Nanos::ceil_from(transfer.start);
                let flow = self.transfers.start(now, transfer.busy, latency, &transfer.loads);
                self.flows.insert(flow, (number, now));
            }
        }
    }

    /// Lets `rank` begin what has been ready longest, the earliest of the program at a tie.
    fn compute(&mut self, rank: u16, now: SimTime) {
        let own = usize::from(rank);
        if self.busy[own] {
            return;
        }
        let first = self.ready[own].iter().enumerate().min_by_key(|(_, ready)| **ready);
        let Some((place, &(_, operation))) = first else { return };
        self.ready[own].swap_remove(place);
        let Work::Compute(times) = &self.program.operations()[operation as usize].work else {
            unreachable!("ranks compute kernels");
        };
        self.busy[own] = true;
        let end = now + Nanos::ceil_from(times[own]);
        self.queue.push(end, rank, Ended { operation, rank, start: now });
    }

    fn note(&mut self, operation: u32, rank: Option<u16>, start: SimTime, end: SimTime) {
        self.events.spans.push(Span { operation, rank, start, end });
        let schedule = &mut self.events.schedule;
        let (from, to) = &mut schedule.spans[operation as usize];
        *from = from.min(start.0 as f64);
        *to = to.max(end.0 as f64);
        schedule.total = schedule.total.max(end.0 as f64);
    }

    fn finish(mut self) -> Events {
        assert!(self.waits.iter().all(|waits| *waits == 0), "operations that never became ready");
        let end = SimTime(self.events.schedule.total as u64);
        self.events.link_busy = self.transfers.carried(end).to_vec();
        self.events
    }
}

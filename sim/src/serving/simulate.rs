//! The run: arrivals, passes and transfers as events, one `match` on what happens next.
//!
//! A pass is one event: its batch is chosen when it starts, its tokens appear when it ends. Passes
//! of a pipeline are laid through its stages when they start, since stages are first come first
//! served. What is due at the same instant happens in this order: requests arrive, caches arrive,
//! passes end, faults begin and end, replicas start.

mod arrivals;
mod breaks;

use moecast_profiles::seed::Generator;
use moecast_profiles::units::{Bytes, Nanos, SimTime};
use moecast_traces::requests::Load;
use rand::RngExt;

use super::batch::Batch;
use super::faults::slowed;
use super::gaps::Gaps;
use super::record::{Observer, PassRecord, RequestRecord};
use super::replica::{Pass, Replica};
use super::router::{Router, View};
use super::sequence::{Key, Sequences};
use super::service::{Role, Service};
use crate::event::EventQueue;

/// What happens, in the order of what is due at the same instant.
enum Event {
    /// A request reaches the engine.
    Arrives(Key),
    /// The cache of a request has reached the pool that generates.
    Delivered(Key),
    /// A pass leaves the last stage.
    PassEnds { replica: u16, lane: u16, number: u32 },
    /// A fault begins.
    Breaks(u32),
    /// It ends.
    Recovers(u32),
    /// A replica looks for work.
    Starts { replica: u16 },
}

impl Event {
    fn rank(&self) -> u16 {
        match self {
            Self::Arrives(_) => 0,
            Self::Delivered(_) => 1,
            Self::PassEnds { .. } => 2,
            Self::Recovers(_) => 3,
            Self::Breaks(_) => 4,
            Self::Starts { .. } => 5,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests whose last token was made.
    pub completed: u64,
    /// Requests that were still there when the run stopped.
    pub running: u64,
    /// Of these, requests that wait for a replica that never came back.
    pub unserved: u64,
    /// Requests that were lost with their ranks.
    pub lost: u64,
    /// How often requests went back to the router because their ranks were lost.
    pub retried: u64,
    /// Tokens whose cache was dropped to make room, which are read again.
    pub lost_tokens: u64,
    /// Tokens that requests found in the prefix cache when they began again.
    pub found_tokens: u64,
    /// Forward passes.
    pub passes: u64,
    /// Events.
    pub events: u64,
    /// When it ended.
    pub end: SimTime,
    /// Whether the observer had seen enough before all requests were served.
    pub stopped_early: bool,
}

struct Simulation<'a> {
    service: &'a Service,
    queue: EventQueue<Event>,
    all: Sequences<'a>,
    replicas: Vec<Replica>,
    /// First replica of every pool.
    starts: Vec<usize>,
    routers: Vec<Box<dyn Router>>,
    views: Vec<View>,
    /// Next request of the load.
    next: usize,
    borrowing: Generator,
    accepting: Generator,
    offsets: Generator,
    observer: &'a mut dyn Observer,
    served: Served,
    /// By pool, requests that wait for any replica to come back.
    parked: Vec<Vec<Key>>,
    /// Passes that were launched.
    launched: u32,
}

/// Serves all requests of `service`, or as many as `observer` wants to see. `progress` is told how
/// many are done.
pub fn run<'a>(
    service: &'a Service,
    observer: &'a mut dyn Observer,
    progress: &mut dyn FnMut(u64),
) -> Served {
    let mut simulation = Simulation::new(service, observer);
    simulation.foresee_faults();
    simulation.send_first();
    let mut told = 0;
    while let Some((now, event)) = simulation.queue.pop() {
        simulation.served.events += 1;
        if simulation.is_idle(&event) {
            continue;
        }
        match event {
            Event::Arrives(key) => simulation.arrive(now, key),
            Event::Delivered(key) => simulation.admit(now, key, simulation.starts.len() - 1),
            Event::PassEnds { replica, lane, .. } => simulation.end_pass(now, replica, lane),
            Event::Breaks(fault) => simulation.break_down(now, fault as usize),
            Event::Recovers(fault) => simulation.recover(now, fault as usize),
            Event::Starts { replica } => simulation.start(now, replica),
        }
        simulation.served.end = now;
        if simulation.served.completed > told {
            told = simulation.served.completed;
            progress(told);
            if simulation.observer.enough() {
                simulation.served.stopped_early = simulation.all.count() > 0;
                break;
            }
        }
    }
    let mut served = simulation.served;
    served.running = simulation.all.count() as u64;
    served.unserved = simulation.parked.iter().map(|parked| parked.len() as u64).sum();
    for group in simulation.replicas.iter().flat_map(|replica| &replica.groups) {
        served.lost_tokens += group.lost_tokens;
        served.found_tokens += group.found_tokens;
    }
    assert_eq!(
        served.sent,
        served.completed + served.lost + served.running,
        "requests sent against completed, lost and running"
    );
    assert!(
        served.stopped_early || served.running == served.unserved,
        "{} requests wait for ever, {} of them for a replica that was lost",
        served.running,
        served.unserved
    );
    let blocks: u64 =
        simulation.replicas.iter().map(|replica| replica.levels().kv_blocks_used).sum();
    assert!(
        served.stopped_early || blocks == 0,
        "{blocks} blocks of the cache were not given back"
    );
    served
}

impl<'a> Simulation<'a> {
    fn new(service: &'a Service, observer: &'a mut dyn Observer) -> Self {
        let (mut replicas, mut starts) = (Vec::new(), Vec::new());
        for (index, pool) in service.pools.iter().enumerate() {
            starts.push(replicas.len());
            replicas.extend((0..pool.replicas).map(|_| Replica::new(service, pool, index)));
        }
        Self {
            service,
            queue: EventQueue::new(),
            all: Sequences::default(),
            replicas,
            starts,
            routers: service.pools.iter().map(|_| (service.router.build)()).collect(),
            views: Vec::new(),
            next: 0,
            borrowing: service.seed.stream("serving/borrowed"),
            accepting: service.seed.stream("serving/accepted"),
            offsets: service.seed.stream("serving/offsets"),
            observer,
            served: Served {
                sent: 0,
                completed: 0,
                running: 0,
                unserved: 0,
                lost: 0,
                retried: 0,
                lost_tokens: 0,
                found_tokens: 0,
                passes: 0,
                events: 0,
                end: SimTime(0),
                stopped_early: false,
            },
            parked: vec![Vec::new(); service.pools.len()],
            launched: 0,
        }
    }

    fn push(&mut self, time: SimTime, event: Event) {
        let rank = event.rank();
        self.queue.push(time, rank, event);
    }

    /// Makes a replica look for work once everything else of this instant has happened.
    fn wake(&mut self, now: SimTime, index: usize) {
        let replica = &mut self.replicas[index];
        if !replica.woken && !replica.stopped() && replica.lanes.iter().any(Option::is_none) {
            replica.woken = true;
            let time = now.max(replica.stage_free[0]);
            self.push(time, Event::Starts { replica: index as u16 });
        }
    }

    fn start(&mut self, now: SimTime, index: u16) {
        let replica = &mut self.replicas[usize::from(index)];
        replica.woken = false;
        let lanes = replica.lanes.len();
        for turn in 0..lanes {
            let lane = (replica.next_lane + turn) % lanes;
            if replica.lanes[lane].is_some() {
                continue;
            }
            let batches = replica.batches(&mut self.all, lane as u16);
            if batches.iter().all(|batch| batch.works.is_empty()) {
                continue;
            }
            replica.next_lane = (lane + 1) % lanes;
            self.launch(now, index, lane, batches);
            return;
        }
    }

    /// Lays a pass through the stages.
    fn launch(&mut self, now: SimTime, index: u16, lane: usize, batches: Vec<Batch>) {
        let replica = &mut self.replicas[usize::from(index)];
        let pool = &self.service.pools[replica.pool];
        let shares = replica.shares(&batches, &self.all);
        let mut time = replica.cost.time(&shares);
        if let Some(condition) = &replica.condition {
            // What is gone computes nothing.
            let lost = time.busy.iter_mut().zip(&condition.ranks_lost).filter(|(_, lost)| **lost);
            lost.for_each(|(busy, _)| *busy = Nanos(0));
        }
        let hop = slowed(pool.hop, replica.links());
        let swapped = batches.iter().map(|batch| batch.swapped_tokens).max().unwrap_or(0);
        if swapped > 0 {
            let bytes = Bytes(pool.memory.kv_bytes_per_token.0 * swapped);
            time.stage += pool.host_bandwidth.time_for(bytes);
        }
        let mut end = now;
        let stages = replica.stage_free.len();
        for (stage, free) in replica.stage_free.iter_mut().enumerate() {
            end = end.max(*free) + time.stage;
            if stage + 1 < stages {
                end = end + hop;
            }
            *free = end;
        }
        for batch in &batches {
            for work in &batch.works {
                self.all.get_mut(work.key).started.get_or_insert(now);
            }
        }
        let number = self.launched;
        self.launched = number.wrapping_add(1);
        replica.lanes[lane] = Some(Pass { batches, start: now, time, number });
        self.served.passes += 1;
        self.push(end, Event::PassEnds { replica: index, lane: lane as u16, number });
        self.wake(now, usize::from(index));
    }

    fn end_pass(&mut self, now: SimTime, index: u16, lane: u16) {
        let replica = &mut self.replicas[usize::from(index)];
        let pass = replica.lanes[usize::from(lane)].take().expect("a pass was under way");
        // As it was while the pass ran: who finishes with it was there.
        let levels = replica.levels();
        let (mut gaps, mut prefill_tokens, mut decode_tokens) = (Gaps::default(), 0, 0);
        for (group, batch) in pass.batches.iter().enumerate() {
            for work in &batch.works {
                let sequence = self.all.get_mut(work.key);
                sequence.in_pass = false;
                sequence.kv_tokens = work.before + work.tokens;
                prefill_tokens += if work.decodes { 0 } else { work.tokens };
                if sequence.kv_tokens < sequence.target {
                    continue;
                }
                let mut made = 1;
                if work.decodes {
                    let drafts = work.tokens - 1;
                    let left = sequence.output - sequence.generated;
                    let chance = self.service.speculation.acceptance;
                    while made <= drafts && made < left && self.accepting.random_bool(chance) {
                        made += 1;
                    }
                    sequence.kv_tokens = work.before + made;
                    decode_tokens += made;
                } else if sequence.held < sequence.prefix.len() {
                    self.replicas[usize::from(index)].groups[group].publish(sequence);
                }
                if sequence.generated == 0 {
                    sequence.first_token = now;
                } else {
                    gaps.add(self.observer, now.since(sequence.last_token), made);
                }
                sequence.last_token = now;
                sequence.generated += made;
                self.leave_if_done(now, index, group, work.key);
            }
        }
        gaps.tell(self.observer);
        self.observer.pass(&PassRecord {
            replica: index,
            start: pass.start,
            time: now.since(pass.start),
            prefill_tokens,
            decode_tokens,
            running: levels.running,
            waiting: levels.waiting,
            kv_blocks_used: levels.kv_blocks_used,
            kv_blocks: levels.kv_blocks,
            imbalance: pass.time.imbalance,
            rank_busy: &pass.time.busy,
            parts: pass.time.parts,
        });
        self.wake(now, usize::from(index));
    }

    /// A request with all its tokens goes home; one whose prompt was read goes to the pool that
    /// generates, where there is one.
    fn leave_if_done(&mut self, now: SimTime, index: u16, group: usize, key: Key) {
        let replica = &mut self.replicas[usize::from(index)];
        let pool = &self.service.pools[replica.pool];
        let sequence = self.all.get_mut(key);
        let done = sequence.generated >= sequence.output;
        if !done && pool.role != Role::Prefill {
            return;
        }
        replica.groups[group].leave(key, sequence);
        if !done {
            sequence.stored = sequence.kv_tokens;
            let bytes = Bytes(pool.memory.kv_bytes_per_token.0 * u64::from(sequence.stored));
            let (latency, bandwidth) = pool.network;
            let links = replica.links();
            let arrival = now + slowed(latency + bandwidth.time_for(bytes), links);
            self.push(arrival, Event::Delivered(key));
            return;
        }
        let sequence = self.all.remove(key);
        self.served.completed += 1;
        self.observer.request(&RequestRecord {
            id: sequence.id,
            replica: index,
            arrival: sequence.sent,
            reached: sequence.reached,
            started: sequence.started.expect("it was served"),
            first_token: sequence.first_token,
            finished: now,
            input_tokens: sequence.input,
            output_tokens: sequence.output,
            cached_tokens: sequence.cached_tokens,
            preemptions: sequence.preemptions,
            retries: sequence.retries,
        });
        if matches!(self.service.load, Load::Closed(_)) {
            self.send(now);
        }
    }
}

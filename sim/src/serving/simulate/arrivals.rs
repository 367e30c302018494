//! From clients to replicas: requests are sent, reach the scheduler and are given to a rank.

use moecast_profiles::units::{Nanos, SimTime};
use moecast_traces::requests::{Load, PREFIX_BLOCK_TOKENS};
use rand::RngExt;

use super::{Event, Simulation};
use crate::serving::batch::Group;
use crate::serving::sequence::{Key, Sequence};

/// Of offsets between 0 and twice their mean, the resolution.
const OFFSET_PARTS: u64 = 1024;

impl<'a> Simulation<'a> {
    /// All clients begin at once; of open loads one request at a time is looked at.
    pub(super) fn send_first(&mut self) {
        let first = match &self.service.load {
            Load::Open(_) => 1,
            Load::Closed(closed) => closed.clients() as usize,
        };
        for _ in 0..first {
            self.send(SimTime(0));
        }
    }

    /// Sends the next request of the load, if there is one: at `now` from a client, at its own
    /// time otherwise.
    pub(super) fn send(&mut self, now: SimTime) {
        let service = self.service;
        let (sent, lengths, prefix): (_, _, &'a [u32]) = match &service.load {
            Load::Open(trace) => {
                if self.next == trace.count() {
                    return;
                }
                let request = trace.get(self.next);
                let whole = (request.input_tokens / PREFIX_BLOCK_TOKENS) as usize;
                let known = if service.prefix_cache { request.prefix } else { &[] };
                let prefix = &known[..whole.min(known.len())];
                (request.arrival, (request.input_tokens, request.output_tokens), prefix)
            }
            Load::Closed(closed) => {
                let Some(request) = closed.requests().get(self.next) else { return };
                (now, (request.input_tokens, request.output_tokens), &[])
            }
        };
        let library = service.pools.iter().find_map(|pool| pool.routing.library.as_ref());
        let borrowed = library.map_or(0, |library| library.borrow(&mut self.borrowing));
        let (input, output) = lengths;
        let reached = sent + self.offset();
        let key = self.all.insert(Sequence {
            id: self.next as u64,
            sent,
            reached,
            input,
            output,
            prefix,
            borrowed,
            target: input,
            kv_tokens: 0,
            stored: 0,
            generated: 0,
            blocks: 0,
            held: 0,
            cached_tokens: 0,
            started: None,
            first_token: SimTime(0),
            last_token: SimTime(0),
            preemptions: 0,
            retries: 0,
            lane: 0,
            in_pass: false,
        });
        self.next += 1;
        self.served.sent += 1;
        self.push(reached, Event::Arrives(key));
    }

    /// Between sending and scheduler. Requests that clients send together do not reach the
    /// scheduler together: some are parsed and tokenised before others.
    fn offset(&mut self) -> Nanos {
        let offset = self.service.factors.ttft_offset;
        match self.service.load {
            Load::Open(_) => offset,
            Load::Closed(_) => {
                let spread = self.offsets.random_range(0..=2 * OFFSET_PARTS);
                Nanos(offset.0 * spread / OFFSET_PARTS)
            }
        }
    }

    pub(super) fn arrive(&mut self, now: SimTime, key: Key) {
        if matches!(self.service.load, Load::Open(_)) {
            self.send(now);
        }
        self.admit(now, key, 0);
    }

    /// Gives a request to a replica of `pool`.
    pub(super) fn admit(&mut self, now: SimTime, key: Key, pool: usize) {
        let (start, count) = (self.starts[pool], usize::from(self.service.pools[pool].replicas));
        if self.service.faults.iter().any(|fault| fault.pool == pool) {
            return self.admit_to_survivors(now, key, pool, start..start + count);
        }
        let (input, prefix) = (self.all.get(key).input, self.all.get(key).prefix);
        let picked = if count == 1 {
            0
        } else {
            self.views.clear();
            for replica in &self.replicas[start..start + count] {
                self.views.push(replica.view(&self.all, prefix));
            }
            self.routers[pool].pick(input, &self.views)
        };
        let index = start + picked;
        let replica = &mut self.replicas[index];
        let load = |group: &&mut Group| group.requests();
        let group = replica.groups.iter_mut().min_by_key(load).expect("at least one rank");
        group.waiting.push_back(key);
        self.wake(now, index);
    }
}

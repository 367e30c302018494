//! Which requests share the next pass of a data-parallel rank: the engines' own schedulers.
//!
//! vLLM: one budget of tokens, running requests first, then chunks of prompts beside them; the
//! youngest is preempted when the cache is full. SGLang: passes of prompts alone go first; a
//! request is admitted when the cache has room for its prompt and an estimated share of what is
//! still to be generated, an estimate that shrinks while nothing goes wrong. TensorRT-LLM: whole
//! prompts join the running requests; a request is admitted when the cache has room to its very
//! end, so nothing is preempted.

use std::collections::VecDeque;

use moecast_profiles::engine::Scheduler;

use super::kv::KvPool;
use super::sequence::{Key, Sequence, Sequences};
use super::service::Preemption;

/// SGLang's estimate of the share of an answer that is still to come: from, to, and the steps
/// between (schedule policy defaults: 0.7, 0.14 of that, 600).
const RESERVE_START: f64 = 0.7;
const RESERVE_END: f64 = 0.098;
const RESERVE_STEPS: f64 = 600.0;

/// What a scheduler goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) scheduler: Scheduler,
    pub(crate) step_tokens_max: u32,
    pub(crate) sequences_max: u32,
    /// Tokens of a generating request in a pass: 1, and drafts to be checked.
    pub(crate) tokens_per_decode: u32,
    pub(crate) preemption: Preemption,
    /// What windowed layers hold of a request, in tokens.
    pub(crate) kv_tokens_per_request: u32,
}

impl Policy {
    /// Tokens of a generating request in its next pass; no more are drafted than are asked for.
    fn checked(&self, sequence: &Sequence) -> u32 {
        self.tokens_per_decode.min(sequence.output - sequence.generated)
    }
}

/// One request's part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) key: Key,
    /// Tokens in the cache before the pass.
    pub(crate) before: u32,
    pub(crate) tokens: u32,
    pub(crate) decodes: bool,
}

/// The part of one data-parallel rank in a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) works: Vec<Work>,
    /// Tokens whose cache is copied to or from the host.
    pub(crate) swapped_tokens: u64,
}

/// Requests of one data-parallel rank.
pub(crate) struct Group {
    pub(crate) kv: KvPool,
    pub(crate) waiting: VecDeque<Key>,
    /// In the order of admission.
    pub(crate) running: Vec<Key>,
    /// Tokens whose cache was dropped, and those that were found again in shared prefixes.
    pub(crate) lost_tokens: u64,
    pub(crate) found_tokens: u64,
    /// Tokens whose cache goes to or comes from the host in the next pass.
    swapped_tokens: u64,
    reserve: f64,
}

impl Group {
    pub(crate) fn new(kv: KvPool) -> Self {
        Self {
            kv,
            waiting: VecDeque::new(),
            running: Vec::new(),
            lost_tokens: 0,
            found_tokens: 0,
            swapped_tokens: 0,
            reserve: RESERVE_START,
        }
    }

    /// Requests here.
    pub(crate) fn requests(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// A pass of prompts alone, where the scheduler has such passes.
    pub(crate) fn prompts(&mut self, policy: &Policy, all: &mut Sequences, lane: u16) -> Batch {
        let mut batch = Batch::default();
        if policy.scheduler != Scheduler::PrefillFirst {
            return batch;
        }
        let mut budget = policy.step_tokens_max;
        for index in 0..self.running.len() {
            let key = self.running[index];
            let sequence = all.get_mut(key);
            if sequence.lane == lane && !sequence.decodes() && budget > 0 {
                let tokens = sequence.unread().min(budget);
                if self.grow(sequence, tokens, policy) {
                    batch.push(key, sequence, tokens);
                    budget -= tokens;
                }
            }
        }
        self.admit(policy, all, lane, &mut budget, &mut batch);
        self.swap(&mut batch);
        batch
    }

    /// A pass of running requests, and of prompts beside them where the scheduler mixes them.
    pub(crate) fn mixed(&mut self, policy: &Policy, all: &mut Sequences, lane: u16) -> Batch {
        let mut batch = Batch::default();
        let mut budget = match policy.scheduler {
            // Nothing limits a pass that only generates.
            Scheduler::PrefillFirst => u32::MAX,
            _ => policy.step_tokens_max,
        };
        let mut preempted = false;
        let mut index = 0;
        while index < self.running.len() {
            let key = self.running[index];
            let sequence = all.get_mut(key);
            index += 1;
            let tokens = match sequence.decodes() {
                true => policy.checked(sequence),
                false => sequence.unread().min(budget),
            };
            let own = sequence.lane == lane;
            if !own || sequence.in_pass || tokens == 0 || tokens > budget {
                continue;
            }
            if policy.scheduler == Scheduler::PrefillFirst && !sequence.decodes() {
                continue;
            }
            let mut fits = self.grow(sequence, tokens, policy);
            while !fits {
                let Some(victim) = self.youngest(all, index - 1) else { break };
                preempted = true;
                self.preempt(victim, policy, all);
                if victim == key {
                    index -= 1;
                    break;
                }
                fits = self.grow(all.get_mut(key), tokens, policy);
            }
            if fits {
                batch.push(key, all.get_mut(key), tokens);
                budget -= tokens;
            }
        }
        if preempted {
            self.reserve = RESERVE_START;
        } else if policy.scheduler != Scheduler::PrefillFirst {
            self.admit(policy, all, lane, &mut budget, &mut batch);
        } else if !batch.works.is_empty() {
            let step = (RESERVE_START - RESERVE_END) / RESERVE_STEPS;
            self.reserve = (self.reserve - step).max(RESERVE_END);
        }
        self.swap(&mut batch);
        batch
    }

    /// Takes waiting requests in, first come first served, while budget and cache last.
    fn admit(
        &mut self,
        policy: &Policy,
        all: &mut Sequences,
        lane: u16,
        budget: &mut u32,
        batch: &mut Batch,
    ) {
        while *budget > 0 && self.running.len() < policy.sequences_max as usize {
            let Some(&key) = self.waiting.front() else { return };
            let reserved = match policy.scheduler {
                Scheduler::PrefillFirst => self.reserved(all, policy),
                _ => 0,
            };
            let Some(tokens) = self.start(all.get_mut(key), *budget, reserved, policy) else {
                return;
            };
            self.waiting.pop_front();
            let sequence = all.get_mut(key);
            sequence.lane = lane;
            self.running.push(key);
            if sequence.stored > 0 {
                if policy.preemption == Preemption::Swap && sequence.preemptions > 0 {
                    self.swapped_tokens += u64::from(sequence.stored);
                }
                sequence.stored = 0;
            }
            if tokens > 0 {
                batch.push(key, sequence, tokens);
                *budget -= tokens;
            }
        }
    }

    /// Blocks for what running requests are expected to generate.
    fn reserved(&self, all: &Sequences, policy: &Policy) -> u64 {
        let tokens: f64 = self
            .running
            .iter()
            .map(|key| {
                let sequence = all.get(*key);
                f64::from(sequence.output - sequence.generated) * self.reserve
                    + f64::from(policy.kv_tokens_per_request)
            })
            .sum();
        self.kv.blocks_of(tokens as u32)
    }

    /// Blocks that `tokens` tokens of a request need beyond those that it has.
    fn missing(&self, sequence: &Sequence, tokens: u32, policy: &Policy) -> u64 {
        let whole = self.kv.blocks_of(tokens.saturating_add(policy.kv_tokens_per_request));
        let shared = self.kv.blocks_of(sequence.held as u32 * self.kv.prefix_tokens());
        whole.saturating_sub(shared + sequence.blocks)
    }

    /// Makes room for `tokens` more tokens of a running request.
    fn grow(&mut self, sequence: &mut Sequence, tokens: u32, policy: &Policy) -> bool {
        let missing = self.missing(sequence, sequence.kv_tokens + tokens, policy);
        let fits = missing == 0 || self.kv.take(missing);
        if fits {
            sequence.blocks += missing;
        }
        fits
    }

    /// Takes a waiting request's blocks; answers how many tokens it works on in this pass.
    fn start(
        &mut self,
        sequence: &mut Sequence,
        budget: u32,
        reserved: u64,
        policy: &Policy,
    ) -> Option<u32> {
        let here = if sequence.stored > 0 { 0 } else { self.kv.matched(sequence.prefix) };
        let found = here as u32 * self.kv.prefix_tokens();
        // The last token of a prompt is always read: it makes the next one.
        let before = found.min(sequence.target - 1).max(sequence.stored);
        let unread = sequence.target.saturating_sub(before);
        let whole_prompts = policy.scheduler == Scheduler::InFlightBatching;
        if whole_prompts && unread > budget && budget < policy.step_tokens_max {
            return None;
        }
        // A request that comes with its cache generates at once; where prompts go first it does in
        // the pass after them.
        let tokens = match policy.scheduler {
            Scheduler::PrefillFirst => unread.min(budget),
            _ if unread == 0 => policy.checked(sequence).min(budget),
            _ => unread.min(budget),
        };
        self.kv.hold(&sequence.prefix[..here]);
        sequence.held = here;
        let room = match policy.scheduler {
            Scheduler::InFlightBatching => sequence.input + sequence.output,
            Scheduler::PrefillFirst => sequence.target.max(before + 1),
            Scheduler::MixedChunkedPrefill | Scheduler::Slots => before + tokens,
        };
        let missing = self.missing(sequence, room, policy);
        if missing + reserved > self.kv.available() || !self.kv.take(missing) {
            self.kv.release(&sequence.prefix[..here]);
            sequence.held = 0;
            return None;
        }
        sequence.blocks += missing;
        sequence.kv_tokens = before;
        if sequence.started.is_none() {
            sequence.cached_tokens = before;
        } else if sequence.stored == 0 {
            self.found_tokens += u64::from(before);
        }
        Some(tokens)
    }

    /// Who makes room for the running request at `place`: of it and those that were admitted
    /// after it, the last; nobody while passes are under way with all that could.
    fn youngest(&self, all: &Sequences, place: usize) -> Option<Key> {
        let (own, later) = self.running[place..].split_first()?;
        match later {
            // The oldest never gives way to those that came after it, or nobody might ever end.
            [] => Some(*own),
            _ => later.iter().rev().find(|key| !all.get(**key).in_pass).copied(),
        }
    }

    /// Once there is a pass, copies to and from the host are part of it.
    fn swap(&mut self, batch: &mut Batch) {
        if !batch.works.is_empty() {
            batch.swapped_tokens = std::mem::take(&mut self.swapped_tokens);
        }
    }

    fn preempt(&mut self, key: Key, policy: &Policy, all: &mut Sequences) {
        let sequence = all.get_mut(key);
        self.free(sequence);
        sequence.preemptions += 1;
        match policy.preemption {
            Preemption::Recompute => {
                sequence.target = sequence.input + sequence.generated;
                self.lost_tokens += u64::from(sequence.kv_tokens);
            }
            Preemption::Swap => {
                sequence.stored = sequence.kv_tokens;
                self.swapped_tokens += u64::from(sequence.kv_tokens);
            }
        }
        sequence.kv_tokens = 0;
        self.running.retain(|other| *other != key);
        self.waiting.push_front(key);
    }

    /// The rank is gone: its memory is empty, and the requests that it had are answered, those
    /// that ran first. What they had read is to be read again.
    pub(crate) fn abandon(&mut self, all: &mut Sequences) -> Vec<Key> {
        let mut left = std::mem::take(&mut self.running);
        left.extend(self.waiting.drain(..));
        for key in &left {
            let sequence = all.get_mut(*key);
            self.lost_tokens += u64::from(sequence.kv_tokens.max(sequence.stored));
            sequence.target = sequence.input + sequence.generated;
            (sequence.kv_tokens, sequence.stored) = (0, 0);
            (sequence.blocks, sequence.held) = (0, 0);
            sequence.in_pass = false;
        }
        self.kv.wipe();
        self.swapped_tokens = 0;
        self.reserve = RESERVE_START;
        left
    }

    /// Gives back all that a request holds.
    pub(crate) fn free(&mut self, sequence: &mut Sequence) {
        self.kv.give(sequence.blocks);
        self.kv.release(&sequence.prefix[..sequence.held]);
        sequence.blocks = 0;
        sequence.held = 0;
    }

    /// A request that has finished, or moved on, leaves.
    pub(crate) fn leave(&mut self, key: Key, sequence: &mut Sequence) {
        self.free(sequence);
        self.running.retain(|other| *other != key);
    }

    /// The prompt of a request has been read: its prefix can serve others.
    pub(crate) fn publish(&mut self, sequence: &mut Sequence) {
        let moved = self.kv.share(&sequence.prefix[sequence.held..]);
        sequence.blocks -= moved;
        sequence.held = sequence.prefix.len();
    }
}

impl Batch {
    fn push(&mut self, key: Key, sequence: &mut Sequence, tokens: u32) {
        let (before, decodes) = (sequence.kv_tokens, sequence.decodes());
        sequence.in_pass = true;
        self.works.push(Work { key, before, tokens, decodes });
    }
}

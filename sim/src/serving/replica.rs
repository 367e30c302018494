//! One replica of a model: its requests, the passes that it has under way, and what they cost.

use std::sync::Arc;

use moecast_profiles::cost::Attended;
use moecast_profiles::units::SimTime;
use moecast_traces::requests::{Load, PREFIX_BLOCK_TOKENS};

use super::batch::{Batch, Group, Policy};
use super::faults::Condition;
use super::kv::KvPool;
use super::pass::{PassCost, PassTime, Share};
use super::recorded::{Tokens, Told};
use super::router::View;
use super::sequence::{Key, Sequences};
use super::service::{Pool, Service};

pub(super) struct Replica {
    pub(super) pool: usize,
    pub(super) groups: Vec<Group>,
    /// A pass under way for every stage of the pipeline.
    pub(super) lanes: Vec<Option<Pass>>,
    pub(super) next_lane: usize,
    /// When each stage is done with what it has.
    pub(super) stage_free: Vec<SimTime>,
    pub(super) policy: Policy,
    pub(super) cost: PassCost,
    /// Whether an event will make it look for work.
    pub(super) woken: bool,
    /// Faults that have begun and not ended, and what they leave of it; nothing where there are
    /// none.
    pub(super) faults: Vec<usize>,
    pub(super) condition: Option<Condition>,
}

/// What a replica holds.
pub(super) struct Levels {
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) kv_blocks_used: u64,
    pub(super) kv_blocks: u64,
}

pub(super) struct Pass {
    pub(super) batches: Vec<Batch>,
    pub(super) start: SimTime,
    pub(super) time: PassTime,
    /// Its end is an event of this number.
    pub(super) number: u32,
}

impl Replica {
    pub(super) fn new(service: &Service, pool: &Pool, index: usize) -> Self {
        let limits = pool.limits;
        let prefixes = match &service.load {
            Load::Open(trace) if service.prefix_cache => trace.distinct_blocks(),
            _ => 0,
        };
        let kv = KvPool::new(limits.kv_tokens, service.block_tokens, PREFIX_BLOCK_TOKENS, prefixes);
        let groups = (0..pool.layout.data).map(|_| Group::new(kv.clone())).collect();
        let drafts = service.speculation.draft_tokens;
        let ranks = usize::from(pool.layout.expert);
        let library = pool.routing.library.as_ref();
        let tallies = library.map_or(Vec::new(), |library| library.tallies(ranks));
        let stages = usize::from(pool.layout.pipeline);
        Self {
            pool: index,
            groups,
            lanes: (0..stages).map(|_| None).collect(),
            next_lane: 0,
            stage_free: vec![SimTime(0); stages],
            policy: Policy {
                scheduler: service.scheduler,
                step_tokens_max: limits.step_tokens_max,
                sequences_max: limits.sequences_max,
                tokens_per_decode: (1 + drafts).min(limits.step_tokens_max),
                preemption: service.preemption,
                kv_tokens_per_request: pool.memory.kv_tokens_per_request,
            },
            cost: PassCost {
                model: service.model.clone(),
                cost: Arc::clone(&pool.kernels.model),
                layout: pool.layout,
                map: Arc::clone(&pool.map),
                routing: pool.routing.clone(),
                factors: service.factors,
                graph_batch_max: limits.graph_batch_max,
                draft_tokens: drafts,
                told: Told::default(),
                tallies,
            },
            woken: false,
            faults: Vec::new(),
            condition: None,
        }
    }

    /// Whether it serves nobody.
    pub(super) fn stopped(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.stopped)
    }

    /// Whether data-parallel rank `group` serves nobody.
    pub(super) fn group_lost(&self, group: usize) -> bool {
        let condition = self.condition.as_ref();
        condition.is_some_and(|condition| condition.stopped || condition.groups_lost[group])
    }

    /// How many times as long its links take.
    pub(super) fn links(&self) -> f64 {
        self.condition.as_ref().map_or(1.0, |condition| condition.links)
    }

    /// Goes on with what faults leave of it.
    pub(super) fn adopt(&mut self, pool: &Pool, condition: Condition) {
        self.cost.cost = Arc::clone(&condition.cost);
        self.cost.map = Arc::clone(&condition.map);
        self.cost.routing.mean = Arc::clone(&condition.mean);
        // Times that were looked up before are those of other kernels.
        if let Some(library) = &self.cost.routing.library {
            self.cost.tallies = library.tallies(usize::from(pool.layout.expert));
        }
        self.condition = Some(condition);
    }

    /// The batches of the next pass of `lane`, one a data-parallel rank.
    pub(super) fn batches(&mut self, all: &mut Sequences, lane: u16) -> Vec<Batch> {
        let Self { groups, policy, .. } = self;
        // A rank that reads prompts makes the others wait, where prompts have passes of their own.
        let prompts: Vec<Batch> =
            groups.iter_mut().map(|group| group.prompts(policy, all, lane)).collect();
        if prompts.iter().any(|batch| !batch.works.is_empty()) {
            return prompts;
        }
        groups.iter_mut().map(|group| group.mixed(policy, all, lane)).collect()
    }

    /// What `batches` ask of the kernels; tells the routing which tokens these are.
    pub(super) fn shares(&mut self, batches: &[Batch], all: &Sequences) -> Vec<Share> {
        let tells = self.cost.wants_tokens();
        let mut shares = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut share = Share::default();
            for work in &batch.works {
                let sequence = all.get(work.key);
                let (before, tokens) = (u64::from(work.before), u64::from(work.tokens));
                let part = if work.decodes {
                    // Every drafted token is asked for its successor.
                    share.asked_decode += work.tokens;
                    &mut share.batch.decode
                } else {
                    share.asked_prefill += u32::from(work.before + work.tokens >= sequence.target);
                    &mut share.batch.prefill
                };
                part.add(&Attended {
                    requests: 1,
                    tokens: work.tokens,
                    attended: tokens * before + tokens * (tokens + 1) / 2,
                    cached: before + tokens,
                });
                if tells {
                    let borrowed = sequence.borrowed;
                    let count = work.tokens;
                    if work.decodes {
                        let first = sequence.generated - 1;
                        self.cost.told.generated(Tokens { borrowed, first, count });
                    } else {
                        let first = work.before;
                        self.cost.told.prompt(Tokens { borrowed, first, count });
                    }
                }
            }
            shares.push(share);
        }
        shares
    }

    pub(super) fn levels(&self) -> Levels {
        let groups = || self.groups.iter();
        Levels {
            running: groups().map(|group| group.running.len() as u32).sum(),
            waiting: groups().map(|group| group.waiting.len() as u32).sum(),
            kv_blocks_used: groups().map(|group| group.kv.used()).sum(),
            kv_blocks: groups().map(|group| group.kv.blocks()).sum(),
        }
    }

    /// What a router is told of it.
    pub(super) fn view(&self, all: &Sequences, prefix: &[u32]) -> View {
        let mut view = View::default();
        for group in &self.groups {
            view.requests += group.requests() as u32;
            let unread = |key: &Key| u64::from(all.get(*key).unread());
            view.unread_tokens += group.waiting.iter().map(unread).sum::<u64>();
            let matched = group.kv.matched(prefix) as u32 * PREFIX_BLOCK_TOKENS;
            view.matched_tokens = view.matched_tokens.max(matched);
        }
        view
    }
}

//! Which replica serves a token: the engines' own rules, applied token by token.

use moecast_profiles::cost::exchange::Copies;
use moecast_profiles::engine::ReplicaRule;
use moecast_profiles::hardware::{Hardware, LinkClass};
use moecast_profiles::ids::{ExpertId, MoeLayer, Rank, Slot};
use moecast_profiles::seed::{Generator, Seed};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::placement::Placement;

/// Pairs of (token, expert) that one TensorRT-LLM thread block routes. Assumed: its launch
/// configuration depends on version and batch.
const ROUTING_BLOCK_PAIRS: u32 = 256;

/// The multiplier of vLLM's token hash (Knuth's, 2^32 over the golden ratio).
const TOKEN_HASH: u32 = 2_654_435_769;

/// One token on its way into a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Rank whose attention produced it.
    pub source: Rank,
    /// Number of the token in that rank's batch.
    pub index: u32,
}

/// Where the tokens of one step go in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// `[P]` tokens that every slot computes.
    pub tokens_per_slot: Vec<u32>,
    /// `[T]` rank of every token's first expert; its own rank where it chose none.
    pub firsts: Vec<Rank>,
}

/// Tokens that a rank looks at which gets `rows` of a batch of `tokens`, each with up to `top_k`
/// picks: all of them where tokens are gathered. Rows that come alone cost their picks, not those
/// of all ranks' tokens.
pub(crate) fn tokens_seen(gathers: bool, top_k: u16, tokens: u64, rows: u64) -> u64 {
    match gathers {
        true => tokens,
        false => rows.div_ceil(u64::from(top_k)).min(tokens),
    }
}

/// Chooses replicas of one layer by one engine's rule.
pub struct Dispatcher<'a> {
    placement: &'a Placement,
    hardware: &'a Hardware,
    rule: ReplicaRule,
    /// `[E]` slots of every expert.
    replicas: Vec<Vec<Slot>>,
    /// `[R x E]` the one slot that a source rank uses; only for [`ReplicaRule::Static`].
    fixed: Vec<Slot>,
}

impl<'a> Dispatcher<'a> {
    /// Prepares `layer` of `placement`.
    #[must_use]
    pub fn new(
        placement: &'a Placement,
        hardware: &'a Hardware,
        rule: ReplicaRule,
        layer: MoeLayer,
        seed: Seed,
    ) -> Self {
        let replicas = placement.replicas(layer);
        let mut dispatcher = Self { placement, hardware, rule, replicas, fixed: Vec::new() };
        if rule == ReplicaRule::Static {
            let mut generator = seed.stream(&format!("dispatch/static/layer/{layer}"));
            dispatcher.fixed = dispatcher.fix(&mut generator);
        }
        dispatcher
    }

    /// Routes tokens; `routed` yields every token with the experts that it chose, perhaps none.
    /// What they send each other is added to `copies`.
    ///
    /// `generator` is drawn from only by [`ReplicaRule::Dynamic`].
    pub fn dispatch<'t>(
        &self,
        routed: impl Iterator<Item = (Arrival, &'t [ExpertId])>,
        copies: &mut Copies,
        generator: &mut Generator,
    ) -> Dispatched {
        let ranks = usize::from(self.placement.ranks());
        let mut result = Dispatched {
            tokens_per_slot: vec![0; usize::from(self.placement.slots())],
            firsts: Vec::with_capacity(routed.size_hint().0),
        };
        let mut turns = match self.rule {
            ReplicaRule::RoundRobin => Turns::new(ranks, self.replicas.len()),
            _ => Turns::new(0, 0),
        };
        for (arrival, experts) in routed {
            let mut first = None;
            let targets = experts.iter().map(|&expert| {
                let slot = self.choose(arrival, expert, &mut turns, generator);
                result.tokens_per_slot[slot.index()] += 1;
                let rank = self.placement.rank_of(slot);
                first.get_or_insert(rank);
                rank
            });
            copies.add(arrival.source, targets);
            result.firsts.push(first.unwrap_or(arrival.source));
        }
        result
    }

    fn choose(
        &self,
        arrival: Arrival,
        expert: ExpertId,
        turns: &mut Turns,
        generator: &mut Generator,
    ) -> Slot {
        let replicas = &self.replicas[expert.index()];
        if let [only] = replicas[..] {
            return only;
        }
        let copies = replicas.len();
        let source = arrival.source;
        match self.rule {
            ReplicaRule::Static => {
                self.fixed[source.index() * self.replicas.len() + expert.index()]
            }
            ReplicaRule::Dynamic => {
                let near = self.nearest(source, expert);
                near[generator.random_range(0..index_u32(near.len())) as usize]
            }
            ReplicaRule::TokenHash => {
                replicas[arrival.index.wrapping_mul(TOKEN_HASH) as usize % copies]
            }
            ReplicaRule::RoundRobin => replicas[turns.next(source, expert) as usize % copies],
            ReplicaRule::RankModulo => replicas[source.index() % copies],
        }
    }

    /// The replicas on the nearest level that has any: same GPU, same node, anywhere.
    fn nearest(&self, source: Rank, expert: ExpertId) -> Vec<Slot> {
        let replicas = &self.replicas[expert.index()];
        let class = |slot: Slot| self.hardware.route(source, self.placement.rank_of(slot));
        let best = replicas.iter().map(|&slot| class(slot)).min().unwrap_or(LinkClass::Network);
        replicas.iter().copied().filter(|&slot| class(slot) == best).collect()
    }

    /// One slot per (source, expert): the nearest; where several are as near, the sources are
    /// dealt to them in random order and near-equal shares.
    fn fix(&self, generator: &mut Generator) -> Vec<Slot> {
        let (ranks, experts) = (usize::from(self.placement.ranks()), self.replicas.len());
        let mut fixed = vec![Slot(0); ranks * experts];
        let mut undecided: Vec<Rank> = Vec::with_capacity(ranks);
        for expert in 0..experts {
            let id = ExpertId(u16::try_from(expert).expect("experts are u16"));
            undecided.clear();
            for rank in 0..self.placement.ranks() {
                let near = self.nearest(Rank(rank), id);
                match near[..] {
                    [only] => fixed[usize::from(rank) * experts + expert] = only,
                    _ => undecided.push(Rank(rank)),
                }
            }
            undecided.shuffle(generator);
            for (turn, rank) in undecided.iter().enumerate() {
                let near = self.nearest(*rank, id);
                fixed[rank.index() * experts + expert] = near[turn % near.len()];
            }
        }
        fixed
    }
}

/// TensorRT-LLM's counters: how often a thread block of a rank has met each expert.
struct Turns {
    experts: usize,
    pairs: Vec<u32>,
    seen: Vec<u32>,
}

impl Turns {
    fn new(ranks: usize, experts: usize) -> Self {
        Self { experts, pairs: vec![0; ranks], seen: vec![0; ranks * experts] }
    }

    fn next(&mut self, source: Rank, expert: ExpertId) -> u32 {
        let pair = self.pairs[source.index()];
        self.pairs[source.index()] += 1;
        let first = source.index() * self.experts;
        if pair.is_multiple_of(ROUTING_BLOCK_PAIRS) {
            self.seen[first..first + self.experts].fill(0);
        }
        let seen = &mut self.seen[first + expert.index()];
        let turn = *seen + pair / ROUTING_BLOCK_PAIRS + u32::from(source.0);
        *seen += 1;
        turn
    }
}

fn index_u32(value: usize) -> u32 {
    u32::try_from(value).expect("slots are u16")
}

#[cfg(test)]
mod tests;

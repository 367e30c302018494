//! What the ranks of one micro-batch do in every layer: tokens are drawn, routed through the
//! placement, and costed.

use std::sync::Arc;

use moecast_profiles::cost::exchange::{Copies, ExchangeModel, Rule, Way};
use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::hardware::LinkClass;
use moecast_profiles::hardware::fabric::Fabric;
use moecast_profiles::ids::{MoeLayer, Rank};
use moecast_profiles::seed::Generator;
use moecast_profiles::units::Nanos;
use rayon::prelude::*;

use super::Forward;
use super::scope::Parts;
use crate::lanes::Transfer;
use crate::lanes::compose::{Experts, FeedForward, Layer, Times};
use crate::serving::mean::{Chooser, Population};

/// Tokens of a micro-batch that are drawn; larger ones are scaled from them.
const DRAWN_MAX: u64 = 32_768;

/// One micro-batch.
pub(super) struct Drawn {
    pub(super) layers: Vec<Layer>,
    pub(super) head: Option<Times>,
    /// Rows of the busiest rank over the mean, mean over layers.
    pub(super) imbalance: f64,
}

/// Micro-batch number `batch` of pass number `number`.
pub(super) fn draw(of: &Forward, number: u32, batch: usize) -> Drawn {
    let part = Part::new(of, number, batch);
    let moe_layers: Vec<u16> = (0..of.map.layers() as u16).collect();
    // Every layer draws from a stream of its own, so that threads change nothing.
    let drawn: Vec<(Experts, f64)> = moe_layers
        .into_par_iter()
        .map(|layer| {
            let stream = format!("forward/{number}/{batch}/{layer}");
            part.experts(MoeLayer(layer), &mut of.seed.stream(&stream))
        })
        .collect();
    let imbalance: f64 = drawn.iter().map(|(_, imbalance)| imbalance).sum();
    let imbalance = imbalance / drawn.len().max(1) as f64;
    let mut experts = drawn.into_iter().map(|(experts, _)| experts);
    let (cost, tokens) = (part.cost(), part.tokens());
    let attention = part.alike(cost.attention(part.batch) + cost.all_reduce(tokens));
    let dense = part.alike(cost.dense_layer(tokens) + cost.all_reduce(tokens));
    let all = of.scope.parts == Parts::All;
    // Slots are filled once a layer, for all its micro-batches.
    let weights = of.collective.as_ref().filter(|_| of.scope.materialise > 0 && batch == 0);
    let weights = weights.map(|collective| {
        let slots = u64::from(of.scope.materialise);
        collective.gather((of.model.expert_bytes().0 * slots) as f64)
    });
    let mut layers = Vec::new();
    let mut own = of.model.moe_layers.iter().copied().peekable();
    for number in 0..of.model.hidden_layers {
        let mut attention = all.then(|| Arc::clone(&attention));
        if all && own.peek() != Some(&number) {
            let feed_forward = FeedForward::Dense(Arc::clone(&dense));
            layers.push(Layer { attention: attention.take(), weights: None, feed_forward });
        }
        // A layer that is routed more than once shares its attention.
        while own.next_if_eq(&number).is_some() {
            let feed_forward = FeedForward::Experts(experts.next().expect("one a MoE layer"));
            let weights = weights.clone();
            layers.push(Layer { attention: attention.take(), weights, feed_forward });
        }
    }
    let head = all.then(|| part.alike(cost.head(part.asked)));
    Drawn { layers, head, imbalance }
}

/// What every data-parallel rank does in one micro-batch.
struct Part<'a> {
    of: &'a Forward,
    batch: AttentionBatch,
    /// Tokens whose next one is asked for.
    asked: u32,
    /// What a kernel takes longer than measured: by calibration, and because transfers hold some
    /// of the multiprocessors.
    factor: f64,
    /// Recorded requests that the prompts of all ranks borrow; none where tokens are on their own.
    borrowed: Vec<u32>,
}

impl<'a> Part<'a> {
    fn new(of: &'a Forward, number: u32, batch: usize) -> Self {
        let (batches, batch_number) = (u32::from(of.overlap.micro_batches), batch);
        // The first ones get what does not divide.
        let share = |all: u32| all / batches + u32::from((batch as u32) < all % batches);
        let (requests, prompts) = (share(of.batch.requests), share(of.batch.prompts));
        let (context, length) = (u64::from(of.batch.context), u64::from(of.batch.prompt_tokens));
        let prefills = prompts > 0;
        let batch = AttentionBatch {
            decode: Attended {
                requests,
                tokens: requests,
                attended: u64::from(requests) * context,
                cached: u64::from(requests) * context,
            },
            prefill: Attended {
                requests: prompts,
                tokens: prompts * of.batch.prompt_tokens,
                attended: u64::from(prompts) * length * (length + 1) / 2,
                cached: u64::from(prompts) * length,
            },
        };
        let calibrated =
            if prefills { of.factors.prefill_factor } else { of.factors.decode_factor };
        let factor = calibrated * of.crowded();
        let stream = format!("forward/{number}/{batch_number}/prompts");
        let all = prompts * u32::from(of.layout.data);
        let borrowed = of
            .requests
            .as_ref()
            .filter(|_| requests == 0)
            .map_or_else(Vec::new, |own| own.draw(all, &mut of.seed.stream(&stream)));
        Self { of, batch, asked: requests + prompts, factor, borrowed }
    }

    fn cost(&self) -> &'a dyn CostModel {
        self.of.kernels.model.as_ref()
    }

    /// Of one data-parallel rank.
    fn tokens(&self) -> u32 {
        self.batch.tokens()
    }

    /// The same on all ranks.
    fn alike(&self, time: Nanos) -> Times {
        let time = self.launched(time.0 as f64 * self.factor);
        vec![time; self.of.layout.ranks() as usize].into()
    }

    /// With what the host needs before it.
    fn launched(&self, time: f64) -> f64 {
        self.of.scope.launch.0 as f64 + time
    }

    /// One MoE layer, and the rows of its busiest rank over the mean.
    fn experts(&self, layer: MoeLayer, bits: &mut Generator) -> (Experts, f64) {
        let of = self.of;
        let all = u64::from(self.tokens()) * u64::from(of.layout.data);
        let prompts = self.borrowed.len() as u64;
        let drawn = match prompts {
            0 => all.min(DRAWN_MAX),
            // As many of every prompt.
            _ => prompts * (all / prompts).min(DRAWN_MAX / prompts).max(1),
        };
        let ranks = of.hardware.ranks();
        let mut copies = of.exchange.as_ref().map(|_| Copies::on(&of.hardware));
        let mut rows = vec![0_u32; of.map.slots()];
        let mut chooser = Chooser::new(&of.population, of.map.experts());
        let mut picks = Vec::new();
        for number in 0..drawn as u32 {
            let prompt = u64::from(number) * prompts / drawn;
            let borrowed = self.borrowed.get(prompt as usize);
            match (of.scope.capacity, &of.population, borrowed.zip(of.requests.as_ref())) {
                (Some(_), ..) => deal(number, drawn, of, &mut picks),
                (None, Population::Recorded(trace), Some((request, requests))) => {
                    requests.pick(trace, *request, layer, bits, &mut picks);
                }
                _ => chooser.pick(of.map.top_k(), layer, bits, &mut picks),
            }
            let source = if prompts > 0 { prompt } else { u64::from(number) };
            let source = Rank((source % u64::from(ranks)) as u16);
            let targets = picks.iter().map(|expert| {
                let slot = of.map.slot(layer, *expert, number);
                rows[slot] += 1;
                // Ranks that share an expert split what comes for it: each takes what ranks of its
                // own place send.
                let place = source.0 % of.layout.expert_tensor;
                Rank(of.map.rank_of(slot, of.layout.expert_tensor).0 + place)
            });
            match &mut copies {
                Some(copies) => copies.add(source, targets),
                None => targets.for_each(drop),
            }
        }
        let chunks = f64::from(of.overlap.chunks);
        let scale = all as f64 / drawn.max(1) as f64 * of.scope.capacity.unwrap_or(1.0);
        let mean = all as f64 * f64::from(of.map.top_k()) / rows.len().max(1) as f64;
        for row in &mut rows {
            let own = match of.scope.capacity {
                Some(capacity) => (mean * capacity / chunks).ceil(),
                None => (f64::from(*row) * scale / chunks).round(),
            };
            *row = own as u32;
        }
        let (routed, imbalance) = self.routed(all, &rows);
        let exchange = copies.as_mut().zip(of.exchange.as_deref());
        let exchange = exchange.map(|(copies, model)| {
            Way::ALL.map(|way| Arc::new(self.transfer(model, way, copies, scale / chunks)))
        });
        let (cost, tokens) = (self.cost(), self.tokens());
        let shared = match of.scope.parts {
            Parts::All => cost.shared_experts(tokens),
            Parts::Moe => Nanos(0),
        };
        let experts = Experts {
            gate: self
                .alike(cost.gate(tokens) + of.scope.encoding(tokens, &of.model, &of.hardware)),
            shared: (shared.0 > 0).then(|| self.alike(shared)),
            routed,
            exchange,
        };
        (experts, imbalance)
    }

    /// Every rank's experts over `rows` of one chunk, of a micro-batch of `all` tokens.
    fn routed(&self, all: u64, rows: &[u32]) -> (Times, f64) {
        let of = self.of;
        let prefills = self.batch.prefill.tokens > 0;
        let tokens = all.div_ceil(u64::from(of.overlap.chunks));
        let mut busy = vec![0.0; usize::from(of.layout.expert)];
        let time = of.map.layer_time(self.cost(), (tokens, prefills), rows, Some(&mut busy));
        // Partial sums of experts that all ranks hold tokens for; else combine brings them home.
        let reduce = match of.exchange {
            Some(_) => Nanos(0),
            None => self.cost().all_reduce(self.tokens().div_ceil(u32::from(of.overlap.chunks))),
        };
        let per_expert_rank = usize::from(of.layout.expert_tensor);
        let times = busy.iter().flat_map(|time| {
            let time = self.launched((time + reduce.0 as f64) * self.factor);
            std::iter::repeat_n(time, per_expert_rank)
        });
        (times.collect(), time.imbalance)
    }

    fn transfer(
        &self,
        model: &dyn ExchangeModel,
        way: Way,
        copies: &mut Copies,
        scale: f64,
    ) -> Transfer {
        let traffic = copies.traffic().scaled(scale);
        let time = model.time(way, &traffic).0 as f64;
        let start = (model.start(way).0 as f64).min(time);
        let (fabric, mut loads) = (self.of.hardware.fabric(), Vec::new());
        match model.rule() {
            Rule::PerPick => copies.loads_per_pick(fabric, way, &mut loads),
            // A gathered exchange loads the ports of all ranks, whatever was chosen.
            Rule::PerRank | Rule::Gathered => copies.loads_per_rank(fabric, way, &mut loads),
            Rule::PerNode => copies.loads_per_node(fabric, way, &mut loads),
        };
        if time == 0.0 {
            loads.clear();
        }
        let classes = classes(fabric, &loads);
        Transfer { start, busy: time - start, loads, classes }
    }
}

/// Experts of token `number` of `drawn`, where every rank sends as many rows to each expert: the
/// tokens of a rank go through all experts in even strides.
fn deal(number: u32, drawn: u64, of: &Forward, picks: &mut Vec<u16>) {
    let (ranks, experts) = (u64::from(of.layout.ranks()), u64::from(of.map.experts()));
    let top_k = u64::from(of.map.top_k());
    let stride = (experts / (drawn.div_ceil(ranks) * top_k).max(1)).max(1);
    let (source, round) = (u64::from(number) % ranks, u64::from(number) / ranks);
    let expert = |pick: u64| ((source + (round * top_k + pick) * stride) % experts) as u16;
    picks.clear();
    picks.extend((0..top_k).map(expert));
}

/// How long the busiest link inside nodes and between them is busy, as shares of the busiest.
pub(super) fn classes(fabric: &Fabric, loads: &[(u32, f64)]) -> [f64; 2] {
    [LinkClass::Domain, LinkClass::Network].map(|class| {
        let own = loads.iter().filter(|(link, _)| fabric.link(*link).class == class);
        own.map(|(_, share)| *share).fold(0.0, f64::max)
    })
}

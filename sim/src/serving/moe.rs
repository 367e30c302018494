//! What the expert layers of a pass take, from the rows of every slot.

use moecast_profiles::cost::CostModel;
use moecast_profiles::ids::{MoeLayer, Rank};
use moecast_profiles::model::ModelShape;

use super::faults::Missing;
use super::layout::Layout;
use crate::dispatch::tokens_seen;
use crate::error::{Error, Result};
use crate::placement::Placement;

/// Experts of a layer without a slot that are named.
const MISSING_NAMED: usize = 8;

/// Times of expert layers, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MoeTime {
    /// Routed experts of the slowest rank of every layer.
    pub(crate) experts: f64,
    /// The same of the mean rank.
    pub(crate) experts_mean: f64,
    /// Tokens on their way to the experts.
    pub(crate) dispatch: f64,
    /// Results on their way back.
    pub(crate) combine: f64,
    /// Rows of the busiest rank over the mean, summed over layers.
    pub(crate) imbalance: f64,
}

impl MoeTime {
    pub(crate) fn add(&mut self, more: &Self) {
        self.experts += more.experts;
        self.experts_mean += more.experts_mean;
        self.dispatch += more.dispatch;
        self.combine += more.combine;
        self.imbalance += more.imbalance;
    }

    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self {
            experts: self.experts * factor,
            experts_mean: self.experts_mean * factor,
            dispatch: self.dispatch * factor,
            combine: self.combine * factor,
            imbalance: self.imbalance * factor,
        }
    }

    /// `share` of `other` and the rest of this.
    pub(crate) fn mixed(&self, other: &Self, share: f64) -> Self {
        let mut mixed = self.scaled(1.0 - share);
        mixed.add(&other.scaled(share));
        mixed
    }

    /// All that the pass waits for.
    pub(crate) fn total(&self) -> f64 {
        self.experts + self.dispatch + self.combine
    }
}

/// Which slots of which ranks hold which experts, of all MoE layers.
#[derive(Clone, Debug)]
pub(crate) struct ExpertMap {
    experts: u16,
    top_k: u16,
    layers: usize,
    slots: usize,
    slots_per_rank: usize,
    rank_of_slot: Vec<u16>,
    /// Ranks whose slots are lost.
    lost: usize,
    /// Whether ranks look at all tokens or get those that picked their experts: in passes that only
    /// generate and in those that read prompts.
    gathers: [bool; 2],
    /// `[M][P]` expert of every slot.
    holders: Vec<Vec<u16>>,
    /// `[M][E]` slots of every expert: first of `replicas`, and how many.
    replicas: Vec<Vec<(u32, u16)>>,
    /// Slots, expert by expert, of all layers.
    flat: Vec<u16>,
}

impl ExpertMap {
    /// Of `placement`, or in the order of experts where there is none.
    pub(crate) fn new(
        model: &ModelShape,
        layout: &Layout,
        placement: Option<&Placement>,
        gathers: [bool; 2],
    ) -> Result<Self> {
        let (experts, layers) = (model.experts, model.moe_layers.len());
        let ranks = layout.expert;
        let holders: Vec<Vec<u16>> = match placement {
            Some(placement) => {
                check_placement(placement, model, ranks)?;
                let of = |layer: &Vec<moecast_profiles::ids::ExpertId>| {
                    layer.iter().map(|expert| expert.0).collect()
                };
                placement.layers().iter().map(of).collect()
            }
            None => vec![(0..experts).collect(); layers],
        };
        // Without a placement experts that do not divide leave the last rank fewer.
        let slots = holders.first().map_or(usize::from(experts), Vec::len);
        let slots_per_rank = slots.div_ceil(usize::from(ranks));
        let mut map = Self {
            experts,
            top_k: model.top_k,
            layers,
            slots,
            slots_per_rank,
            lost: 0,
            rank_of_slot: (0..slots).map(|slot| (slot / slots_per_rank) as u16).collect(),
            gathers,
            holders,
            replicas: Vec::new(),
            flat: Vec::new(),
        };
        map.index(&[]);
        Ok(map)
    }

    /// The same without the slots of expert-parallel ranks that are `lost`; or, by layer, the
    /// experts that no other rank holds.
    pub(crate) fn without(&self, lost: &[bool]) -> std::result::Result<Self, Vec<Missing>> {
        let holds = |rank: &usize| lost.get(*rank) == Some(&true);
        let lost_ranks = (0..self.ranks()).filter(holds).count();
        let (replicas, flat) = (Vec::new(), Vec::new());
        let mut map = Self { lost: lost_ranks, replicas, flat, ..self.clone() };
        map.index(lost);
        let missing: Vec<Missing> = (0..)
            .zip(&map.replicas)
            .filter_map(|(layer, replicas)| {
                let without = (0..).zip(replicas).filter(|(_, (_, count))| *count == 0);
                let all: Vec<u16> = without.map(|(expert, _)| expert).collect();
                let first = all.iter().copied().take(MISSING_NAMED).collect();
                (!all.is_empty()).then_some(Missing { layer, count: all.len() as u16, first })
            })
            .collect();
        if missing.is_empty() { Ok(map) } else { Err(missing) }
    }

    fn index(&mut self, lost: &[bool]) {
        for layer in &self.holders {
            let mut of: Vec<Vec<u16>> = vec![Vec::new(); usize::from(self.experts)];
            for (slot, expert) in layer.iter().enumerate() {
                if lost.get(usize::from(self.rank_of_slot[slot])) != Some(&true) {
                    of[usize::from(*expert)].push(slot as u16);
                }
            }
            let mut ends = Vec::with_capacity(of.len());
            for slots in of {
                ends.push((self.flat.len() as u32, slots.len() as u16));
                self.flat.extend(slots);
            }
            self.replicas.push(ends);
        }
    }

    pub(crate) fn experts(&self) -> u16 {
        self.experts
    }

    pub(crate) fn top_k(&self) -> u16 {
        self.top_k
    }

    pub(crate) fn layers(&self) -> usize {
        self.layers
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn slots_per_rank(&self) -> usize {
        self.slots_per_rank
    }

    /// The slot that serves `expert` for the token of that number; replicas take turns.
    pub(crate) fn slot(&self, layer: MoeLayer, expert: u16, number: u32) -> usize {
        let (start, count) = self.replicas[layer.index()][usize::from(expert)];
        usize::from(self.flat[start as usize + number as usize % usize::from(count)])
    }

    /// The first of the ranks that hold `slot`.
    pub(crate) fn rank_of(&self, slot: usize, expert_tensor: u16) -> Rank {
        Rank((slot / self.slots_per_rank) as u16 * expert_tensor)
    }

    /// Deals the loads of experts, `[E]`, to slots, `[P]`: replicas get near-equal shares, which
    /// is what turns and hashes do.
    pub(crate) fn deal(&self, layer: usize, loads: &[u32], rows: &mut [u32]) {
        if self.slots == usize::from(self.experts) {
            for (row, expert) in rows.iter_mut().zip(&self.holders[layer]) {
                *row = loads[usize::from(*expert)];
            }
            return;
        }
        rows.fill(0);
        for (expert, load) in (0..).zip(loads) {
            self.deal_one(layer, expert, *load, |slot, share| rows[slot] = share);
        }
    }

    /// The share of every slot of `expert` in its `load`, as [`Self::deal`] deals it; slots without
    /// rows are left out.
    pub(crate) fn deal_one(
        &self,
        layer: usize,
        expert: u16,
        load: u32,
        mut put: impl FnMut(usize, u32),
    ) {
        let (start, copies) = self.replicas[layer][usize::from(expert)];
        let slots = &self.flat[start as usize..start as usize + usize::from(copies)];
        if let ([slot], 1..) = (slots, load) {
            return put(usize::from(*slot), load);
        }
        let copies = u32::from(copies);
        for (place, slot) in (0..copies).zip(slots) {
            let rows = load / copies + u32::from(place < load % copies);
            if rows > 0 {
                put(usize::from(*slot), rows);
            }
        }
    }

    /// Ranks that hold slots.
    pub(crate) fn ranks(&self) -> usize {
        self.slots.div_ceil(self.slots_per_rank)
    }

    /// Those of them that are there.
    pub(crate) fn ranks_alive(&self) -> usize {
        self.ranks() - self.lost
    }

    /// The expert-parallel rank of `slot`.
    pub(crate) fn rank_index(&self, slot: usize) -> usize {
        usize::from(self.rank_of_slot[slot])
    }

    /// The part of `rows` `[P]` that is on `rank`.
    pub(crate) fn slots_of<'a>(&self, rank: usize, rows: &'a [u32]) -> &'a [u32] {
        let start = rank * self.slots_per_rank;
        &rows[start..self.slots.min(start + self.slots_per_rank)]
    }

    /// Tokens that a rank looks at which gets `rows`, of a batch of `tokens` with or without
    /// prompts.
    pub(crate) fn seen(&self, tokens: u64, rows: u64, prefill: bool) -> u64 {
        tokens_seen(self.gathers[usize::from(prefill)], self.top_k, tokens, rows)
    }

    /// One layer whose slots compute `rows`, of a batch of `tokens` with or without prompts; adds
    /// the time of every rank to `busy`.
    pub(crate) fn layer_time(
        &self,
        cost: &dyn CostModel,
        (tokens, prefill): (u64, bool),
        rows: &[u32],
        mut busy: Option<&mut [f64]>,
    ) -> MoeTime {
        let mut ranks = Ranks::default();
        for (rank, slots) in rows.chunks(self.slots_per_rank).enumerate() {
            let load: u64 = slots.iter().map(|rows| u64::from(*rows)).sum();
            let time = cost.experts(self.seen(tokens, load, prefill), slots).0 as f64;
            ranks.add(time, load);
            if let Some(busy) = &mut busy {
                busy[rank] += time;
            }
        }
        ranks.time(self.ranks_alive())
    }
}

/// Ranks that wait for each other at the end of a layer.
#[derive(Default)]
pub(crate) struct Ranks {
    slowest: f64,
    sum: f64,
    most: u64,
    all: u64,
}

impl Ranks {
    /// A rank that takes `time` for `rows`; ranks without rows need not be added.
    pub(crate) fn add(&mut self, time: f64, rows: u64) {
        self.slowest = self.slowest.max(time);
        self.sum += time;
        self.most = self.most.max(rows);
        self.all += rows;
    }

    /// The layer on so many `ranks`.
    pub(crate) fn time(&self, ranks: usize) -> MoeTime {
        let ranks = ranks.max(1) as f64;
        let all = self.all as f64;
        let imbalance = if self.all > 0 { self.most as f64 * ranks / all } else { 0.0 };
        let experts_mean = self.sum / ranks;
        MoeTime { experts: self.slowest, experts_mean, imbalance, ..MoeTime::default() }
    }
}

fn check_placement(placement: &Placement, model: &ModelShape, ranks: u16) -> Result<()> {
    let refuse = |found: String, expected: String| Err(Error::scenario("plan", found, expected));
    if placement.experts() != model.experts {
        let expected = format!("the {} of {}", model.experts, model.name);
        return refuse(format!("{} experts", placement.experts()), expected);
    }
    if placement.layers().len() != model.moe_layers.len() {
        let expected = format!("the {} of {}", model.moe_layers.len(), model.name);
        return refuse(format!("{} MoE layers", placement.layers().len()), expected);
    }
    placement.check_chains(&model.moe_layers)?;
    if placement.ranks() != ranks {
        let expected = format!("a plan for the {ranks} expert-parallel ranks of the layout");
        return refuse(format!("a plan for {} ranks", placement.ranks()), expected);
    }
    Ok(())
}

//! Experts in fewer bits than they are stored in: how many each one gets, and what of a machine
//! follows from them.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use moecast_planner::memory::bits::{self, Assigned, Entry, Errors, Importance, Task};
use moecast_planner::memory::scaled_bytes;
use moecast_profiles::model::{DataType, ModelShape};
use moecast_sim::offload::Sharing;
use moecast_traces::{Header, RoutingTrace};
use serde_json::{Value, json};

use super::base::Base;
use crate::cli::memory::plan::Plan;
use crate::memory::bits::errors;
use crate::offload::build::Built;

/// What was asked of the bits.
pub(super) struct Narrowing {
    rule: &'static Entry,
    budget: f64,
    errors: Errors,
    /// Bits of a weight as stored, without its scales.
    pub(super) stored: u8,
}

/// The bits of every expert.
pub(super) struct Widths {
    pub(super) assigned: Assigned,
    /// `[M][E]` bytes.
    bytes: Vec<Vec<u64>>,
    importance: Importance,
}

impl Narrowing {
    /// What `arguments` ask, of experts of `stored` bytes in each layer; `None` where they ask
    /// nothing.
    pub(super) fn new(
        arguments: &Plan,
        header: &Header,
        model: &ModelShape,
        stored: &[u64],
    ) -> Result<Option<Self>> {
        let Some(budget) = arguments.bits else { return Ok(None) };
        let rule = bits::find(&arguments.bits_rule).context("--bits-rule")?;
        let stored = stored_bits(model, stored);
        ensure!(
            budget > 0.0 && budget <= f64::from(stored),
            "--bits: {budget}; expected above 0, at most {stored}, which experts are stored in"
        );
        let errors = errors(arguments.errors.as_deref(), header)?.at_most(stored)?;
        Ok(Some(Self { rule, budget, errors, stored }))
    }

    /// The bits by what `seen` picked, of experts of `stored` bytes in each layer.
    pub(super) fn widths(&self, seen: &RoutingTrace, stored: &[u64]) -> Result<Widths> {
        let importance = bits::importance(seen);
        let task = Task::new(&importance, &self.errors, self.budget);
        let assigned = (self.rule.assign)(&task).context("--bits")?;
        let of_layer = |(row, &stored): (&Vec<u8>, &u64)| {
            row.iter().map(|&width| scaled_bytes(stored, width, self.stored)).collect()
        };
        let bytes = assigned.bits.iter().zip(stored).map(of_layer).collect();
        Ok(Widths { assigned, bytes, importance })
    }

    /// `model` as kernels see it, its experts in the narrowest type that holds `widths`' mean: no
    /// kernel with a width for every expert is known.
    pub(super) fn kernels(&self, model: &ModelShape, widths: &Widths) -> ModelShape {
        let mean = widths.assigned.mean_bits();
        let types = [(DataType::Int4, 4.0), (DataType::Fp8, 8.0)];
        let narrower = types.into_iter().find(|(of, bits)| {
            mean <= *bits && of.bytes_of(1 << 20).0 < model.expert_type.bytes_of(1 << 20).0
        });
        let expert_type = narrower.map_or(model.expert_type, |(of, _)| of);
        ModelShape { expert_type, ..model.clone() }
    }

    /// What a reader should know.
    pub(super) fn remarks(&self, widths: &Widths, kernels: &ModelShape) -> Vec<String> {
        let mut remarks = self.errors.remarks();
        remarks.extend(widths.importance.remarks.iter().cloned());
        let name = serde_json::to_value(kernels.expert_type).unwrap_or_default();
        remarks.push(format!(
            "GPU kernels read experts as if all were {}; a cache is filled by the bytes of each \
             expert, where slots of one size would take the widest: assumed",
            name.as_str().unwrap_or("as stored")
        ));
        remarks
    }

    pub(super) fn json(&self, widths: &Widths, layers: &[u16]) -> Value {
        let Assigned { bits, cost, bound, how } = &widths.assigned;
        json!({
            "rule": self.rule.name,
            "budget": self.budget,
            "stored_bits": self.stored,
            "mean_bits": widths.assigned.mean_bits(),
            "cost": cost,
            "cost_bound": bound,
            "how": how,
            "layers": layers,
            "bits": bits,
        })
    }

    /// In a line: how many experts have how many bits.
    pub(super) fn say(&self, widths: &Widths) -> String {
        let all: Vec<u8> = widths.assigned.bits.iter().flatten().copied().collect();
        let share = |width: u8| {
            let count = all.iter().filter(|other| **other == width).count();
            (count > 0)
                .then(|| format!("{:.0}% in {width}", 100.0 * count as f64 / all.len() as f64))
        };
        let shares: Vec<String> = (1..=self.stored).filter_map(share).collect();
        format!("{}: {}", self.about(widths), shares.join(", "))
    }

    /// Rule, mean and how it was found.
    pub(super) fn about(&self, widths: &Widths) -> String {
        format!(
            "{}, {:.2} of {} bits a weight, {}",
            self.rule.name,
            widths.assigned.mean_bits(),
            self.stored,
            widths.assigned.how
        )
    }
}

impl Widths {
    pub(super) fn total(&self) -> u64 {
        self.bytes.iter().flatten().sum()
    }

    /// `[E]` bytes of the experts of `layer`.
    pub(super) fn layer(&self, layer: usize) -> &[u64] {
        &self.bytes[layer]
    }

    /// Bytes of the largest expert of `layer`.
    pub(super) fn widest(&self, layer: usize) -> u64 {
        self.bytes[layer].iter().copied().max().unwrap_or(0)
    }

    /// Gives the experts of `built` their sizes, and pins `share` of each pool anew; pools of a
    /// machine whose GPUs share `capacity` bytes.
    pub(super) fn apply(&self, built: &mut Built, base: &Base, capacity: u64, share: f64) {
        built.setup.shape.bytes = self.bytes.iter().flatten().copied().collect();
        built.expert_bytes = self.total();
        built.setup.cache.capacity = capacity / u64::from(base.file.machine.ranks());
        let layers = 0..self.bytes.len();
        let part = |bytes: u64| (bytes as f64 * share) as u64;
        let of_layers = |bytes: &dyn Fn(usize) -> u64| {
            layers
                .clone()
                .flat_map(|l| self.most_used(&built.setup.cache.trained, l..l + 1, part(bytes(l))))
                .collect()
        };
        let ranks = u64::from(base.file.machine.ranks());
        built.setup.cache.pinned = match &built.setup.cache.sharing {
            Sharing::Global => self.most_used(&built.setup.cache.trained, layers, part(capacity)),
            Sharing::PerLayer => of_layers(&|_| capacity / self.bytes.len().max(1) as u64),
            Sharing::Planned(slots) => {
                of_layers(&|l| u64::from(slots[l]) * ranks * self.bytes[l][0])
            }
        };
    }

    /// Experts of `layers` that training used most, of `left` bytes.
    fn most_used(
        &self,
        trained: &[Vec<u64>],
        layers: Range<usize>,
        mut left: u64,
    ) -> Vec<(usize, u16)> {
        let row = |layer: usize| (0_u16..).zip(&trained[layer]).map(move |(e, n)| (*n, layer, e));
        let mut order: Vec<(u64, usize, u16)> = layers.flat_map(row).collect();
        order.sort_unstable_by_key(|&(load, layer, expert)| (u64::MAX - load, layer, expert));
        order.retain(|&(_, layer, expert)| {
            let size = self.bytes[layer][usize::from(expert)];
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        });
        order.into_iter().map(|(_, layer, expert)| (layer, expert)).collect()
    }
}

/// Bits of a weight of experts of `stored` bytes in each layer, without their scales.
fn stored_bits(model: &ModelShape, stored: &[u64]) -> u8 {
    let values = 3 * u64::from(model.hidden) * u64::from(model.expert_inter);
    let mean = stored.iter().sum::<u64>() / stored.len().max(1) as u64;
    u8::try_from((mean * 8 / values.max(1)).clamp(1, 16)).unwrap_or(16)
}

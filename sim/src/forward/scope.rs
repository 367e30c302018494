//! What of a pass is run, and what it does beside the model's own work: capacity padding, launches
//! by the host, the backward pass of training, and weights or gradients on the links.

use std::sync::Arc;

use moecast_profiles::cost::exchange::{Copies, ExchangeModel, Traffic, Way};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::Rank;
use moecast_profiles::model::ModelShape;
use moecast_profiles::units::Nanos;
use serde::{Deserialize, Serialize};

use super::work;
use crate::error::{Error, Result};
use crate::lanes::Transfer;
use crate::lanes::compose::Gradients;

/// Which operations of a layer are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parts {
    /// Whole layers and the head.
    #[default]
    All,
    /// Gate, dispatch, routed experts and combine: a benchmark of single layers.
    Moe,
}

/// How tokens are put in the order of their experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encode {
    /// By index; what it takes is in the exchange's time.
    #[default]
    Sparse,
    /// By a product with one-hot masks of `[tokens, experts x capacity]`, once on the way there and
    /// once on the way back (GShard). At the datasheet's rate, which no kernel reaches.
    Dense,
}

/// The whole of it; the default is a forward pass of an inference engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Which operations are run.
    pub parts: Parts,
    /// Rows of every slot over the mean, to which all are padded or cut; as routed where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
    /// How tokens are put in the order of their experts.
    pub encode: Encode,
    /// What the host needs to launch the kernels of one operation, during which nothing computes.
    pub launch: Nanos,
    /// Whether the pass is followed by its backward pass.
    pub backward: bool,
    /// When gradients of what all ranks hold alike are summed over them.
    pub gradients: Gradients,
    /// Slots of every rank that get their weights before every layer, beside its attention.
    pub materialise: u16,
}

impl Scope {
    /// Whether its figures make sense.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the figure.
    pub fn check(&self) -> Result<()> {
        if self.capacity.is_some_and(|capacity| !(0.01..=1e3).contains(&capacity)) {
            let found = format!("{:?}", self.capacity.unwrap_or_default());
            return Err(Error::scenario("capacity", found, "0.01 to 1000 times the mean"));
        }
        if self.gradients != Gradients::None && !self.backward {
            let found = "gradients without a backward pass";
            return Err(Error::scenario("gradients", found, "backward = true"));
        }
        Ok(())
    }

    /// Whether anything but tokens travels over links.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.materialise > 0 || self.gradients != Gradients::None
    }

    /// Nanoseconds in which every rank makes and applies its masks for `tokens` tokens of its own.
    pub(super) fn encoding(&self, tokens: u32, model: &ModelShape, hardware: &Hardware) -> Nanos {
        if self.encode == Encode::Sparse {
            return Nanos(0);
        }
        let tokens = f64::from(tokens);
        let columns = tokens * f64::from(model.top_k) * self.capacity.unwrap_or(1.0);
        let once = 2.0 * tokens * columns * f64::from(model.hidden);
        let rate = hardware.device().flops(model.dense_type);
        rate.time_for((Way::ALL.len() as f64 * once) as u128)
    }
}

/// Gathers weights and sums gradients: NCCL's rings over all ranks.
pub(super) struct Collective {
    model: Arc<dyn ExchangeModel>,
    /// Bytes that one token of a rank adds to what all ranks then hold.
    token: f64,
    loads: Vec<(u32, f64)>,
    classes: [f64; 2],
}

impl Collective {
    /// `model` gathers all tokens of all ranks on its way there and sums them on its way back, as
    /// 16-bit vectors of the width of `shape`.
    pub(super) fn new(
        model: Arc<dyn ExchangeModel>,
        shape: &ModelShape,
        hardware: &Hardware,
    ) -> Self {
        let ranks = hardware.ranks();
        let mut copies = Copies::on(hardware);
        (0..ranks).for_each(|rank| copies.add(Rank(rank), [Rank((rank + 1) % ranks)]));
        let mut loads = Vec::new();
        copies.loads_per_rank(hardware.fabric(), Way::Dispatch, &mut loads);
        let token = 2.0 * f64::from(shape.hidden) * f64::from(ranks);
        let classes = work::classes(hardware.fabric(), &loads);
        Self { model, token, loads, classes }
    }

    /// Every rank gets the same `bytes`, of which it has an equal part.
    pub(super) fn gather(&self, bytes: f64) -> Arc<Transfer> {
        self.transfer(bytes, &[Way::Dispatch])
    }

    /// `bytes` of every rank are summed, and every rank gets the sum.
    pub(super) fn sum(&self, bytes: f64) -> Arc<Transfer> {
        self.transfer(bytes, &[Way::Combine, Way::Dispatch])
    }

    fn transfer(&self, bytes: f64, ways: &[Way]) -> Arc<Transfer> {
        let tokens_most = (bytes / self.token).ceil() as u64;
        let traffic = Traffic { tokens_most, ..Traffic::default() };
        let time: f64 = ways.iter().map(|way| self.model.time(*way, &traffic).0 as f64).sum();
        let start: f64 = ways.iter().map(|way| self.model.start(*way).0 as f64).sum();
        let start = start.min(time);
        let (loads, classes) =
            if time > start { (self.loads.clone(), self.classes) } else { (Vec::new(), [0.0; 2]) };
        Arc::new(Transfer { start, busy: time - start, loads, classes })
    }
}

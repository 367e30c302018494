//! A model on GPUs under an engine: what runs of `serve`, `validate` and `tune` are built from.

use std::sync::Arc;

use anyhow::{Context, Result};
use moecast_profiles::cost::exchange::ExchangeModel;
use moecast_profiles::engine::{self, Engine};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_sim::Placement;
use moecast_sim::serving::Layout;
use moecast_sim::serving::service::{Limits, PoolSetting, Role, RoutingSource};

use crate::exchanges;
use crate::facts::{self, Costs};

/// One kind of replica, and its costs.
pub(crate) struct Deployment {
    pub(crate) model: ModelShape,
    pub(crate) engine: Engine,
    /// The machine of one stage of one replica.
    pub(crate) hardware: Hardware,
    pub(crate) layout: Layout,
    pub(crate) costs: Costs,
    exchange: Option<[Arc<dyn ExchangeModel>; 2]>,
}

/// Names that a deployment is made of.
pub(crate) struct Names<'a> {
    pub(crate) model: ModelShape,
    /// Kind of GPU: a hardware preset.
    pub(crate) gpu: &'a str,
    /// GPUs of a node; as the preset's machines are sold where it is 0.
    pub(crate) gpus_per_node: u16,
    pub(crate) engine: &'a str,
    pub(crate) version: &'a str,
    pub(crate) layout: Layout,
    pub(crate) cost: Option<&'a str>,
    pub(crate) profile: Option<&'a str>,
}

impl Deployment {
    pub(crate) fn new(names: Names) -> Result<Self> {
        let Names { model, gpu, layout, .. } = names;
        layout.check(&model)?;
        let engine = engine::find(names.engine)?.at(names.version).clone();
        let hardware = machine(gpu, names.gpus_per_node, &layout)?;
        let costs = facts::costs_of(
            names.cost,
            names.profile,
            &model,
            &hardware,
            names.engine,
            facts::Layout {
                tensor: layout.tensor,
                expert_tensor: layout.expert_tensor,
                experts: layout.expert,
            },
        )?;
        let exchange = layout
            .exchanges()
            .then(|| exchanges::of_engine(&model, &engine, &hardware, costs.read.as_deref()))
            .transpose()?;
        Ok(Self { model, engine, hardware, layout, costs, exchange })
    }

    /// Replicas of this kind.
    pub(crate) fn pool(
        &self,
        role: Role,
        replicas: u16,
        routing: RoutingSource,
        placement: Option<Placement>,
        limits: Limits,
    ) -> PoolSetting {
        PoolSetting {
            role,
            replicas,
            layout: self.layout,
            hardware: self.hardware.clone(),
            kernels: self.costs.kernels.clone(),
            exchange: self.exchange.clone(),
            placement,
            routing,
            limits,
        }
    }
}

/// Whole nodes that hold the ranks of one stage of `layout`.
fn machine(gpu: &str, gpus_per_node: u16, layout: &Layout) -> Result<Hardware> {
    let one = Hardware::from_spec(&format!("{gpu}:1x1"))?;
    let ranks = layout.ranks();
    let node = match gpus_per_node {
        0 => one.device().domain_size.value,
        given => given,
    };
    let node = u32::from(node).min(ranks);
    anyhow::ensure!(
        ranks.is_multiple_of(node),
        "layout: {ranks} GPUs a stage; expected whole nodes of {node} GPUs"
    );
    Hardware::from_spec(&format!("{gpu}:{}x{node}", ranks / node)).context("layout")
}

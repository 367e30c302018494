//! A model on GPUs under an engine: what runs of `serve`, `validate` and `tune` are built from.

use std::sync::Arc;

use anyhow::{Context, Result};
use moecast_profiles::cost::exchange::ExchangeModel;
use moecast_profiles::engine::{self, Engine, Operation, Phase};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::units::Bytes;
use moecast_sim::Placement;
use moecast_sim::serving::Layout;
use moecast_sim::serving::service::{Limits, PoolSetting, Role, RoutingSource};

use crate::exchanges::{self, Exchanges};
use crate::facts::{self, Costs};

/// One kind of replica, and its costs.
pub(crate) struct Deployment {
    pub(crate) model: ModelShape,
    pub(crate) engine: Engine,
    /// The machine of one stage of one replica.
    pub(crate) hardware: Hardware,
    pub(crate) layout: Layout,
    pub(crate) costs: Costs,
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
    /// The only kind of passes that it runs; `None` for both.
    pub(crate) phase: Option<Phase>,
}

impl Deployment {
    pub(crate) fn new(names: Names) -> Result<Self> {
        let Names { model, gpu, layout, .. } = names;
        layout.check(&model)?;
        let engine = engine::find(names.engine)?.at(names.version).clone();
        let hardware = machine(gpu, names.gpus_per_node, &layout)?;
        let exchange = names.phase.filter(|_| layout.exchanges());
        let exchange =
            exchange.map(|phase| engine.backend(Operation::ExpertExchange, phase, Bytes(u64::MAX)));
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
                exchange,
            },
        )?;
        Ok(Self { model, engine, hardware, layout, costs })
    }

    /// What carries tokens to their experts in passes that read prompts (`prefills`) or only
    /// generate: `named`, or the engine's own. None where every rank has all tokens.
    pub(crate) fn exchange(
        &self,
        named: Option<&str>,
        prefills: bool,
    ) -> Result<Option<Arc<dyn ExchangeModel>>> {
        if !self.layout.exchanges() {
            return Ok(None);
        }
        let Self { model, engine, hardware, costs, .. } = self;
        let profile = costs.read.as_deref();
        let [prefill, decode] = match named {
            Some(_) => Exchanges::new(named, model, engine, hardware, profile)?.models,
            None => exchanges::of_engine(model, engine, hardware, profile)?,
        };
        Ok(Some(if prefills { prefill } else { decode }))
    }

    /// Replicas of this kind.
    pub(crate) fn pool(
        &self,
        role: Role,
        replicas: u16,
        routing: RoutingSource,
        placement: Option<Placement>,
        limits: Limits,
    ) -> Result<PoolSetting> {
        let [prefill, decode] = [self.exchange(None, true)?, self.exchange(None, false)?];
        Ok(PoolSetting {
            role,
            replicas,
            layout: self.layout,
            hardware: self.hardware.clone(),
            kernels: self.costs.kernels.clone(),
            exchange: prefill.zip(decode).map(|(prefill, decode)| [prefill, decode]),
            placement,
            routing,
            limits,
        })
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

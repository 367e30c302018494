//! The machine that predictions of a plan are made on.

use anyhow::Result;
use moecast_profiles::engine::Engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_sim::Setting;

use crate::cli;
use crate::exchanges::Exchanges;
use crate::facts;

/// Context assumed in predictions where a recording does not know it, tokens.
const CONTEXT_ASSUMED: u32 = 2_048;

/// The machine of the predictions; absent without a model and a cluster.
pub(super) fn setting(
    (model, hardware): (Option<&ModelShape>, Option<&Hardware>),
    engine: &Engine,
    arguments: &cli::Plan,
    seed: Seed,
) -> Result<Option<(Setting, Exchanges)>> {
    let (Some(model), Some(hardware)) = (model, hardware) else { return Ok(None) };
    let costs = facts::costs(None, None, model, hardware, &engine.name)?;
    let (name, read) = (arguments.exchange.as_deref(), costs.read.as_deref());
    let exchanges = Exchanges::new(name, model, engine, hardware, read)?;
    let setting = Setting {
        model: model.clone(),
        hardware: hardware.clone(),
        engine: engine.clone(),
        cost: costs.kernels,
        exchange: exchanges.models.clone(),
        context_assumed: CONTEXT_ASSUMED,
        seed,
    };
    Ok(Some((setting, exchanges)))
}

//! What carries tokens to their experts: by name, or as the engine does it.

use std::sync::Arc;

use anyhow::{Context, Result};
use moecast_profiles::cost::Known;
use moecast_profiles::cost::exchange::{self, Entry, ExchangeModel, Setting};
use moecast_profiles::engine::{Engine, Operation, Phase};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::profile::Profile;
use moecast_profiles::units::Bytes;

/// What stands in for an engine's kernels where they do not reach over the network: TensorRT-LLM
/// gathers then. Assumed for other engines.
const FALLBACK: &str = "all-gather-reduce-scatter";

/// Exchanges of passes that read prompts and of those that only generate.
pub(crate) struct Exchanges {
    entries: [&'static Entry; 2],
    pub(crate) models: [Arc<dyn ExchangeModel>; 2],
    /// The engine's own, where another stands in for it, and why.
    instead_of: Option<(&'static str, String)>,
}

fn setting<'a>(
    model: &'a ModelShape,
    engine: &Engine,
    hardware: &'a Hardware,
    profile: Option<&'a Profile>,
) -> Setting<'a> {
    Setting {
        hardware,
        model,
        dispatch_type: engine.dispatch_type.value,
        combine_type: engine.combine_type.value,
        profile,
    }
}

/// The engine's own, by phase.
fn own(engine: &Engine) -> [&'static Entry; 2] {
    let of = |phase| {
        exchange::of_backend(engine.backend(Operation::ExpertExchange, phase, Bytes(u64::MAX)))
    };
    [of(Phase::Prefill), of(Phase::Decode)]
}

/// What `engine` itself does; the error says what does not fit the machine.
pub(crate) fn of_engine(
    model: &ModelShape,
    engine: &Engine,
    hardware: &Hardware,
    profile: Option<&Profile>,
) -> Result<[Arc<dyn ExchangeModel>; 2]> {
    let setting = setting(model, engine, hardware, profile);
    let [prefill, decode] = own(engine);
    Ok([(prefill.build)(&setting)?, (decode.build)(&setting)?])
}

impl Exchanges {
    /// The one called `name` in both phases; without a name what `engine` does, or its stand-in
    /// where that does not fit the machine.
    pub(crate) fn new(
        name: Option<&str>,
        model: &ModelShape,
        engine: &Engine,
        hardware: &Hardware,
        profile: Option<&Profile>,
    ) -> Result<Self> {
        let setting = setting(model, engine, hardware, profile);
        if let Some(name) = name {
            let entry = exchange::find(name)?;
            let built = (entry.build)(&setting).context("--exchange")?;
            let models = [Arc::clone(&built), built];
            return Ok(Self { entries: [entry; 2], models, instead_of: None });
        }
        let mut instead_of = None;
        let mut entries = own(engine);
        let mut build = |entry: &mut &'static Entry| match (entry.build)(&setting) {
            Ok(model) => Ok(model),
            Err(error) => {
                instead_of = Some((entry.name, error.to_string()));
                *entry = exchange::find(FALLBACK)?;
                Ok::<_, anyhow::Error>((entry.build)(&setting)?)
            }
        };
        let models = [build(&mut entries[0])?, build(&mut entries[1])?];
        Ok(Self { entries, models, instead_of })
    }

    /// How their times are known, a line for each.
    pub(crate) fn known(&self) -> Vec<Known> {
        let mut lines: Vec<Known> = Vec::new();
        for (entry, model) in self.entries.iter().zip(&self.models) {
            let named = |known: Known| Known {
                kernel: format!("{} ({})", known.kernel, entry.name),
                ..known
            };
            let new: Vec<Known> = model.known().into_iter().map(named).collect();
            if lines.iter().all(|line| line.kernel != new[0].kernel) {
                lines.extend(new);
            }
        }
        lines
    }

    /// What a reader must know.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let [prefill, decode] = self.entries.map(|entry| entry.name);
        let mut remarks = vec![if prefill == decode {
            format!("exchanges: {decode}")
        } else {
            format!("exchanges: {prefill} in steps that read prompts, {decode} in the others")
        }];
        if let Some((name, why)) = &self.instead_of {
            remarks.push(format!("exchanges: not {name}, which the engine would use: {why}"));
        }
        if self.models.iter().any(|model| model.stays()) {
            remarks.push(
                "tokens stay with their experts: attention is still dealt evenly to the GPUs"
                    .to_owned(),
            );
        }
        if self.models.iter().any(|model| model.gathers()) {
            remarks.push(
                "every GPU gets all tokens: a placement cannot change what this exchange sends"
                    .to_owned(),
            );
        }
        remarks
    }
}
